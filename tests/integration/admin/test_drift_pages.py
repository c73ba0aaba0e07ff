"""Data drift: the table, checks of one, some and all, reports, and the heat map."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest

from mlops.domain.records import Kind, RunState, Stage
from mlops.stages.drift import check_drift
from mlops.strategies.file import Strategies
from tests.support.admin import JSON, Browser
from tests.support.checks import checked
from tests.support.services import FakeServices, small_strategy

DAY = date(2026, 3, 2)


def several(services: FakeServices, *names: str) -> None:
    vars(services)["strategies"] = Strategies({name: small_strategy(name) for name in names})


def really_checked(services: FakeServices) -> str:
    """A check of the panel, with a whole report."""
    grant = services.granted(Kind.CHECK, Stage.DRIFT)
    services.ledger.finish(grant, check_drift(grant, services, services.keeper(grant)))
    return grant.run_id


def test_each_strategy_has_its_newest_check_and_its_rule(services: FakeServices, viewer: Browser) -> None:
    several(services, "growth", "value")
    checked(services.ledger, "growth", DAY, "drifted", share=0.42)
    page = viewer.get("/admin/drift").text
    assert "42 %" in page
    assert "never checked" in page
    growth, value = viewer.json("/admin/drift")["list"]["rows"]
    assert (growth["check"]["verdict"], growth["policy"]["rule"], value["check"]) == ("drifted", "raw", None)
    assert viewer.json("/admin/drift")["totals"]["drifted"] == 1


def test_the_table_is_searched_sorted_filtered_and_paged_on_the_server(services: FakeServices, viewer: Browser) -> None:
    several(services, *(f"s{number:03}" for number in range(120)))
    for number, share in ((7, 0.9), (8, 0.5)):
        checked(services.ledger, f"s{number:03}", DAY, "drifted", share=share)
    assert viewer.json("/admin/drift?page=3")["list"]["rows"][0]["strategy"] == "s100"
    assert viewer.json("/admin/drift?q=s11")["list"]["n_found"] == 10
    by_share = viewer.json("/admin/drift?sort=-share")["list"]["rows"]
    assert [row["strategy"] for row in by_share[:3]] == ["s007", "s008", "s000"]
    shown = viewer.json("/admin/drift?show=drifted")["list"]["rows"]
    assert [row["strategy"] for row in shown] == ["s007", "s008"]
    services.ledger.edit_policy("s003", "drift.alert_share", 0.6, actor="anna", reason="a")
    assert [row["strategy"] for row in viewer.json("/admin/drift?show=edited")["list"]["rows"]] == ["s003"]
    assert viewer.get("/admin/drift?show=nonsense").status_code == 422


def test_a_viewer_sees_no_button_that_acts(services: FakeServices, viewer: Browser) -> None:
    checked(services.ledger, "growth", DAY)
    for path in ("/admin/drift", "/admin/drift/strategies/growth"):
        actions = re.findall(r'<form method="post" action="([^"]+)"', viewer.get(path).text)
        assert set(actions) <= {"/admin/sign-out", "/admin/drift/check", "/admin/drift/strategies/growth/policy"}
        assert "Check data drift" not in viewer.get(path).text
        assert "Check the chosen" not in viewer.get(path).text


# ---- checks


def test_one_check_leads_to_its_report_and_is_audited(services: FakeServices, operator: Browser) -> None:
    answer = operator.post("/admin/drift/check", strategy="growth")
    (run,) = services.ledger.runs(limit=10)
    assert answer.headers["location"] == f"/admin/drift/reports/{run.run_id}"
    assert (run.kind, run.strategy, run.requested_by) == (Kind.CHECK, "growth", "anna")
    assert [sent.run_id for sent in services.sent] == [run.run_id]
    line = next(line for line in services.ledger.audit_lines() if line.action == "drift.check")
    assert (line.actor, line.subject) == ("anna", "growth")


def test_some_or_all_or_what_a_search_found_are_checked_at_once(services: FakeServices, operator: Browser) -> None:
    several(services, "growth", "value", "momentum", "growth_small")
    operator.post("/admin/drift/check", strategy=["growth", "value"])
    assert {run.strategy for run in services.ledger.runs(limit=10)} == {"growth", "value"}
    said = operator.post("/admin/drift/check", which="found", q="growth", follow=True)
    assert "1 of 2 checks begun. 1 already ran." in said.text
    assert {run.strategy for run in services.ledger.runs(limit=10)} == {"growth", "value", "growth_small"}
    operator.post("/admin/drift/check", which="all")
    assert len(services.ledger.runs(limit=10)) == 4


def test_none_chosen_is_a_hint_on_the_page_where_one_ticks(services: FakeServices, operator: Browser) -> None:
    operator.client.headers["referer"] = "http://page/admin/drift?q=gro"
    answer = operator.post("/admin/drift/check")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/drift?q=gro")
    page = operator.get("/admin/drift?q=gro").text
    assert '<p class="alert hint">no strategy was chosen; tick some in the table' in page
    assert "alert hint" not in operator.get("/admin/drift?q=gro").text
    assert "no strategy was chosen" in str(services.ledger.audit_lines()[0].detail["refused"])


def test_a_program_that_names_none_is_refused(operator: Browser) -> None:
    answer = operator.client.post("/admin/drift/check", data={"csrf": operator.csrf}, headers=JSON)
    assert (answer.status_code, "tick some in the table" in answer.json()["error"]) == (422, True)


def test_an_unknown_strategy_is_named_and_stops_no_other(services: FakeServices, operator: Browser) -> None:
    said = operator.post("/admin/drift/check", strategy=["growth", "growht"], follow=True).text
    assert "1 of 2 checks begun." in said
    assert "growht" in said
    assert len(services.ledger.runs(limit=10)) == 1
    assert operator.post("/admin/drift/check", strategy="growht").status_code == 422


def test_checks_that_were_asked_for_together_show_how_many_are_done(services: FakeServices, operator: Browser) -> None:
    several(services, "growth", "value")
    checked(services.ledger, "growth", DAY)
    services.timed.advance(60)
    to = operator.post("/admin/drift/check", which="all").headers["location"]
    first = next(run for run in services.ledger.runs(limit=10) if run.state is RunState.QUEUED)
    grant = services.claimed(first.run_id, Stage.DRIFT)
    services.ledger.renew(grant, progress={"done": 1, "total": 3, "unit": "steps"})  # as a check tells it
    assert "1 of 3 steps" in operator.get("/admin/").text
    page = operator.get(to).text
    assert "<b>0 of 2</b> checks" in page
    assert "1 of 3 steps" in page
    services.timed.advance(5)
    services.ledger.fail(grant, error="no rows in the window", retry=False)
    page = operator.get(to).text
    assert "<b>1 of 2</b> checks" in page
    assert "no rows in the window" in page


@pytest.mark.parametrize("since", ["yesterday", "2026-03-02T03:00:00"])
def test_a_time_that_is_none_is_refused_with_how_to_write_it(viewer: Browser, since: str) -> None:
    answer = viewer.get(f"/admin/drift/checks?since={since}")
    assert (answer.status_code, "2026-03-02T03:00:00Z" in answer.text) == (422, True)


# ---- reports


def test_reports_are_searched_filtered_sorted_and_paged_on_the_server(services: FakeServices, viewer: Browser) -> None:
    several(services, "growth", "value")
    for day in range(60):
        checked(services.ledger, "growth", DAY + timedelta(days=day), share=day / 100)
    checked(services.ledger, "value", DAY, "drifted", share=0.9)
    assert viewer.json("/admin/drift/reports")["rows"][0]["strategy"] == "value"
    first = viewer.json("/admin/drift/reports?sort=-share")
    assert (first["rows"][0]["share"], first["is_last"], len(first["rows"])) == (0.9, False, 50)
    second = viewer.json("/admin/drift/reports?sort=-share&page=2")
    assert (second["rows"][-1]["share"], second["is_last"], len(second["rows"])) == (0.0, True, 11)
    assert len(viewer.json("/admin/drift/reports?q=val")["rows"]) == 1
    assert len(viewer.json("/admin/drift/reports?verdict=drifted")["rows"]) == 1
    assert len(viewer.json("/admin/drift/reports?days=7")["rows"]) == 7
    assert viewer.json("/admin/drift/reports?q=none")["rows"] == []
    assert "not sorted by" in viewer.get("/admin/drift/reports?sort=colour").text


def test_the_checks_own_page_is_in_a_frame_that_reaches_nothing_of_ours(
    services: FakeServices, viewer: Browser
) -> None:
    run_id = really_checked(services)
    page = viewer.get(f"/admin/drift/reports/{run_id}").text
    assert f'src="/admin/drift/reports/{run_id}/page" sandbox="allow-scripts"' in page
    framed = viewer.get(f"/admin/drift/reports/{run_id}/page")
    assert "<svg" in framed.text
    assert "momentum" in framed.text
    policy = framed.headers["content-security-policy"]
    assert {"default-src 'none'", "sandbox allow-scripts", "frame-ancestors 'self'"} <= set(policy.split("; "))
    assert framed.headers["x-frame-options"] == "SAMEORIGIN"


def test_the_report_can_be_had_as_a_file(services: FakeServices, viewer: Browser) -> None:
    run_id = really_checked(services)
    assert 'download="drift_report_growth_2020-07-18.json"' in viewer.get(f"/admin/drift/reports/{run_id}").text
    document = viewer.get(f"/admin/drift/reports/{run_id}/page?form=json").json()
    assert document == viewer.json(f"/admin/drift/reports/{run_id}/page")
    assert document == services.ledger.stored_report(run_id).document
    assert set(document["psi"]) == {"momentum", "value", "noise"}


def test_before_there_is_a_report_its_page_says_how_far_the_check_is(services: FakeServices, operator: Browser) -> None:
    at = operator.post("/admin/drift/check", strategy="growth").headers["location"]
    assert "waits for a worker" in operator.get(at).text
    grant = services.claimed(at.rsplit("/", 1)[1], Stage.DRIFT)
    services.ledger.renew(grant, progress={"done": 1, "total": 3, "unit": "steps", "left_s": 4.0})
    page = operator.get(at).text
    assert f'data-live-run="{grant.run_id}"' in page
    assert "1 of 3 steps, 4 s left" in page
    assert f'hx-trigger="live:{grant.run_id} from:body"' in page
    services.ledger.finish(grant, check_drift(grant, services, services.keeper(grant)))
    assert "<iframe" in operator.get(at).text


def test_a_check_that_failed_says_why_in_place_of_a_report(services: FakeServices, viewer: Browser) -> None:
    grant = services.granted(Kind.CHECK, Stage.DRIFT)
    services.ledger.fail(grant, error="the current window is empty", retry=False)
    page = viewer.get(f"/admin/drift/reports/{grant.run_id}").text
    assert "the current window is empty" in page
    assert "<iframe" not in page


def test_what_checked_no_drift_has_no_report(services: FakeServices, viewer: Browser) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    answer = viewer.get(f"/admin/drift/reports/{grant.run_id}")
    assert (answer.status_code, "checks no drift" in answer.text) == (404, True)
    assert viewer.get("/admin/drift/reports/none").status_code == 404
    assert viewer.get("/admin/drift/reports/none/page").status_code == 404


def test_a_report_leads_to_the_checks_before_and_after(services: FakeServices, viewer: Browser) -> None:
    ids = [checked(services.ledger, "growth", DAY + timedelta(days=day)) for day in range(3)]
    checked(services.ledger, "value", DAY + timedelta(days=1))
    middle = viewer.json(f"/admin/drift/reports/{ids[1]}")
    assert (middle["earlier"]["run_id"], middle["later"]["run_id"]) == (ids[0], ids[2])
    assert viewer.json(f"/admin/drift/reports/{ids[0]}")["earlier"] is None


# ---- the heat map


def test_the_heat_map_has_strategies_by_days_the_newest_check_of_a_day(services: FakeServices, viewer: Browser) -> None:
    several(services, "growth", "value")
    checked(services.ledger, "growth", DAY, share=0.05)
    again = checked(services.ledger, "growth", DAY, "drifted", share=0.42, p_value=0.03)
    checked(services.ledger, "value", DAY + timedelta(days=1), share=0.8, p_value=0.7)
    growth, value = viewer.json("/admin/drift/heatmap")["rows"]
    assert [cell and (cell["label"], cell["level"]) for cell in growth["cells"]] == [(".03", 3), None]
    assert [cell and (cell["label"], cell["level"]) for cell in value["cells"]] == [None, (".70", 0)]
    page = viewer.get("/admin/drift/heatmap").text
    assert f'<td class="heat l3 drifted"><a href="/admin/drift/reports/{again}"' in page
    assert '1 <span class="soft">of 1</span>' in page


def test_the_heat_map_is_cut_to_days_and_sorted_by_what_drifted_most(services: FakeServices, viewer: Browser) -> None:
    several(services, *(f"s{number:03}" for number in range(50)))
    for day in range(20):
        checked(services.ledger, "s042", DAY + timedelta(days=day), "drifted", share=0.5)
    checked(services.ledger, "s007", DAY, "drifted", share=0.5)
    month = viewer.json("/admin/drift/heatmap?sort=-drifted")
    assert [row["strategy"] for row in month["rows"][:2]] == ["s042", "s007"]
    assert (len(month["by_day"]), len(month["rows"]), month["list"]["n_pages"]) == (20, 40, 2)
    fortnight = viewer.json("/admin/drift/heatmap?days=14&show=drifted")
    assert [(row["strategy"], len(row["cells"])) for row in fortnight["rows"]] == [("s042", 14)]


def test_without_a_check_the_heat_map_says_so(viewer: Browser) -> None:
    assert "There was no check in these days." in viewer.get("/admin/drift/heatmap").text
