"""One strategy's story under one time axis."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest

from tests.support.admin import Browser
from tests.support.checks import checked
from tests.support.ledgers import decision_for
from tests.support.live_scores import made_up_scores, scored, trading_days
from tests.support.model_pages import champion, trained, words
from tests.support.services import FakeServices

PAGE = "/admin/strategies/growth"
FIRST = date(2025, 6, 2)
LAST = FIRST + timedelta(days=100)


@pytest.fixture
def lived(services: FakeServices) -> dict[str, str]:
    """Two champions, a training that none became of, a check that drifted, and predictions; runs by what they did."""
    runs = {"drifted": checked(services.ledger, "growth", LAST, "drifted", share=0.6, p_value=0.004)}
    checked(services.ledger, "growth", FIRST, p_value=0.7)
    runs["first"] = champion(services, "1", as_of=FIRST)
    runs["trained"] = trained(services, "2", as_of=FIRST + timedelta(days=30))
    runs["second"] = champion(services, "3", as_of=FIRST + timedelta(days=60))
    scored(services, {"1": made_up_scores(trading_days(FIRST, 43))})
    return runs


def test_a_strategy_without_a_past_says_what_to_do(viewer: Browser) -> None:
    page = words(viewer.get(PAGE).text)
    for part in ("No version has been champion", "Nothing was trained or decided", "no check", "Nothing is predicted."):
        assert part in page
    assert viewer.get("/admin/strategies/nobody").status_code == 404


def test_all_of_it_stands_under_one_axis_that_ends_with_the_data(lived: dict[str, str], viewer: Browser) -> None:
    story = viewer.json(PAGE)
    assert story["axis"] == {"first": FIRST.isoformat(), "last": LAST.isoformat()}
    assert [(band["version"], band["last"]) for band in story["champions"]] == [("1", "2025-07-31"), ("3", None)]
    assert [(mark["outcome"], mark["version"]) for mark in story["marks"]] == [
        ("promoted", "1"),
        ("trained", "2"),
        ("promoted", "3"),
    ]
    assert [bar["check"]["verdict"] for bar in story["checks"]] == ["stable", "drifted"]
    assert [one["version"] for one in story["series"]] == ["1"]


def test_every_mark_leads_to_its_run_and_says_in_words_what_it_shows(lived: dict[str, str], viewer: Browser) -> None:
    page = viewer.get(PAGE).text
    marks = dict(re.findall(r'<a href="([^"]+)" class="(?:mark|bar|band)[^"]*" aria-label="([^"]+)"', page))
    assert "Version 1 from 2025-06-02 to 2025-07-31" in page
    assert marks[f"/admin/runs/{lived['trained']}"] == "2025-07-02: version 2 trained"
    assert marks[f"/admin/drift/reports/{lived['drifted']}"] == (
        "2025-09-10: drifted, p 0.004, 60% of the features moved"
    )
    assert f"/admin/runs/{lived['second']}" in marks


def test_fewer_days_show_what_lies_within_them(lived: dict[str, str], viewer: Browser) -> None:
    story = viewer.json(f"{PAGE}?days=90")
    assert story["axis"]["first"] == (LAST - timedelta(days=89)).isoformat()
    assert [mark["version"] for mark in story["marks"]] == ["2", "3"]
    # The champion of before is seen until it was replaced.
    assert [band["version"] for band in story["champions"]] == ["1", "3"]
    assert viewer.json(f"{PAGE}?days=all")["axis"]["first"] == FIRST.isoformat()
    assert viewer.get(f"{PAGE}?days=7").status_code == 422
    assert 'aria-current="page">90 days' in viewer.get(f"{PAGE}?days=90").text


def test_it_is_reached_from_the_overview_the_drift_and_the_model(services: FakeServices, viewer: Browser) -> None:
    for path in ("/admin/", "/admin/drift/strategies/growth", "/admin/registry/models/growth", "/admin/live/growth"):
        assert f'href="{PAGE}"' in viewer.get(path).text, path
    assert re.search(r'<a href="/admin/" aria-current="page">', viewer.get(PAGE).text)


def test_the_day_since_which_the_champion_has_decayed_is_marked(services: FakeServices, viewer: Browser) -> None:
    days = made_up_scores(trading_days(FIRST, 60))
    scored(services, {"1": days}, document={"headline": {"value": None, "decayed_on": "2025-07-15"}})
    for path in (PAGE, "/admin/live/growth"):
        assert "the champion has decayed since 2025-07-15" in words(viewer.get(path).text), path
        assert viewer.get(path).text.count('<line class="decayed"') == 1, path


def test_what_a_person_wrote_is_escaped_in_the_picture(services: FakeServices, viewer: Browser) -> None:
    decision = decision_for("1", reasons=("<script>alert(1)</script>",), decision="manual")
    services.ledger.record_transition("growth", decision)
    assert "<script>alert" not in viewer.get(PAGE).text
