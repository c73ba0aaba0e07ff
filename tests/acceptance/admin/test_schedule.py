"""Scheduled jobs are paused and resumed, and beat follows; one is run now, another's time is tried and set."""

from __future__ import annotations

from datetime import UTC, datetime

from playwright.sync_api import expect

from tests.support.chromium import Visitor
from tests.support.served_stack import ServedStack, wait_for

TAKEN_OVER_S = 30.0


def enabled(stack: ServedStack, key: str) -> bool:
    return next(entry.enabled for entry in stack.services.ledger.schedule() if entry.key == key)


def cron(stack: ServedStack, key: str) -> str:
    return next(entry.cron for entry in stack.services.ledger.schedule() if entry.key == key)


def test_a_schedule_is_paused_and_resumed_and_beat_follows(stack: ServedStack, operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/schedule?q=growth&job=drift_check")
    row = page.get_by_role("row", name="growth")
    row.get_by_role("button", name="pause").click()
    operator.sure()
    expect(page.get_by_role("status")).to_contain_text("The drift check of growth is paused")
    expect(page).to_have_url(f"{operator.home}/admin/schedule?q=growth&job=drift_check")
    expect(row.locator(".badge", has_text="paused")).to_be_visible()
    wait_for(lambda: not enabled(stack, "growth:drift_check"), "beat pauses it", within_s=TAKEN_OVER_S)
    row.get_by_role("button", name="resume").click()
    expect(page.get_by_role("status")).to_contain_text("goes on with its next time")
    wait_for(lambda: enabled(stack, "growth:drift_check"), "beat resumes it", within_s=TAKEN_OVER_S)
    actions = [line.action for line in stack.services.ledger.audit_lines()]
    assert {"schedule.pause", "schedule.resume"} <= set(actions)


def test_the_next_time_is_said_in_utc_and_in_the_browsers_zone(operator: Visitor) -> None:
    """The browser of these tests is in Berlin, an hour or two before UTC."""
    page = operator.page
    operator.go("/admin/schedule/growth/retrain")
    local = page.locator("main p time[data-local]").first
    at = datetime.fromisoformat(local.get_attribute("datetime") or "")
    assert at.tzinfo == UTC
    said = page.evaluate(
        "at => new Date(at).toLocaleString(undefined, {dateStyle: 'medium', timeStyle: 'short'})", at.isoformat()
    )
    expect(local).to_have_text(said)
    assert f"{at:%H:%M}" not in said


def test_another_time_is_previewed_while_one_types_set_and_taken_back(stack: ServedStack, operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/schedule/value/drift_check")
    field = page.get_by_label("Cron, in UTC")
    field.fill("30 6 * * 9")
    expect(page.locator("#preview").get_by_role("alert")).to_contain_text("weekday '9' is not 0 to 6")
    field.fill("30 6 * * mon-fri")
    expect(page.locator("#preview")).to_contain_text("At 06:30 UTC, Monday through Friday")
    expect(page.locator("#preview tbody tr")).to_have_count(5)
    page.locator("#job-form").get_by_label("Why").fill("prices come later")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("schedule.drift_check = 30 6 * * mon-fri")
    wait_for(lambda: cron(stack, "value:drift_check") == "30 6 * * mon-fri", "beat has it", within_s=TAKEN_OVER_S)
    page.get_by_label("Why schedule.drift_check is taken back").fill("they do not")
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_role("status")).to_contain_text("as the strategies file has it")
    file_has = stack.services.strategies["value"].schedule.drift_check
    wait_for(lambda: cron(stack, "value:drift_check") == file_has, "beat has the file's", within_s=TAKEN_OVER_S)


def test_a_job_is_run_now(stack: ServedStack, operator: Visitor) -> None:
    stack.rest()
    page = operator.page
    operator.go("/admin/schedule?q=dividend&job=drift_check")
    page.get_by_role("button", name="run now").click()
    operator.sure()
    expect(page.get_by_role("heading", level=1)).to_contain_text("pipeline of dividend")
    expect(page.locator("h1 .badge")).not_to_have_text("queued", timeout=60_000)


def test_a_viewer_reads_the_timetable_and_changes_nothing(viewer: Visitor) -> None:
    viewer.go("/admin/schedule")
    expect(viewer.page.get_by_role("row", name="growth").first).to_be_visible()
    expect(viewer.page.get_by_role("button", name="pause")).to_have_count(0)
    assert viewer.faults_of_access() == []
