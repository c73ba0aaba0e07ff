"""A run says in a sentence each why it did or did not retrain and promote."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlops.domain.records import Executor, Kind, RunState, RunView, Stage, StageState, StageView
from mlops.reporting.narrative import retrain_reason, why

AT = datetime(2026, 11, 27, tzinfo=UTC)
DRIFT = {"verdict": "drifted", "verdict_reason": "95% of the features drifted", "drifted": True, "retrain": True}


def stage(name: Stage, result: dict[str, Any] | None, state: StageState, error: str | None) -> StageView:
    return StageView(
        stage=name,
        state=state,
        attempt=1,
        token=1,
        publish_no=1,
        worker="w",
        queued_at=AT,
        started_at=AT,
        finished_at=AT,
        not_before=None,
        progress=None,
        result=result,
        error=error,
        task_id=None,
    )


def run(
    kind: Kind,
    state: RunState = RunState.SUCCEEDED,
    *,
    drift: dict[str, Any] | None = None,
    promote: dict[str, Any] | None = None,
    error: str | None = None,
    at: StageState = StageState.SUCCEEDED,
) -> RunView:
    stages = [stage(Stage.DRIFT, drift, StageState.SUCCEEDED, None)] if drift else []
    if promote:
        stages.append(stage(Stage.PROMOTE, promote, StageState.SUCCEEDED, None))
    if not stages:
        stages.append(stage(Stage.TRAIN, None, at, error))
    return RunView(
        run_id="r",
        namespace="live",
        strategy="growth",
        kind=kind,
        state=state,
        slot=None,
        reason="nightly",
        requested_by="beat",
        executor=Executor.CELERY,
        as_of=None,
        policy={},
        params={},
        outcome=None,
        cancel_requested=False,
        created_at=AT,
        finished_at=AT,
        stages=tuple(stages),
    )


@pytest.mark.parametrize(
    ("drift", "sentence"),
    [
        (
            {**DRIFT, "retrain_reason": "drift", "alarm_reason": "drifted in 2 of the last 3 checks"},
            "It retrained because of drift: 95% of the features drifted (drifted in 2 of the last 3 checks).",
        ),
        (
            {**DRIFT, "verdict": "stable", "drifted": False, "retrain_reason": "no_champion"},
            "It retrained because nothing was in production, whatever the drift; stable: 95% of the features drifted.",
        ),
        (
            {**DRIFT, "retrain": False, "retrain_reason": None, "alarm_reason": "the cooldown lasts until Monday"},
            (
                "It did not retrain although the features drifted: the cooldown lasts until Monday; "
                "95% of the features drifted."
            ),
        ),
        (
            {**DRIFT, "verdict": "stable", "drifted": False, "retrain": False, "retrain_reason": None},
            "It did not retrain; stable: 95% of the features drifted.",
        ),
    ],
)
def test_why_it_did_or_did_not_retrain(drift: dict[str, Any], sentence: str) -> None:
    assert why(run(Kind.PIPELINE, drift=drift)) == [sentence]


def test_labels_that_wait_are_told_beside_a_quiet_verdict() -> None:
    waits = {"fired_on": "2024-03-08", "change_at": "2024-02-01", "retrain_words": "it waits for 6 more"}
    drift = {**DRIFT, "verdict": "stable", "drifted": False, "retrain": False, "retrain_reason": None}
    drift["label_watch"] = waits
    found = "the relation of features and label changed at 2024-02-01: it waits for 6 more."
    assert why(run(Kind.PIPELINE, drift=drift))[0].endswith(found)
    assert why(run(Kind.CHECK, drift=drift))[0].endswith(found)
    assert retrain_reason(drift, "growth") == f"No significant drift for growth. No retraining follows yet; {found}"
    held = {**drift, "drifted": True, "alarm_reason": "the cooldown lasts until Monday"}
    assert retrain_reason(held, "growth").endswith(found)
    assert why(run(Kind.PIPELINE, drift=held))[0].endswith(found)


@pytest.mark.parametrize(
    ("decision", "begins"),
    [
        ("promote", "It promoted version 2 to Production: better."),
        ("refuse", "It did not promote version 2: better."),
        ("keep", "It did not promote version 2, and the champion stays: better."),
        ("inconclusive", "It did not promote version 2: inconclusive: better."),
        ("await_approval", "It did not promote version 2 yet: a person must approve: better."),
        ("rollback", "It made version 2 the champion again: better."),
        ("transition", "It decided transition about version 2: better."),
    ],
)
def test_why_it_did_or_did_not_promote(decision: str, begins: str) -> None:
    promote = {"decision": decision, "version": "2", "reasons": ["better"]}
    assert why(run(Kind.PROMOTE, promote=promote)) == [begins]


def test_a_forced_retraining_says_that_it_was_asked_for() -> None:
    view = run(Kind.RETRAIN, RunState.RUNNING, at=StageState.RUNNING)
    assert why(view) == [
        "It retrains whatever the drift, since it was asked to: nightly.",
        "Its train stage is running.",
    ]


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (
            run(Kind.PIPELINE, RunState.DEAD, error="it crashed", at=StageState.DEAD),
            "It ended dead without an answer: it crashed",
        ),
        (run(Kind.PIPELINE, RunState.CANCELLED), "It was cancelled before it could answer."),
        (run(Kind.PIPELINE, RunState.SKIPPED), "It was skipped: nightly."),
        (
            run(Kind.PIPELINE, RunState.RUNNING, error="MLflow does not answer", at=StageState.QUEUED),
            "Its train stage is queued: MLflow does not answer.",
        ),
    ],
)
def test_a_run_without_an_answer_says_why(view: RunView, words: str) -> None:
    assert why(view) == [words]


def test_results_of_another_version_are_no_error() -> None:
    assert why(run(Kind.PIPELINE, drift={"x": 1}, promote={"y": 2}))
