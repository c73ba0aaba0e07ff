"""The documentation's drawings are those of their sources, and a link that leads nowhere is found."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mlops.domain.run_states import RUN_TRANSITIONS
from tests.architecture.sources import ROOT
from tests.support.site import Site, main

spec = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "draw.py")
assert spec
assert spec.loader
draw = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw)


@pytest.mark.parametrize("name", draw.sources())
def test_a_drawing_is_that_of_its_source(name: str, tmp_path: Path) -> None:
    draw.draw(draw.sources()[name], tmp_path / "drawn.svg")
    kept = (ROOT / "docs/images/drawings" / f"{name}.svg").read_text(encoding="utf-8")
    assert (tmp_path / "drawn.svg").read_text(encoding="utf-8") == kept, "draw it anew with: make drawings"


def test_every_drawing_has_a_source() -> None:
    drawn = {path.stem for path in (ROOT / "docs/images/drawings").iterdir()}
    assert drawn == set(draw.sources())


def test_every_transition_of_a_run_is_drawn() -> None:
    text = draw.sources()["run-states"]
    for (state, event), target in RUN_TRANSITIONS.items():
        arrows = (f"{state.value} -> {target.value}: ", f"{target.value} <- {state.value}: ")
        (found,) = [line for line in text.splitlines() if line.startswith(arrows)]
        assert event.value.replace("_", " ") in found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="more/page.html#there">x</a><a href="https://elsewhere.example/x">y</a>'
    )
    (tmp_path / "more" / "page.html").write_text('<h2 id="there">x</h2><a href="../">up</a><img src="a%20b.svg">')
    (tmp_path / "more" / "a b.svg").write_text("<svg/>")
    return tmp_path


def test_a_site_whose_links_lead_somewhere_is_whole(site: Path) -> None:
    assert Site(folder=site).broken() == []
    assert main([str(site)]) == 0


@pytest.mark.parametrize(
    "target", ["more/none.html", "more/page.html#gone", "#gone", "more/none.svg", "../outside.html", "more/"]
)
def test_a_link_that_leads_nowhere_is_named_with_its_page(site: Path, target: str) -> None:
    (site.parent / "outside.html").write_text("x")
    (site / "index.html").write_text(f'<a href="{target}">x</a>')
    assert f"index.html: {target}" in Site(folder=site).broken()
    assert main([str(site)]) == 1


def test_a_folder_without_pages_is_no_site(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1
