"""A strategy's story, live performance and experiment in a real browser: keyboard, ranges, phone, dark, no layout shift."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, expect

from devstack.ports import choose_port
from tests.support.admin import PASSWORD
from tests.support.checks import checked
from tests.support.chromium import DESK, PHONE, chromium, visitor
from tests.support.experiments import begun, looked_at
from tests.support.live_scores import made_up_scores, scored, trading_days
from tests.support.model_pages import champion, trained
from tests.support.services import FakeServices
from tests.support.waiting import wait_for

FIRST = date(2025, 6, 2)
STORY, LIVE, TRIED = "/admin/strategies/growth", "/admin/live/growth", "/admin/experiments/growth"
LOOKS: dict[str, dict[str, Any]] = {
    "desk": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": PHONE, "has_touch": True},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Skipped, or failed, without one on the machine."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def home(browser: Browser, app: FastAPI, services: FakeServices) -> Iterator[str]:
    """The page, served, with a strategy that has lived for half a year."""
    days = trading_days(FIRST, 120)
    for place in range(0, 120, 10):
        drifted = place == 100
        checked(services.ledger, "growth", days[place], "drifted" if drifted else "stable", p_value=0.004 + 0.3 * place)
    for version, place in (("1", 0), ("2", 60)):
        trained(services, version, as_of=days[place] - timedelta(days=1))
        champion(services, version, as_of=days[place])
    scores = {"1": made_up_scores(days[:60]), "2": made_up_scores(days[60:], seed=2, ripe=40)}
    scored(services, scores, document={"headline": {"value": None}})
    looked_at(services, begun(services, "3"), 34)
    port = choose_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, "the page is served", within_s=30.0)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


@pytest.mark.parametrize("look", list(LOOKS))
def test_the_pages_have_no_barrier_fit_the_window_and_move_nothing(browser: Browser, home: str, look: str) -> None:
    with visitor(browser, home, **LOOKS[look]) as found:
        found.sign_in("anna", PASSWORD)
        found.page.add_init_script(
            "window.moved = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) => {"
            " window.moved += one.value; })).observe({type: 'layout-shift', buffered: true});"
        )
        for path in (STORY, LIVE, "/admin/live", TRIED, f"{TRIED}/route?keys=AAPL", "/admin/experiments"):
            found.go(path)
            assert found.faults_of_access() == [], path
            width = found.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert width <= 0, path
            assert found.page.evaluate("window.moved") < 0.01, path


def test_the_story_is_read_with_the_keyboard_and_each_mark_leads_to_its_run(browser: Browser, home: str) -> None:
    with visitor(browser, home) as found:
        found.sign_in("anna", PASSWORD)
        found.go(STORY)
        page = found.page
        bars = page.locator("svg[data-lane] a.bar")
        # One stop for the tab key in each picture, at the newest.
        expect(page.locator("svg[data-lane] a[tabindex='0']")).to_have_count(3)
        bars.last.focus()
        page.keyboard.press("ArrowLeft")
        expect(bars.nth(10)).to_be_focused()
        page.keyboard.press("Home")
        expect(bars.first).to_be_focused()
        page.keyboard.press("End")
        page.keyboard.press("ArrowRight")
        expect(bars.last).to_be_focused()
        marks = page.locator("svg[data-lane] a.mark")
        marks.last.focus()
        page.keyboard.press("ArrowLeft")
        address = marks.nth(2).get_attribute("href")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{home}{address}")
        expect(page.get_by_role("heading", level=1)).to_contain_text("growth")


def test_a_range_link_shows_fewer_days_and_keeps_the_chosen_metric(browser: Browser, home: str) -> None:
    with visitor(browser, home) as found:
        found.sign_in("anna", PASSWORD)
        found.go(f"{STORY}?metric=accuracy")
        page = found.page
        expect(page.locator("a.bar")).to_have_count(12)
        page.get_by_role("link", name="90 days").click()
        expect(page).to_have_url(f"{home}{STORY}?metric=accuracy&days=90")
        assert page.locator("a.bar").count() < 12
        expect(page.get_by_role("heading", name="Live performance: Accuracy")).to_be_visible()


def test_a_metric_is_chosen_without_loading_the_page_anew(browser: Browser, home: str) -> None:
    with visitor(browser, home) as found:
        found.sign_in("anna", PASSWORD)
        found.go(LIVE)
        found.page.evaluate("window.stays = true")
        found.page.get_by_label("Metric").select_option("log_loss")
        expect(found.page.get_by_role("heading", name="Log loss by version")).to_be_visible()
        assert found.page.evaluate("window.stays") is True
