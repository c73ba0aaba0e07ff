"""Addresses as they are shown: no password of any form is left in a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.addresses import without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:5000", "http://host:5000"),
        ("https://user:pass@host:5000/path", "https://host:5000/path"),
        (
            "API request to http://u:p@host/api failed with http://v:q@other",
            "API request to http://host/api failed with http://other",
        ),
        ("https://token@host", "https://host"),
        ("https://u:p@ss/w@host", "https://host"),
        ("sqlite:///folder/mlflow.db", "sqlite:///folder/mlflow.db"),
        ("models:/growth@champion", "models:/growth@champion"),
        ("/folder/mlruns", "/folder/mlruns"),
    ],
)
def test_what_is_shown_of_an_address(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@given(st.text(st.characters(categories=["L", "N", "P"], exclude_characters="'\""), min_size=1))
def test_no_password_without_spaces_is_left(password: str) -> None:
    assert without_credentials(f"at https://user:{password}@host:1/x: refused") == "at https://host:1/x: refused"
