"""`acis predict`, `acis live` and their dispatch functions: what they print, keep and give back."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.app import app
from mlops.domain.policies import DataPolicy
from mlops.domain.records import Kind, LiveFindings, RunState, Stage, StageOutcome
from mlops.reporting.narrative import why
from tasks import dispatch
from tasks import services as task_services
from tests.support.live import LIVE, promoted, with_return_column, without
from tests.support.services import LAST, TICKERS, FakeServices, panel

DAY = timedelta(days=1)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_services, "connect", lambda: services)
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    services.with_policy(live=LIVE)
    services.with_source(with_return_column(panel()))


def test_the_newest_date_is_predicted_here_once_and_audited(services: FakeServices) -> None:
    promoted(services)
    first = run("predict", "growth")
    assert first.exit_code == 0
    assert "Predicted by version 1" in first.output
    assert f"{TICKERS} rows" in first.output
    again = run("predict", "growth", "--date", LAST.isoformat())
    assert again.exit_code == 0
    assert f"{LAST} was predicted already" in again.output
    (view,) = services.ledger.runs(kinds=[Kind.PREDICT])
    assert (view.slot, view.state) == (LAST.isoformat(), RunState.SUCCEEDED)
    lines = [line for line in services.ledger.audit_lines() if line.action == "run.predict"]
    assert {line.subject for line in lines} == {view.run_id}


def test_on_a_day_without_rows_the_newest_complete_date_is_predicted(services: FakeServices) -> None:
    services.with_policy(data=DataPolicy(as_of="today", min_current_rows=40))
    promoted(services)
    services.today = LAST + 2 * DAY
    assert run("predict", "growth").exit_code == 0
    assert [view.as_of for view in services.ledger.runs(kinds=[Kind.PREDICT])] == [LAST]


def test_a_date_with_more_rows_than_were_predicted_is_predicted_again(services: FakeServices) -> None:
    promoted(services)
    table = services.source._table  # type: ignore[attr-defined]
    services.with_source(table.slice(0, table.num_rows - 2))
    for rows in (TICKERS - 2, TICKERS, TICKERS):
        assert run("predict", "growth").exit_code == 0
        assert services.ledger.predictions("growth", LAST, LAST).num_rows == rows
        services.with_source(table)
    assert [view.slot for view in services.ledger.runs(kinds=[Kind.PREDICT])] == [f"{LAST}/2", f"{LAST}"]


def test_without_a_champion_the_exit_code_is_1_with_the_reason(services: FakeServices) -> None:
    answer = run("predict", "growth")
    assert answer.exit_code == 1
    assert "has no champion" in answer.output


def test_a_date_without_rows_is_an_error(services: FakeServices) -> None:
    promoted(services)
    services.with_source(without(panel(), LAST - DAY))
    answer = run("predict", "growth", "--date", "2020-07-17")
    assert answer.exit_code == 2
    assert "no rows of 2020-07-17" in answer.output.replace("\n", " ")


def test_json_is_the_run(services: FakeServices) -> None:
    promoted(services)
    found = json.loads(run("predict", "growth", "--json").stdout)
    assert (found["kind"], found["state"], found["outcome"]["version"]) == ("predict", "succeeded", "1")


def test_live_before_anything_was_scored_says_how(services: FakeServices) -> None:
    assert "`acis live growth --score` compares" in run("live", "growth").output
    assert "never scored" in run("live").output
    assert run("live", "growth").exit_code == 0


def test_a_scoring_of_nothing_says_so(services: FakeServices) -> None:
    answer = run("live", "growth", "--score")
    assert answer.exit_code == 0
    assert "nothing was predicted for 'growth'" in answer.output
    (view,) = services.ledger.runs(kinds=[Kind.SCORE])
    assert why(view) == [f"It scored nothing: {view.stages[0].result['reasons'][0]}."]  # type: ignore[index]  # it has one


def test_why_a_run_predicted_or_did_not_is_a_sentence(services: FakeServices) -> None:
    run("predict", "growth")
    promoted(services)
    run("predict", "growth")
    done, refused = services.ledger.runs(kinds=[Kind.PREDICT])
    assert why(done) == [f"It predicted {TICKERS} rows of {LAST} by version 1."]
    assert why(refused)[0].startswith("It predicted nothing: strategy 'growth' has no champion")


def test_live_scores_and_shows(services: FakeServices) -> None:
    promoted(services)
    for place in range(8):
        assert run("predict", "growth", "--date", (LAST - place * DAY).isoformat()).exit_code == 0
    answer = run("live", "growth", "--score")
    assert answer.exit_code == 0, answer.output
    assert f"growth as of {LAST}: target_return > 0, 5 dates ahead" in answer.output
    assert f"Not ripe yet: {5 * TICKERS} predictions, of {LAST - 4 * DAY} to {LAST}" in answer.output
    assert f"Parity: {8 * TICKERS} of {8 * TICKERS} rows" in answer.output
    (line,) = [line for line in run("live").output.splitlines() if line.startswith("growth")]
    assert line.split()[1] == "v1"
    assert str(LAST) in line
    (found,) = json.loads(run("live", "--json").stdout)["strategies"]
    assert (found["strategy"], found["unripe"]["n_predictions"]) == ("growth", 5 * TICKERS)
    assert found["report"]["headline"]["version"] == "1"


def test_the_history_of_a_date_has_each_score_with_when_it_became_known(services: FakeServices) -> None:
    promoted(services)
    day = (LAST - 7 * DAY).isoformat()
    assert run("predict", "growth", "--date", day).exit_code == 0
    assert "was scored" in run("live", "growth", "--history", day).output
    assert run("live", "growth", "--score").exit_code == 0
    services.with_source(panel())  # without returns: the score says something else
    answer = run("live", "growth", "--score", "--history", day)
    assert answer.exit_code == 0
    lines = [line for line in answer.output.splitlines() if " v1 " in line]
    assert len(lines) == 2
    assert f" {TICKERS} " in lines[0]
    found = json.loads(run("live", "growth", "--history", day, "--json").stdout)["scores"]
    assert [one["n_labelled"] for one in found] == [TICKERS, TICKERS]
    assert "name it" in run("live", "--history", day).output


def scored_headline(services: FakeServices, **more: object) -> None:
    """A scoring of version 1 with this in its headline."""
    grant = services.granted(Kind.SCORE, Stage.SCORE)
    headline = {
        "version": "1", "metric": "roc_auc", "value": 0.7, "low": None, "high": None, "is_estimate": False,
        "n_days": 30, "n_labelled": 300, "n_unripe": 0, "decayed_on": None, **more,
    }  # fmt: skip
    findings = LiveFindings(days=(), document={"headline": headline})
    services.ledger.finish(
        grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED, as_of=services.today, live=findings)
    )


def test_only_the_present_champions_decay_is_a_finding(services: FakeServices) -> None:
    promoted(services)
    scored_headline(services, decayed_on="2020-06-01")
    answer = run("live")
    assert answer.exit_code == 1
    assert "since 2020-06-01" in answer.output
    promoted(services, "made-2", rounds=9)
    answer = run("live")
    assert answer.exit_code == 0
    assert "(of v1)" in answer.output
    assert "not tested" in answer.output


def test_decay_that_was_not_tested_is_not_called_none(services: FakeServices) -> None:
    promoted(services)
    scored_headline(services)
    assert run("live").output.rstrip().endswith("none")
    scored_headline(services, decay_tested=False, decay_why_not="MLflow does not answer")
    assert run("live").output.rstrip().endswith("not tested")


def test_as_of_without_score_is_refused(services: FakeServices) -> None:
    answer = run("live", "growth", "--as-of", "2020-01-01")
    assert answer.exit_code == 2
    assert "give --score with it" in answer.output


def test_an_unknown_strategy_is_named() -> None:
    for command in ("predict", "live"):
        answer = run(command, "growht")
        assert answer.exit_code == 2
        assert "'growht' is not known" in answer.output


def test_a_program_starts_both_and_asks_again(services: FakeServices) -> None:
    promoted(services)
    accepted = dispatch.start_prediction("growth", as_of=LAST, reason="features reloaded", requested_by="backend")
    assert (accepted.created, dispatch.run_status(accepted.run_id).slot) == (True, LAST.isoformat())
    assert not dispatch.start_prediction("growth", as_of=LAST, reason="twice").created
    services.ledger.cancel(accepted.run_id, actor="test")
    again = dispatch.ask_again(accepted.run_id, requested_by="anna")
    assert dispatch.run_status(again.run_id).slot == f"{LAST.isoformat()}/2"
    scoring = dispatch.start_scoring("growth", reason="outcomes reloaded")
    assert dispatch.run_status(scoring.run_id).kind is Kind.SCORE
    assert [publication.stage for publication in services.sent] == ["predict", "predict", "score"]
