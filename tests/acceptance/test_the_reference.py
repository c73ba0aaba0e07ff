"""The examples in the docstrings of the documented entry points, on the whole stack."""

from __future__ import annotations

import pytest

from tests.support.docstrings import SERVED
from tests.support.notebook import Notebook


@pytest.mark.parametrize("module", SERVED)
def test_the_examples_of_an_entry_point_give_what_they_say(notebook: Notebook, module: str) -> None:
    notebook.run("import doctest, importlib")
    said = notebook.run(f"found = doctest.testmod(importlib.import_module({module!r}))")
    failed, attempted = notebook.value("[found.failed, found.attempted]")
    assert (failed, attempted > 0) == (0, True), said
