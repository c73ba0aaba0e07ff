"""Drift is checked, watched and read; a rule is tried on what was, set, and taken back."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from mlops.domain.records import Kind
from tests.acceptance.conftest import SECOND, STRATEGIES, Demo
from tests.support.chromium import Visitor
from tests.support.served_stack import ServedStack

CHECKED_MS = 90_000
"""A check of the sample takes a second; the machine may be shared."""


def test_drift_is_checked_watched_and_its_report_appears_by_itself(stack: ServedStack, operator: Visitor) -> None:
    stack.rest()
    page = operator.page
    operator.go("/admin/drift")
    page.get_by_label("Choose growth").check()
    page.get_by_role("button", name="Check the chosen").click()
    expect(page.get_by_role("status")).to_contain_text("The check has begun.")
    page.evaluate("window.stays = true")
    frame = page.frame_locator("iframe.report")
    expect(frame.get_by_role("heading", level=1)).to_contain_text("growth", timeout=CHECKED_MS)
    expect(page.locator("h1 .badge")).to_have_text(re.compile("drifted|stable|insufficient"))
    assert page.evaluate("window.stays") is True
    assert operator.faults_of_access() == []


def test_the_reports_own_script_works_in_the_frame_and_reaches_nothing_of_the_page(
    demo: Demo, operator: Visitor
) -> None:
    page = operator.page
    operator.go(f"/admin/drift/reports/{demo.of_pass(SECOND)['growth'].run_id}")
    handle = page.locator("iframe.report").element_handle()
    assert handle is not None
    frame = handle.content_frame()
    assert frame is not None
    frame.wait_for_load_state()
    assert frame.evaluate("window.origin") == "null"
    assert frame.evaluate("try { parent.document.title } catch (refused) { refused.name }") == "SecurityError"
    search = frame.get_by_role("searchbox").or_(frame.locator("input[type=search]")).first
    found = frame.locator("#found")
    before = found.inner_text()
    search.fill("volatility")
    expect(found).not_to_have_text(before)
    shown, of = found.inner_text().split(" of ")
    assert 0 < int(shown) < int(of)


def test_all_strategies_are_checked_and_their_progress_is_counted(stack: ServedStack, operator: Visitor) -> None:
    stack.rest()
    page = operator.page
    operator.go("/admin/drift")
    page.get_by_role("button", name=f"Check all {len(STRATEGIES)}").click()
    operator.sure()
    expect(page).to_have_url(re.compile("/admin/drift/checks"))
    page.evaluate("window.stays = true")
    done = page.get_by_text(f"{len(STRATEGIES)} of {len(STRATEGIES)}")
    expect(done).to_be_visible(timeout=CHECKED_MS)
    assert page.evaluate("window.stays") is True
    expect(page.get_by_role("link", name="report of growth")).to_be_visible()
    newest = stack.services.ledger.run_lines(kinds=[Kind.CHECK], limit=len(STRATEGIES))
    assert {line.strategy for line in newest} == set(STRATEGIES)


def test_a_threshold_is_previewed_while_one_types_set_and_taken_back(stack: ServedStack, operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/drift/strategies/momentum")
    chosen = page.locator("#preview tr.chosen")
    expect(chosen).to_be_visible()
    drifted = int(chosen.locator("td").first.inner_text())
    page.get_by_label("Rule", exact=True).select_option("raw")
    page.get_by_label("Alert threshold", exact=True).fill("0.01")
    expect(chosen.locator("th")).to_have_text("these values, rule raw")
    n_checks = len(stack.services.ledger.recent_checks(["momentum"], limit=90)["momentum"])
    expect(chosen.locator("td").first).to_have_text(str(n_checks))
    assert drifted <= n_checks
    page.get_by_label("Why", exact=True).fill("a look at what it does")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("#confirm-more tr.chosen")).to_contain_text("rule raw")
    operator.sure()
    expect(page.get_by_role("status")).to_contain_text("drift.alert_share = 0.01")
    expect(page.get_by_label("Alert threshold", exact=True)).to_have_value("0.01")
    expect(page.locator("#of-alert_share")).to_contain_text("a look at what it does")
    assert stack.services.policies["momentum"].drift.rule == "raw"
    for path in ("drift.alert_share", "drift.rule"):
        page.get_by_label(f"Why {path} is taken back").fill("it was a test")
        page.get_by_label(f"Why {path} is taken back").locator("xpath=..").get_by_role("button").click()
        expect(page.get_by_role("status")).to_contain_text(f"{path} of momentum is as the strategies file has it")
    assert stack.services.policies["momentum"].drift.rule == stack.services.strategies["momentum"].drift.rule


def test_a_value_that_does_not_fit_is_said_while_one_types(operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/drift/strategies/value")
    page.get_by_label("Drifted checks before a retraining").fill("3")
    expect(page.locator("#preview").get_by_role("alert")).to_contain_text("at most persistence_window")


def test_the_heat_map_is_walked_with_the_arrow_keys(operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/drift/heatmap?days=90")
    cells = page.locator("table[data-grid] td a")
    assert cells.count() > 1
    assert page.locator("table[data-grid] td a[tabindex='0']").count() == 1
    cells.first.focus()
    page.keyboard.press("ArrowDown")
    below = page.locator("table[data-grid] tbody tr").nth(1).locator("td a").first
    expect(below).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/admin/drift/reports/"))


def test_reports_are_found_while_one_types_and_a_viewer_may_read_them(viewer: Visitor) -> None:
    page = viewer.page
    viewer.go("/admin/drift/reports")
    page.get_by_label("Search a strategy").fill("dividend")
    expect(page.get_by_role("row", name="growth")).to_have_count(0)
    page.locator("tbody th a").first.click()
    expect(page.frame_locator("iframe.report").get_by_role("heading", level=1)).to_contain_text("dividend")
    viewer.go("/admin/drift")
    expect(page.get_by_role("button", name="Check")).to_have_count(0)
