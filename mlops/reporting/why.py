"""Why a run did or did not retrain, and why it did or did not promote: a sentence each; pure text from what it left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops.domain.records import Kind, RunState, RunView, Stage
from mlops.reporting.narrative import error_of, is_error

_DECIDED = {
    "promote": "It promoted version {version} to Production",
    "override": "It promoted version {version} to Production because a person asked for it",
    "rollback": "It made version {version} the champion again",
    "keep": "It did not promote version {version}, and the champion stays",
    "inconclusive": "It did not promote version {version}: inconclusive",
    "refuse": "It did not promote version {version}",
    "await_approval": "It did not promote version {version} yet: a person must approve",
}


def why(run: RunView) -> list[str]:
    """The sentences, in the order of the stages; at least one, whatever the run is."""
    results = {stage.stage: stage.result for stage in run.stages if stage.result}
    found = [_why_retrained(run, results), _why_promoted(run, results.get(Stage.PROMOTE)), _why_ended(run)]
    return [sentence for sentence in found if sentence] or [f"It was asked for: {run.reason}."]


def _why_retrained(run: RunView, results: Mapping[Stage, Mapping[str, Any]]) -> str:
    drift = results.get(Stage.DRIFT)
    if drift is None:
        asked = run.kind in (Kind.RETRAIN, Kind.TRAIN)
        return f"It retrains whatever the drift, since it was asked to: {run.reason}." if asked else ""
    verdict, reason = drift.get("verdict", "no verdict"), drift.get("verdict_reason", "no reason was noted")
    if run.kind is Kind.CHECK:
        return f"It checked and does not retrain, as it was asked to; {verdict}: {reason}."
    if drift.get("retrain_reason") == "no_champion":
        return f"It retrained because nothing was in production, whatever the drift; {verdict}: {reason}."
    if drift.get("retrain"):
        alarm = f" ({drift['alarm_reason']})" if drift.get("alarm_reason") else ""
        return f"It retrained because of drift: {reason}{alarm}."
    if drift.get("drifted") and drift.get("alarm_reason"):
        return f"It did not retrain although the features drifted: {drift['alarm_reason']}; {reason}."
    return f"It did not retrain; {verdict}: {reason}."


def _why_promoted(run: RunView, result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    if run.kind is Kind.COMPARE:
        return f"It compared and decided nothing: {result.get('words', 'nothing was noted')}."
    decision = result.get("decision", "nothing")
    decided = _DECIDED.get(decision, "It decided {decision} about version {version}")
    because = "; ".join(result.get("reasons", ())) or "no reason was noted"
    return f"{decided.format(version=result.get('version', '?'), decision=decision)}: {because}."


def _why_ended(run: RunView) -> str:
    if run.state is RunState.SKIPPED:
        return f"It was skipped: {run.reason}."
    if run.state is RunState.CANCELLED:
        return "It was cancelled before it could answer."
    if is_error(run):
        return f"It ended {run.state} without an answer: {error_of(run)}"
    if run.state in (RunState.QUEUED, RunState.RUNNING) and run.stages:
        stage = run.stages[-1]
        waits = f": {stage.error}" if stage.error and stage.state == "queued" else ""
        return f"Its {stage.stage} stage is {stage.state}{waits}."
    return ""
