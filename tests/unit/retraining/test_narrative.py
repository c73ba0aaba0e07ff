"""What a run prints is the guide's text, word for word where the guide shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlops.domain.records import Executor, Kind, RunState, RunView, Stage, StageState, StageView
from mlops.reporting.narrative import counts, drift_lines, error_of, stage_lines, summary_lines

NOW = datetime(2025, 1, 2, tzinfo=UTC)

DRIFT: dict[str, Any] = {
    "as_of": "2025-01-02",
    "report_path": "/tmp/drift_report_growth_20250102.json",
    "n_features": 45,
    "drifted_features_ks": 12,
    "drifted_features_psi": 15,
    "drift_ratio": 15 / 45,
    "alert_threshold": 0.3,
    "verdict": "drifted",
    "verdict_reason": "15 of 45 features",
    "drifted": True,
    "retrain": True,
    "retrain_reason": "drift",
}
TRAIN: dict[str, Any] = {
    "mlflow_run_id": "abc123xyz",
    "version": "4",
    "metrics": {"accuracy": 0.742, "roc_auc": 0.8, "f1_score": 0.71},
    "n_train": 12345,
    "n_holdout": 678,
    "train_end": "2024-09-30",
    "holdout_start": "2024-11-01",
    "holdout_end": "2024-12-02",
}
PROMOTE: dict[str, Any] = {
    "model_name": "acis_growth_classifier",
    "version": "4",
    "metrics": {"accuracy": 0.742},
    "required": {"min_accuracy": 0.7, "min_roc_auc": None, "min_lift_over_majority": None, "min_f1": None},
    "promoted": True,
    "decision": "promote",
    "reasons": [],
}
GUIDE_DRIFT = """\
Drift report saved to: /tmp/drift_report_growth_20250102.json

Drift Detection Summary:
  Features analyzed: 45
  Features with drift (KS): 12
  Features with drift (PSI): 15
  Drift ratio: 33.33%
  Retraining threshold: 30.00%
  Retraining needed: True
  Verdict: drifted: 15 of 45 features

Drift detected for growth. Starting retraining...
Training XGBoost model..."""
GUIDE_PROMOTE = """\
Model: acis_growth_classifier v4
Accuracy: 0.742
Required: 0.700
✅ Model promoted to Production"""
GUIDE_SUMMARY = """\
Pipeline Summary:
Total strategies processed: 4
Drift detected: 2
Models retrained: 2
Promoted to production: 2
Errors: 0"""


def stage_view(stage: Stage, result: dict[str, Any] | None, error: str | None = None) -> StageView:
    return StageView(
        stage=stage, state=StageState.SUCCEEDED, attempt=1, token=1, publish_no=1, worker="w1", queued_at=NOW,
        started_at=NOW, finished_at=NOW, not_before=None, progress=None, result=result, error=error, task_id=None,
    )  # fmt: skip


def run_view(state: RunState, *stages: StageView) -> RunView:
    return RunView(
        run_id="run-1", namespace="live", strategy="growth", kind=Kind.PIPELINE, state=state, slot=None,
        reason="a test", requested_by="test", executor=Executor.INLINE, as_of=None, policy={}, params={}, outcome=None,
        cancel_requested=False, created_at=NOW, finished_at=NOW, stages=stages,
    )  # fmt: skip


def text(stage: Stage, result: dict[str, Any], kind: Kind = Kind.PIPELINE) -> str:
    return "\n".join(stage_lines("growth", kind, stage_view(stage, result)))


def test_a_drift_check_prints_the_guides_lines_after_its_date() -> None:
    assert text(Stage.DRIFT, DRIFT) == f"As of: 2025-01-02\n{GUIDE_DRIFT}"


def test_a_training_names_the_registrys_run_as_the_guide_does() -> None:
    assert text(Stage.TRAIN, TRAIN).splitlines()[0] == "Retraining completed. Run ID: abc123xyz"
    assert "12,345 rows to 2024-09-30, judged on 678 rows from 2024-11-01 to 2024-12-02" in text(Stage.TRAIN, TRAIN)


def test_a_promotion_prints_the_guides_lines() -> None:
    assert text(Stage.PROMOTE, PROMOTE) == GUIDE_PROMOTE


def test_a_refusal_prints_its_reasons() -> None:
    refused = PROMOTE | {"promoted": False, "decision": "refuse", "reasons": ["accuracy 0.5 is below"]}
    assert text(Stage.PROMOTE, refused).splitlines()[-2:] == ["❌ Model not promoted", "  - accuracy 0.5 is below"]


COMPARED = {
    "champion_version": "3",
    "metric": "roc_auc",
    "difference": 0.0123,
    "low": -0.02,
    "high": 0.04,
    "deflated_better": 0.7123,
    "deflated_worse": 0.01,
}


@pytest.mark.parametrize(
    ("decision", "line"),
    [
        ("keep", "❌ Model not promoted: the champion stays"),
        ("inconclusive", "❌ Model not promoted: inconclusive, it stays in Staging as challenger"),
    ],
)
def test_a_comparison_says_its_answer_with_the_probability(decision: str, line: str) -> None:
    compared = PROMOTE | {"promoted": False, "decision": decision, "comparison": COMPARED}
    assert text(Stage.PROMOTE, compared).splitlines()[-2:] == [
        "Against champion v3: roc_auc +0.0123 (-0.0200 to +0.0400), better with probability 0.712, worse with 0.010",
        line,
    ]


def test_a_result_of_an_earlier_version_has_no_comparison() -> None:
    assert "Against" not in text(Stage.PROMOTE, PROMOTE)


def test_a_version_that_waits_for_a_person_says_so() -> None:
    assert "awaits approval" in text(Stage.PROMOTE, PROMOTE | {"promoted": False, "decision": "await_approval"})


def test_a_gate_that_is_not_applied_is_not_printed_and_any_other_is() -> None:
    other = PROMOTE | {"required": {"min_accuracy": None, "min_roc_auc": 0.6}}
    assert "Required roc_auc: 0.600" in text(Stage.PROMOTE, other)
    assert "Required: " not in text(Stage.PROMOTE, other)


def test_a_rollback_has_no_metrics_and_prints_none() -> None:
    lines = text(Stage.PROMOTE, PROMOTE | {"metrics": {}, "decision": "rollback"})
    assert "Accuracy" not in lines
    assert "Required" not in lines


@pytest.mark.parametrize(
    ("result", "line"),
    [
        ({"retrain": False, "retrain_reason": None}, "No significant drift for growth. No retraining needed."),
        ({"retrain": False, "retrain_reason": "no_champion"}, "No Production version for growth. Starting training..."),
    ],
)
def test_what_follows_a_check_is_said(result: dict[str, Any], line: str) -> None:
    assert line in text(Stage.DRIFT, DRIFT | result)


def test_a_check_alone_promises_no_training() -> None:
    assert "Starting" not in text(Stage.DRIFT, DRIFT, Kind.CHECK)


def test_a_report_that_was_not_written_is_not_announced() -> None:
    assert "saved to" not in text(Stage.DRIFT, DRIFT | {"report_path": None})


def test_too_few_rows_are_no_quiet_no() -> None:
    said = text(Stage.DRIFT, DRIFT | {"verdict": "insufficient", "verdict_reason": "56 rows"})
    assert "Verdict: insufficient: 56 rows" in said


def test_a_stage_without_a_result_prints_nothing() -> None:
    assert stage_lines("growth", Kind.PIPELINE, stage_view(Stage.DRIFT, None, error="no rows")) == []


def test_the_summary_is_the_guides() -> None:
    retrained = run_view(
        RunState.SUCCEEDED,
        stage_view(Stage.DRIFT, DRIFT),
        stage_view(Stage.TRAIN, TRAIN),
        stage_view(Stage.PROMOTE, PROMOTE),
    )
    calm = run_view(RunState.SUCCEEDED, stage_view(Stage.DRIFT, DRIFT | {"drifted": False}))
    assert "\n".join(summary_lines(counts([retrained, retrained, calm, calm]))) == GUIDE_SUMMARY


@pytest.mark.parametrize(
    ("state", "n_errors"),
    [
        (RunState.SUCCEEDED, 0),
        (RunState.REFUSED, 0),
        (RunState.AWAITING_APPROVAL, 0),
        (RunState.FAILED, 1),
        (RunState.CANCELLED, 1),
        (RunState.DEAD, 1),
    ],
)
def test_a_refusal_is_an_answer_and_no_error(state: RunState, n_errors: int) -> None:
    assert counts([run_view(state)])["errors"] == n_errors


def test_a_runs_error_is_its_last_stages() -> None:
    stages = (stage_view(Stage.DRIFT, {}, error="an outage before"), stage_view(Stage.TRAIN, None, error="no rows"))
    assert error_of(run_view(RunState.FAILED, *stages)) == "no rows"
    assert error_of(run_view(RunState.SUCCEEDED, *stages)) == ""
    assert error_of(run_view(RunState.DEAD)) == "the run ended dead"


def test_a_sampled_reference_is_told_with_its_bound_and_a_sampled_history_alone_is_not() -> None:
    reference = {"n_rows": 10_000_000, "n_kept": 1_000_312, "share": 0.1}
    sampling = {"reference": reference, "ks_error_bound": 0.001358, "confidence": 0.95}
    lines = drift_lines({**DRIFT, "sampling": sampling})
    assert (
        "  Reference sampled: 1,000,312 of 10,000,000 rows; with probability 95% a KS distance is within 0.0014 of "
        "that of all rows, taking the hash that chose them for independent draws"
    ) in lines
    only_history = {"history": reference, "ks_error_bound": None, "confidence": None}
    assert drift_lines({**DRIFT, "sampling": only_history}) == drift_lines(DRIFT)


def test_the_champions_predictions_are_told_where_it_was_asked() -> None:
    found = {"version": "4", "psi": 0.1234, "ks_p": 0.00012, "positive_share": {"reference": 0.52, "current": 0.61}}
    assert (
        "  Predictions of champion v4: PSI 0.123, KS p 0.00012; called positive: 52% of the reference's rows, "
        "61% of the current ones"
    ) in drift_lines({**DRIFT, "predictions": found})
    assert drift_lines({**DRIFT, "predictions": None}) == drift_lines(DRIFT)
