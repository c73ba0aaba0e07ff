"""The search for secrets finds one that was planted, in every form and place; otherwise a clean result says nothing."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.secret_scan import SecretScan

SECRET = "correct/horse battery+staple"
SCAN = SecretScan({"the password": SECRET})


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://acis:{SECRET}@localhost",
        f"postgresql://acis:{quote(SECRET, safe='')}@localhost",
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        json.dumps({"body": base64.b64encode(json.dumps([[], {"x": SECRET}, {}]).encode()).decode()}),
        f"\\x{SECRET.encode().hex()}",
    ],
)
def test_a_planted_secret_is_found_in_every_form(text: str) -> None:
    assert list(SCAN.look(text.encode(), "here"))
    assert list(SCAN.look(gzip.compress(text.encode()), "here"))


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_secret_in_base64_is_found_wherever_it_stands(before: bytes, after: bytes) -> None:
    assert list(SCAN.look(base64.b64encode(before + SECRET.encode() + after), "here"))


@given(st.binary(max_size=200))
def test_other_bytes_are_no_secret(content: bytes) -> None:
    assert not list(SCAN.look(base64.b64encode(content), "here"))


def test_files_and_their_names_are_looked_into_but_for_those_that_hold_secrets_by_design(tmp_path: Path) -> None:
    scan = SecretScan({"the token": "acis_0123456789"})
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.log").write_text("token acis_0123456789")
    (tmp_path / "acis_0123456789.txt").touch()
    (tmp_path / "secrets.json").write_text("acis_0123456789")
    assert len(list(scan.files(tmp_path, but=[tmp_path / "secrets.json"]))) == 2
