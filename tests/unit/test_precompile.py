"""What the image compiles: the modules that our files import, at their top or inside a function."""

from __future__ import annotations

from pathlib import Path

from cli.precompile import PACKAGES, imported_names
from tests.architecture.sources import ROOT


def test_imports_inside_functions_are_found_and_those_of_neighbours_are_not(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "import numpy.linalg\nfrom . import two\n\n\ndef late():\n    from scipy import stats\n", encoding="utf-8"
    )
    assert set(imported_names(tmp_path)) == {"numpy.linalg", "scipy", "scipy.stats"}


def test_each_package_of_the_image_is_compiled() -> None:
    copied = {
        line.split()[1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "/app/" in line and "--from" not in line
    }
    assert copied == set(PACKAGES)
