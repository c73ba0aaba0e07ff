"""The table of strategies, what runs and what comes next, and the alerts."""

from __future__ import annotations

from datetime import UTC, date, datetime

from admin.routes.overview import CHECKS
from mlops.domain.policies import PromotionPolicy
from mlops.domain.records import Kind, RunState, ScheduleEntry, Stage, StageOutcome, WorkerBeat
from mlops.strategies.file import Strategies
from tests.integration.retraining.test_promote_stage import decided, registered
from tests.support.admin import Browser
from tests.support.services import FakeServices, small_strategy


def several(services: FakeServices, *names: str) -> None:
    vars(services)["strategies"] = Strategies({name: small_strategy(name) for name in names})


def alive(services: FakeServices) -> None:
    services.ledger.worker_seen(
        WorkerBeat(name="drift@h", role="drift", queues=("drift",), device="cpu", pid=1, host="h", concurrency=2)
    )


def test_a_strategy_that_did_nothing_yet_is_shown_with_what_it_lacks(viewer: Browser) -> None:
    page = viewer.get("/admin/").text
    assert "no outcomes yet" in page
    assert '<span class="badge warn">none</span>' in page
    assert viewer.json("/admin/")["totals"]["in production"] == 0


def test_champion_check_and_run_of_a_strategy_are_shown(services: FakeServices, viewer: Browser) -> None:
    registered(services)
    decided(services)
    (line,) = viewer.json("/admin/")["list"]["rows"]
    assert line["standing"]["champion"]["version"] == "1"
    assert line["standing"]["run"]["state"] == "succeeded"
    assert "v1" in viewer.get("/admin/").text


def test_a_run_that_works_is_shown_with_its_progress(services: FakeServices, viewer: Browser) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    services.ledger.renew(grant, progress={"done": 40, "total": 100, "unit": "rounds", "left_s": 75.0})
    page = viewer.get("/admin/").text
    assert f'data-live-run="{grant.run_id}"' in page
    assert "40 of 100 rounds, 1 min 15 s left" in page


def test_the_table_is_searched_sorted_filtered_and_paged_on_the_server(services: FakeServices, viewer: Browser) -> None:
    several(services, *(f"s{number:03}" for number in range(120)))
    rows = viewer.json("/admin/?page=3")["list"]
    assert (rows["n_pages"], rows["rows"][0]["strategy"]) == (3, "s100")
    assert viewer.json("/admin/?q=s11")["list"]["n_found"] == 10
    assert viewer.json("/admin/?sort=-strategy")["list"]["rows"][0]["strategy"] == "s119"
    services.granted(Kind.CHECK, Stage.DRIFT, "s007")
    assert [row["strategy"] for row in viewer.json("/admin/?show=running")["list"]["rows"]] == ["s007"]
    assert viewer.json("/admin/?show=no%20champion")["list"]["n_found"] == 120
    assert viewer.get("/admin/?show=nonsense").status_code == 422


def test_htmx_gets_the_content_without_the_frame(viewer: Browser) -> None:
    part = viewer.get("/admin/", **{"hx-request": "true"}).text
    assert "<h1>Overview</h1>" in part
    assert "<!doctype" not in part


def test_the_next_jobs_stand_in_the_order_in_which_they_come(services: FakeServices, viewer: Browser) -> None:
    entries = [
        ScheduleEntry(
            key=f"{name}:drift_check",
            strategy=name,
            kind=Kind.PIPELINE,
            cron=cron,
            offset_s=0.0,
            grace_s=60.0,
            enabled=enabled,
            last_slot=datetime(2026, 1, 5, 12, tzinfo=UTC),
        )
        for name, cron, enabled in (
            ("late", "0 5 * * *", True),
            ("soon", "0 3 * * *", True),
            ("off", "0 1 * * *", False),
        )
    ]
    services.ledger.sync_schedule(entries)
    jobs = viewer.json("/admin/")["next_jobs"]
    assert [(at, job["strategy"]) for at, job in jobs] == [
        ("2026-01-06T03:00:00+00:00", "soon"),
        ("2026-01-06T05:00:00+00:00", "late"),
    ]


def alerts(viewer: Browser) -> list[str]:
    return [alert["words"] for alert in viewer.json("/admin/")["alerts"]]


def test_without_workers_and_without_a_broker_the_page_says_so(viewer: Browser) -> None:
    assert [words.split(",")[0] for words in alerts(viewer)] == [
        "no worker is alive",
        "no broker is configured; set CELERY_BROKER_URL; runs are accepted",
    ]


def test_features_that_are_late_are_an_alert_until_they_come(services: FakeServices, viewer: Browser) -> None:
    words = "the features of 2020-07-19 are not complete, 36 h after it began"
    services.ledger.note_late("growth", date(2020, 7, 19), words)
    assert f"growth: {words}" in alerts(viewer)
    services.ledger.note_newest("growth", date(2020, 7, 20))
    assert not any("not complete" in one for one in alerts(viewer))


def test_dead_and_failed_runs_are_alerts_for_a_while(services: FakeServices, viewer: Browser) -> None:
    alive(services)
    dead = services.granted(Kind.CHECK, Stage.DRIFT)
    for _ in range(3):
        services.ledger.fail(dead, error="it crashed", retry=True)
        found = services.ledger.claim(dead.run_id, Stage.DRIFT, worker="w")
        dead = found or dead
    failed = services.granted(Kind.TRAIN, Stage.TRAIN)
    services.ledger.fail(failed, error="no rows", retry=False)
    found_alerts = alerts(viewer)
    assert "1 run of the last week used up all attempts and died" in found_alerts
    assert "1 run of the last 24 hours failed" in found_alerts
    services.timed.advance(8 * 86400)
    viewer.sign_in("victor")
    assert not any("run of" in words for words in alerts(viewer))


def test_a_decision_that_waits_is_an_alert_that_leads_to_it(services: FakeServices, viewer: Browser) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services)
    grant, _ = decided(services)
    (alert,) = [one for one in viewer.json("/admin/")["alerts"] if "approval" in one["words"]]
    assert alert["words"] == "1 decision awaits approval: growth v1"
    assert alert["link"] == f"/admin/runs/{grant.run_id}"


def test_a_policy_that_does_not_fit_any_more_is_an_alert_and_no_error(services: FakeServices, viewer: Browser) -> None:
    services.ledger.edit_policy("growth", "drift.gone", 1, actor="anna", reason="of an earlier version")
    assert any(words.startswith("growth: ") and "drift.gone" in words for words in alerts(viewer))


def test_the_spark_line_has_the_last_thirty_checks(services: FakeServices, viewer: Browser) -> None:
    for number in range(CHECKS + 3):
        grant = services.granted(Kind.CHECK, Stage.DRIFT)
        day = datetime(2026, 1, 1, tzinfo=UTC).date().replace(day=1 + number % 28, month=1 + number // 28)
        report = {"verdict": {"verdict": "stable", "raw": {"share_drifted": 0.1}}, "summary": {}}
        services.ledger.finish(
            grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED, as_of=day, drift_report=report)
        )
    checks = viewer.json("/admin/")["checks"]["growth"]
    assert len(checks) == CHECKS
    assert checks[-1]["as_of"] == "2026-02-05"
    assert "Drifted in 0 of the last 30 checks; the newest has no p" in viewer.get("/admin/").text
