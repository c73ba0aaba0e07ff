"""Examples in docstrings give what they say; those that need servers are run in tests/acceptance."""

from __future__ import annotations

import pytest

from tests.support.docstrings import SERVED, failures, with_examples


@pytest.mark.parametrize("module", [name for name in with_examples() if name not in SERVED])
def test_the_examples_of_a_docstring_give_what_they_say(module: str) -> None:
    assert failures(module) == ""


def test_every_documented_entry_point_has_an_example() -> None:
    assert set(SERVED) <= set(with_examples())
