"""Scheduled jobs: when they come, what came of them, and pausing, running and editing them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops.domain.policies import SchedulePolicy
from mlops.domain.records import Kind, RunState
from mlops.strategies.file import Strategies
from tests.support.admin import Browser
from tests.support.ledgers import request_for
from tests.support.services import FakeServices, small_strategy
from worker.timetable import sync_timetable

CHECK = "/admin/schedule/growth/drift_check"


def several(services: FakeServices, **schedules: SchedulePolicy) -> None:
    found = {name: small_strategy(name, schedule=policy) for name, policy in schedules.items()}
    vars(services)["strategies"] = Strategies(found)
    sync_timetable(services)


def begun(services: FakeServices) -> None:
    """Beat has taken the policies over, and begins now."""
    sync_timetable(services)
    for entry in services.ledger.schedule():
        services.ledger.timetable_begins(entry.key, services.ledger.now())


def rows(browser: Browser, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.json(f"/admin/schedule{query}")["list"]["rows"]
    return found


def edits(services: FakeServices) -> list[tuple[str, Any]]:
    return [(edit.path, edit.value) for edit in services.ledger.policy_edits()]


def test_each_strategy_has_two_jobs_in_words_in_cron_and_with_their_next_time(
    services: FakeServices, viewer: Browser
) -> None:
    services.with_policy(schedule=SchedulePolicy(spread_minutes=0))
    begun(services)
    page = viewer.get("/admin/schedule").text
    assert "At 03:00 UTC <code" in page
    assert "0 4 * * 0" in page
    assert "At 04:00 UTC, only on Sunday" in page
    check, retrain = rows(viewer)
    now = services.ledger.now()
    today = now.replace(hour=3, minute=0, second=0, microsecond=0)
    assert datetime.fromisoformat(check["next_at"]) == (today if today > now else today + timedelta(days=1))
    assert datetime.fromisoformat(retrain["next_at"]).isoweekday() == 7
    assert f'<time datetime="{check["next_at"]}" data-local>' in page


def test_the_last_run_of_a_job_is_shown_with_what_came_of_it(services: FakeServices, viewer: Browser) -> None:
    slot = datetime(2026, 3, 2, 3, tzinfo=UTC).isoformat()
    run_id = services.ledger.accept(request_for(slot=slot)).run_id
    services.ledger.cancel(run_id, actor="anna")
    page = viewer.get("/admin/schedule").text
    assert f'<a href="/admin/runs/{run_id}">' in page
    assert '<span class="badge calm">cancelled</span>' in page
    assert "cancelled by anna before it ran" in page
    services.timed.advance(60)
    by_hand = services.ledger.accept(request_for()).run_id
    page = viewer.get("/admin/schedule").text
    assert f'<a href="/admin/runs/{by_hand}">' in page
    assert run_id not in page


def test_jobs_are_searched_filtered_sorted_and_paged_on_the_server(services: FakeServices, viewer: Browser) -> None:
    several(services, **{f"s{number:03}": SchedulePolicy() for number in range(60)}, off=SchedulePolicy(retrain=""))
    begun(services)
    services.ledger.edit_policy("s007", "schedule.paused", ["retrain"], actor="anna", reason="a")
    found = viewer.json("/admin/schedule")
    assert (found["list"]["n_found"], found["list"]["n_pages"]) == (122, 3)
    assert found["totals"] == {"on": 120, "paused": 1, "not scheduled": 1}
    assert [row["strategy"] for row in rows(viewer, "?state=paused")] == ["s007"]
    assert [row["word"] for row in rows(viewer, "?state=not+scheduled")] == ["retrain"]
    assert {row["word"] for row in rows(viewer, "?job=retrain")} == {"retrain"}
    assert len(rows(viewer, "?q=s01")) == 20
    times = [row["next_at"] for row in rows(viewer, "?sort=next")]
    assert times == sorted(times)
    assert viewer.get("/admin/schedule?state=nonsense").status_code == 422


def test_a_job_is_paused_and_resumed_by_edits_of_the_policy(services: FakeServices, operator: Browser) -> None:
    begun(services)
    said = operator.post(f"{CHECK}/pause", reason="the feature store moves", follow=True).text
    assert "The drift check of growth is paused" in said
    assert "beat takes it over" in said
    assert edits(services) == [("schedule.paused", ["drift_check"])]
    check, retrain = rows(operator)
    assert (check["is_paused"], check["next_at"], retrain["is_paused"]) == (True, None, False)
    sync_timetable(services)
    assert {entry.key: entry.enabled for entry in services.ledger.schedule()} == {
        "growth:drift_check": False,
        "growth:retrain": True,
    }
    assert operator.post(f"{CHECK}/pause").status_code == 422
    operator.post("/admin/schedule/growth/retrain/pause")
    operator.post(f"{CHECK}/resume")
    assert edits(services)[-1] == ("schedule.paused", ["retrain"])
    actions = [(line.action, line.subject) for line in services.ledger.audit_lines()]
    assert actions[:4] == [
        ("schedule.resume", "growth/drift_check"),
        ("schedule.pause", "growth/retrain"),
        ("schedule.pause", "growth/drift_check"),  # refused: it was paused already
        ("schedule.pause", "growth/drift_check"),
    ]


def test_after_a_pause_one_is_where_one_was(operator: Browser) -> None:
    operator.client.headers["referer"] = "http://page/admin/schedule?q=growth&page=2"
    assert operator.post(f"{CHECK}/pause").headers["location"] == "/admin/schedule?q=growth&page=2"
    operator.client.headers["referer"] = "http://elsewhere.example/page/admin/schedule"
    assert operator.post(f"{CHECK}/resume").headers["location"] == "/admin/schedule"


@pytest.mark.parametrize(("word", "kind"), [("drift_check", Kind.PIPELINE), ("retrain", Kind.RETRAIN)])
def test_run_now_opens_what_the_job_would_open(
    services: FakeServices, operator: Browser, word: str, kind: Kind
) -> None:
    answer = operator.post(f"/admin/schedule/growth/{word}/run")
    (run,) = services.ledger.runs(limit=5)
    assert answer.headers["location"] == f"/admin/runs/{run.run_id}"
    assert (run.kind, run.requested_by, run.slot, run.state) == (kind, "anna", None, RunState.QUEUED)
    assert operator.post(f"/admin/schedule/growth/{word}/run").headers["location"] == answer.headers["location"]
    assert len(services.ledger.runs(limit=5)) == 1


def test_another_cron_is_previewed_with_its_next_five_times(viewer: Browser) -> None:
    found = viewer.json(f"{CHECK}/preview?cron=30+6+*+*+mon-fri")
    assert found["words"] == "At 06:30 UTC, Monday through Friday"
    times = [datetime.fromisoformat(at) for at in found["times"]]
    assert len(times) == 5
    assert all((at.hour, at.minute) == (6, 30) and at.isoweekday() <= 5 for at in times)
    assert times == sorted(times)
    assert "weekday &#39;9&#39; is not 0 to 6" in viewer.get(f"{CHECK}/preview?cron=0+3+*+*+9").text
    assert viewer.json(f"{CHECK}/preview?cron=")["words"] == "Not scheduled"


def test_a_job_is_edited_with_a_reason_and_the_edit_is_taken_back(services: FakeServices, operator: Browser) -> None:
    values = {"cron": " 30  6 * * 1-5 ", "spread_minutes": 10, "grace_hours": 12.0}
    assert operator.post(f"{CHECK}/edit", **values).status_code == 422
    said = operator.post(f"{CHECK}/edit", **values, reason="prices come later", follow=True).text
    assert "Set for growth: schedule.drift_check = 30 6 * * 1-5." in said
    assert edits(services) == [("schedule.drift_check", "30 6 * * 1-5")]
    assert "prices come later" in operator.get(CHECK).text
    sync_timetable(services)
    assert services.ledger.schedule()[0].cron == "30 6 * * 1-5"
    operator.post(f"{CHECK}/take-back", path="schedule.drift_check", reason="they do not")
    assert services.policies["growth"].schedule.drift_check == "0 3 * * *"
    assert operator.post(f"{CHECK}/take-back", path="drift.alert_share", reason="a").status_code == 422


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cron": "0 25 * * *"}, "hour &#39;25&#39; is not 0 to 23"),
        ({"cron": "tomorrow"}, "it has 1 fields instead of 5"),
        ({}, "nothing is different"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_in_words(
    services: FakeServices, operator: Browser, changes: dict[str, Any], said: str
) -> None:
    values = {"cron": "0 3 * * *", "spread_minutes": 10, "grace_hours": 12.0, **changes}
    answer = operator.post(f"{CHECK}/edit", **values, reason="a try")
    assert (answer.status_code, said in answer.text, "nothing was changed" in answer.text) == (422, True, True)
    assert edits(services) == []


def test_what_beat_did_not_open_in_time_is_late(services: FakeServices, viewer: Browser) -> None:
    services.with_policy(schedule=SchedulePolicy(drift_check="* * * * *", spread_minutes=0))
    begun(services)
    assert rows(viewer)[0]["next_at"] is not None
    assert rows(viewer, "?state=late") == []
    services.timed.advance(600)
    assert [row["word"] for row in rows(viewer, "?state=late")] == ["drift_check"]
    assert "beat and the reconciler open what is due" in viewer.get(CHECK).text


def test_a_strategy_whose_edits_do_not_fit_says_so_and_where_to_mend_it(
    services: FakeServices, viewer: Browser
) -> None:
    services.ledger.edit_policy("growth", "drift.gone", 1, actor="anna", reason="of an earlier version")
    assert len(rows(viewer, "?state=policy+does+not+fit")) == 2
    assert "/admin/drift/strategies/growth" in viewer.get(CHECK).text


def test_what_is_no_job_is_not_there(operator: Browser) -> None:
    assert operator.get("/admin/schedule/growth/backup").status_code == 422
    assert operator.get("/admin/schedule/growht/retrain").status_code == 404
    assert operator.post("/admin/schedule/growht/retrain/run").status_code == 404
    assert operator.post("/admin/schedule/growht/retrain/pause").status_code == 404


def test_a_viewer_is_shown_no_way_to_change_a_job(viewer: Browser) -> None:
    for path in ("/admin/schedule", CHECK):
        page = viewer.get(path).text
        assert page.count('<form method="post"') == 1  # the sign-out
