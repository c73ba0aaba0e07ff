"""Models, versions and what was started together, as the page lists them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from mlops.domain.errors import RunNotFound
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.queries.run_lists import Start
from tests.support.ledgers import TimedLedger, decision_for, granted, promoting, request_for

DAY = date(2026, 3, 2)


def trained(
    ledger: SqlLedger, version: str, strategy: str = "growth", *, kind: Kind = Kind.TRAIN, **params: Any
) -> str:
    """A version that a run trained; its ROC AUC is its number in hundredths over a half."""
    namespace = params.pop("namespace", "live")
    accepted = ledger.accept(request_for(strategy, kind, params=params, as_of=DAY, namespace=namespace))
    grant = granted(ledger, accepted.run_id, Stage.TRAIN)
    result = {
        "version": version,
        "metrics": {"roc_auc": 0.5 + int(version) / 100},
        "mlflow_run_id": f"mlflow-{version}",
        "train_end": "2026-01-05",
        "holdout_start": "2026-01-10",
        "holdout_end": "2026-02-25",
        "n_train": 1000,
    }
    ledger.finish(grant, StageOutcome(result=result, run_state=RunState.SUCCEEDED, as_of=DAY))
    return accepted.run_id


def test_a_model_s_line_has_its_champion_s_training_the_newest_one_and_the_last_decision(timed: TimedLedger) -> None:
    ledger = timed.ledger
    first = trained(ledger, "1")
    timed.advance(1)
    newest = trained(ledger, "2", incremental=True)
    trained(ledger, "3", namespace="replay")
    trained(ledger, "1", "value")
    ledger.decide(promoting(ledger), decision_for("1", as_of=DAY))
    refusing = promoting(ledger)
    ledger.decide(refusing, decision_for("2", decision="keep", target_stage="Archived", expected_seq=1))
    found = ledger.model_lines(["growth", "value", "none"])
    growth = found["growth"]
    assert (growth.version, growth.as_of) == ("1", DAY)
    assert growth.trained is not None
    assert (growth.trained.run_id, growth.trained.metrics) == (first, {"roc_auc": 0.51})
    assert growth.newest is not None
    assert (growth.newest.run_id, growth.newest.version, growth.newest.is_incremental) == (newest, "2", True)
    assert growth.decision is not None
    assert (growth.decision.run_id, growth.decision.version, growth.decision.decision) == (refusing.run_id, "2", "keep")
    value, none = found["value"], found["none"]
    assert (value.version, value.trained, value.decision) == (None, None, None)
    assert value.newest is not None
    assert (none.version, none.newest) == (None, None)
    assert ledger.model_lines([]) == {}
    keys = ledger.model_keys(["growth", "value", "none"])
    assert (keys["growth"].version, keys["growth"].as_of) == ("1", DAY)
    assert keys["growth"].decision_id is not None
    assert keys["growth"].trained_at is not None
    assert keys["growth"].trained_at >= growth.newest.trained_at
    assert (keys["value"].version, keys["value"].decision_id) == (None, None)
    assert (keys["none"].trained_at, keys["none"].changed_at) == (None, None)


def test_a_champion_whose_run_did_not_train_it_is_traced_to_the_run_that_did(timed: TimedLedger) -> None:
    """A rollback, or the promotion of a version that was trained before."""
    ledger = timed.ledger
    first = trained(ledger, "1")
    timed.advance(1)
    accepted = ledger.accept(request_for("growth", Kind.RETRAIN, as_of=DAY))
    grant = granted(ledger, accepted.run_id, Stage.TRAIN)
    result = {"version": "2", "metrics": {"roc_auc": 0.9}}
    ledger.finish(grant, StageOutcome(result=result, run_state=None, next_stage=Stage.PROMOTE, as_of=DAY))
    ledger.decide(granted(ledger, accepted.run_id, Stage.PROMOTE), decision_for("2", as_of=DAY))
    own = ledger.model_lines(["growth"])["growth"].trained
    assert own is not None
    assert (own.version, own.run_id) == ("2", accepted.run_id)
    ledger.decide(promoting(ledger), decision_for("1", decision="rollback", expected_seq=1, as_of=DAY))
    back = ledger.model_lines(["growth"])["growth"].trained
    assert back is not None
    assert (back.version, back.run_id) == ("1", first)
    ledger.decide(promoting(ledger), decision_for("7", decision="manual", expected_seq=2, as_of=DAY))
    assert ledger.model_lines(["growth"])["growth"].trained is None


def test_versions_are_listed_page_by_page_with_how_they_were_trained(timed: TimedLedger) -> None:
    ledger = timed.ledger
    for version in ("1", "2", "3"):
        accepted = ledger.accept(request_for("growth", Kind.RETRAIN, params={"tune": 30} if version == "3" else {}))
        grant = granted(ledger, accepted.run_id, Stage.TRAIN)
        timed.advance(40)
        result = {"version": version, "metrics": {"accuracy": 0.7}, "n_train": 7}
        ledger.finish(grant, StageOutcome(result=result, run_state=RunState.SUCCEEDED))
    trained(ledger, "9", "value")
    first = ledger.version_lines("growth", limit=2)
    assert [(line.version, line.n_trials, round(line.run_s)) for line in first] == [("3", 30, 40), ("2", 0, 40)]
    assert (first[0].metrics, first[0].n_train, first[0].registry_run_id) == ({"accuracy": 0.7}, 7, None)
    rest = ledger.version_lines("growth", before=(first[-1].trained_at, first[-1].run_id))
    assert [line.version for line in rest] == ["1"]
    assert [line.strategy for line in ledger.version_lines()] == ["value", "growth", "growth", "growth"]
    assert ledger.version_lines("momentum") == []


def test_the_trainings_of_named_versions_are_found(ledger: SqlLedger) -> None:
    one, _ = trained(ledger, "1"), trained(ledger, "2")
    trained(ledger, "1", "value")
    found = ledger.trained("growth", ["1", "7"])
    assert {version: line.run_id for version, line in found.items()} == {"1": one}
    assert (found["1"].registry_run_id, found["1"].holdout_end) == ("mlflow-1", "2026-02-25")
    assert ledger.trained("growth", []) == {}
    assert ledger.version_names("growth") == ["2", "1"]
    assert ledger.version_names("momentum") == []


def test_a_version_s_stage_is_what_its_newest_decision_gave_it(ledger: SqlLedger) -> None:
    waiting = decision_for("2", decision="await_approval", target_stage="Staging")
    ledger.decide(promoting(ledger), waiting)
    ledger.decide(promoting(ledger), decision_for("1"))
    ledger.decide(promoting(ledger), decision_for("2", expected_seq=1))
    assert ledger.stages_decided("growth", ["1", "2", "3"]) == {"1": "Production", "2": "Production"}
    assert ledger.stages_decided("value", ["1"]) == {}
    assert ledger.stages_decided("growth", []) == {}


def test_what_one_person_started_together_is_listed_with_its_progress_and_counted(timed: TimedLedger) -> None:
    ledger = timed.ledger
    ledger.accept(request_for("growth", Kind.TRAIN, requested_by="anna"))
    ids = [
        ledger.accept(request_for(name, Kind.RETRAIN, requested_by="anna", batch_id="b")).run_id
        for name in ("value", "dividend")
    ]
    ledger.accept(request_for("momentum", Kind.RETRAIN, requested_by="victor", batch_id="c"))
    ledger.accept(request_for("momentum", Kind.TRAIN, requested_by="anna"))
    start = ledger.batch("b")
    assert (start.requested_by, start.since) == ("anna", ledger.run(ids[0]).created_at)
    with pytest.raises(RunNotFound, match="batch 'a'"):
        ledger.batch("a")
    grant = granted(ledger, ids[0], Stage.TRAIN)
    ledger.renew(grant, progress={"done": 1, "total": 3})
    ledger.cancel(ids[1], actor="anna")
    second, first = ledger.started(start)
    assert (first.run_id, first.stage, first.stage_state, first.progress) == (
        ids[0], "train", "running", {"done": 1, "total": 3},
    )  # fmt: skip
    assert (second.run_id, second.state, second.stage) == (ids[1], RunState.CANCELLED, None)
    assert second.error == "cancelled by anna before it ran"
    assert ledger.started_counts(start) == {"running": 1, "cancelled": 1}
    assert [line.run_id for line in ledger.started(start, before=(second.created_at, second.run_id))] == [ids[0]]
    timed.advance(60)
    ledger.accept(request_for("quality", Kind.TRAIN, requested_by="anna"))
    lately = Start(requested_by="anna", since=start.since)
    assert [line.strategy for line in ledger.started(lately)] == ["quality", "momentum", "dividend", "value"]
