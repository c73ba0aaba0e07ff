"""Console output of a run, in the guide's words; pure text from the stages' results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlops.domain.records import Kind, RunState, RunView, Stage, StageView
from mlops.domain.training.fold_table import FoldScore, fold_rows

_NOT_PROMOTED = {
    "keep": "❌ Model not promoted: the champion stays",
    "inconclusive": "❌ Model not promoted: inconclusive, it stays in Staging as challenger",
}


def drift_lines(result: Mapping[str, Any]) -> list[str]:
    """The drift check's summary."""
    lines = [f"As of: {result['as_of']}"]
    if result.get("report_path"):
        lines.append(f"Drift report saved to: {result['report_path']}")
    lines += [
        "",
        "Drift Detection Summary:",
        f"  Features analyzed: {result['n_features']}",
        f"  Features with drift (KS): {result['drifted_features_ks']}",
        f"  Features with drift (PSI): {result['drifted_features_psi']}",
        f"  Drift ratio: {result['drift_ratio']:.2%}",
        f"  Retraining threshold: {result['alert_threshold']:.2%}",
        f"  Retraining needed: {result['retrain']}",
    ]
    lines.append(f"  Verdict: {result['verdict']}: {result['verdict_reason']}")
    lines += _each_reference_lines(result)
    lines += _calibration_lines(result)
    lines += _episode_lines(result)
    if result.get("feature_alarms"):
        names = ", ".join(result["feature_alarms"])
        lines.append(f"  Feed probably broken: {names} (jumped as no feature did in an earlier week)")
    change = result.get("correlation_alarm") or {}
    if change.get("alarm"):
        one, other = change["pair"]
        lines.append(
            f"  Correlation changed: {one} and {other}, {change['before']:.2f} before, {change['now']:.2f} now"
        )
    lines += _label_lines(result)
    lines += _reference_lines(result)
    lines += _sampling_lines(result)
    lines += _prediction_lines(result)
    if result.get("page_path"):
        lines.append(f"  To look at: {result['page_path']}")
    if result.get("mlflow_report_run_id"):
        lines.append(f"  In MLflow: {result.get('mlflow_report_url') or result['mlflow_report_run_id']}")
    return [*lines, ""]


def _calibration_lines(result: Mapping[str, Any]) -> list[str]:
    """Lines on the basis of the calibrated rule, and where the rules differ; none for earlier versions' results."""
    lines = []
    if result.get("verdict_basis"):
        lines.append(f"  Looked at: {result['verdict_basis']}")
    elif result.get("p_value") is not None:
        lines.append(
            f"  Calibrated on {result['n_placements']} earlier windows, {result['n_blocks']} without a common date; "
            f"seen for sure: a shift of every feature by {result['smallest_detectable_shift']:.2f} of its spread"
        )
    if result.get("difference"):
        # The reason stands in the verdict's line already.
        lines.append(f"  Rule in force: {result['rule']}; {result['difference'].partition(':')[0]}")
    return lines


def _label_lines(result: Mapping[str, Any]) -> list[str]:
    """What newly known labels say of the champion; none in earlier versions' results, or where there is none."""
    watched = result.get("label_watch")
    if not watched or (watched["why_not"] and result["retrain_reason"] == "no_champion"):
        return []
    lines = [f"  Labels: {watched['words']}"]
    if watched.get("retrain_words"):
        lines.append(f"  What follows: {watched['retrain_words']}")
    return lines


def _each_reference_lines(result: Mapping[str, Any]) -> list[str]:
    """Lines on what each reference says, where the champion's dates stand beside the trailing window."""
    found = result.get("references") or []
    if len(found) < 2:
        return []
    return [f"  Against {reference_words(one)}: {reference_verdict(one)}" for one in found]


def reference_words(one: Mapping[str, Any]) -> str:
    """What the current rows were compared with."""
    if one["used"] != "champion":
        return "the trailing window"
    version = one.get("model_version")
    return f"the dates that version {version} was trained on" if version else "the champion's training dates"


def reference_verdict(one: Mapping[str, Any]) -> str:
    """Its own verdict with p and level, or why it has none."""
    if one["verdict"] is None:
        return f"not compared: {one['missing']}"
    if one["p_value"] is None:
        return f"{one['verdict']}: {one['reason']}"
    return f"{one['verdict']}, p {one['p_value']:.3g} at level {one['alpha']:g}"


def _episode_lines(result: Mapping[str, Any]) -> list[str]:
    """Line on the episode of drift that goes on, or ended with this check."""
    found = result.get("episode")
    if not found or (found["ended_on"] and found["ended_on"] != result["as_of"]):
        return []
    if found["ended_on"]:
        return [f"  Episode of drift since {found['began']}: over; it last drifted on {found['last_drifted_on']}"]
    worst = f"worst on {found['worst_on']}"
    if found["worst_p_value"] is not None:
        worst += f", p {found['worst_p_value']:.3g}"
    counted = "1 drifted check" if found["n_drifted"] == 1 else f"{found['n_drifted']} drifted checks"
    retrained = f"; retrained {', '.join(found['retrained'])}" if found["retrained"] else ""
    return [f"  Episode of drift since {found['began']}: {counted}, {worst}{retrained}"]


def _reference_lines(result: Mapping[str, Any]) -> list[str]:
    """Lines on the reference; none for the documented window or earlier versions."""
    reference = result.get("reference") or {}
    if reference.get("choice", "trailing") == "trailing":
        return []
    return [f"  Reference: {reference['words']}"]


def _sampling_lines(result: Mapping[str, Any]) -> list[str]:
    """Lines on a sampled reference; none where all its rows were read."""
    sampling = result.get("sampling") or {}
    if "reference" not in sampling:
        return []
    rows = sampling["reference"]
    line = (
        f"  Reference sampled: {rows['n_kept']:,} of {rows['n_rows']:,} rows; with probability "
        f"{sampling['confidence']:.0%} a KS distance is within {sampling['ks_error_bound']:.4f} of that of all rows, "
        f"taking the hash that chose them for independent draws"
    )
    return [line]


def _prediction_lines(result: Mapping[str, Any]) -> list[str]:
    """Lines on the champion's predictions of both windows; none where it made none."""
    found = result.get("predictions")
    if not found or found["psi"] is None:
        return []
    share = found["positive_share"]
    line = (
        f"  Predictions of champion v{found['version']}: PSI {found['psi']:.3f}, KS p {found['ks_p']:.3g}; "
        f"called positive: {share['reference']:.0%} of the reference's rows, "
        f"{share['current']:.0%} of the current ones"
    )
    return [line]


def retrain_reason(result: Mapping[str, Any], strategy: str) -> str:
    """Why a retraining follows, or why none does."""
    if result["retrain_reason"] == "no_champion":
        return f"No Production version for {strategy}. Starting training..."
    if result["retrain_reason"] == "labels":
        changed = f"The relation of features and label changed at {result['label_watch']['change_at']} for {strategy}"
        return f"{changed}. Starting retraining on the dates since then{_diagnosis(result)}..."
    if result["retrain"]:
        return f"Drift detected for {strategy}. Starting retraining..."
    if result["drifted"] and result.get("alarm_reason"):
        return f"Drift detected for {strategy}, but no retraining follows: {result['alarm_reason']}{_waiting(result)}."
    if waiting := _waiting(result):
        return f"No significant drift for {strategy}. No retraining follows yet{waiting}."
    return f"No significant drift for {strategy}. No retraining needed."


def _waiting(result: Mapping[str, Any]) -> str:
    """What is waited for where the labels showed a change and no training follows from it; empty where none."""
    watched = result.get("label_watch") or {}
    if watched.get("fired_on") is None:
        return ""
    changed = f"the relation of features and label changed at {watched['change_at']}"
    return f"; {changed}: {watched['retrain_words']}"


def _diagnosis(result: Mapping[str, Any]) -> str:
    """What the features say beside a change that the labels showed."""
    return f"; the features' verdict is {result['verdict']}: {result['verdict_reason']}"


def train_lines(result: Mapping[str, Any]) -> list[str]:
    """The training's end."""
    metrics = result["metrics"]
    shown = ", ".join(f"{name} {metrics[name]:.3f}" for name in ("accuracy", "roc_auc", "f1_score") if name in metrics)
    judged = f"judged on {result['n_holdout']:,} rows from {result['holdout_start']} to {result['holdout_end']}"
    if twin := result.get("twin"):
        judged = f"as its twin, trained on {twin['n_train']:,} rows to {twin['train_end']}, was {judged}"
    since = result.get("trained_since")
    return [
        f"Retraining completed. Run ID: {result['mlflow_run_id']}",
        *([f"Rows from {since} on, where the relation of features and label changed"] if since else []),
        f"Trained on {result['n_train']:,} rows to {result['train_end']}, {judged}: {shown}",
        *_incremental_lines(result),
        *_check_lines(result),
        "",
    ]


def _incremental_lines(result: Mapping[str, Any]) -> list[str]:
    """Lines on what an incremental training continued, and warnings on how it was trained."""
    lines = _tuning_lines(result.get("tuning"))
    lines += [f"Warning: {words}" for words in result.get("warnings", ())]
    base = result.get("incremental")
    if not base:
        return lines
    return [
        (
            f"Continues champion {base['base_version']} on the days from {base['recent_start']}: "
            f"{base['total_rounds']} rounds in all, incremental update {base['update']}"
        ),
        *lines,
    ]


def _tuning_lines(tuning: Mapping[str, Any] | None) -> list[str]:
    if not tuning:
        return []
    own = tuning["own_value"]
    beside = f", the policy's own parameters {own:.4f}" if own is not None else ""
    chosen = ", ".join(f"{name} {_short(value)}" for name, value in tuning["params"].items())
    return [
        (
            f"Tuned in {tuning['n_trials']} trials on {tuning['n_folds']} folds ({tuning['n_pruned']} pruned): trial "
            f"{tuning['best']} is best, {tuning['metric']} {tuning['value']:.4f}{beside}"
        ),
        f"  {chosen}",
    ]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_lines(result: Mapping[str, Any]) -> list[str]:
    """The stability table, the random split and the findings; none for results of earlier versions."""
    lines = []
    if result.get("folds"):
        rows = fold_rows(FoldScore(**score) for score in result["folds"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["Walk-forward folds, all before the held-out dates:"]
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines += [f"  fold {score['fold']}: {score['note']}" for score in result["folds"] if score.get("note")]
        metrics = result["metrics"]
        lines += [
            f"  {name}: {metrics[f'fold_{name}_mean']:.3f} ± {metrics[f'fold_{name}_std']:.3f}"
            for name in ("accuracy", "roc_auc")
            if f"fold_{name}_std" in metrics
        ]
    split = result.get("random_split")
    if split:
        lines.append(
            f"A random split shows an accuracy of {split['accuracy']:.3f}, {split['gap']:+.3f} over the honest one; "
            f"its model scores {split['later_accuracy']:.3f} on the held-out dates "
            f"(majority {split['majority_accuracy']:.3f})"
        )
    lines += [f"Note: {note}" for note in result.get("notes", ())]
    return [*lines, *(f"Finding: {found['words']} [{found['code']}]" for found in result.get("findings", ()))]


def _promote_lines(result: Mapping[str, Any]) -> list[str]:
    """The decision with its reasons."""
    metrics = result["metrics"]
    lines = [f"Model: {result['model_name']} v{result['version']}"]
    if "accuracy" in metrics:
        lines.append(f"Accuracy: {metrics['accuracy']:.3f}")
    required = result["required"] if metrics else {}
    if required.get("min_accuracy") is not None:
        lines.append(f"Required: {required['min_accuracy']:.3f}")
    lines += [
        f"Required {name.removeprefix('min_')}: {value:.3f}"
        for name, value in required.items()
        if value is not None and name != "min_accuracy"
    ]
    lines += _comparison_lines(result.get("comparison"))
    if result["promoted"]:
        lines.append("✅ Model promoted to Production")
    elif result["decision"] == "await_approval":
        lines.append("⏸ Model passes and awaits approval: `acis approve RUN_ID --reason …`, or `acis reject`")
    else:
        lines.append(_NOT_PROMOTED.get(result["decision"], "❌ Model not promoted"))
    lines += [f"  - {reason}" for reason in result["reasons"]]
    return lines


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """Two versions beside each other: what the test says, and what a person should know."""
    first, second = result["first"], result["second"]
    return [f"v{second['version']} against v{first['version']}: {result['words']}", *result["findings"]]


def _comparison_lines(test: Mapping[str, Any] | None) -> list[str]:
    """The paired test in a line; none where nothing was tested, or by an earlier version."""
    if not test:
        return []
    return [
        (
            f"Against champion v{test['champion_version']}: {test['metric']} {test['difference']:+.4f} "
            f"({test['low']:+.4f} to {test['high']:+.4f}), better with probability {test['deflated_better']:.3f}, "
            f"worse with {test['deflated_worse']:.3f}"
            + (f"; p-value {test['p_value']:.2g} of at most {test['level']:.2g}" if test.get("level") else "")
        )
    ]


def predict_lines(result: Mapping[str, Any]) -> list[str]:
    """What was predicted, or why nothing was."""
    if result.get("version") is None:
        return [f"As of: {result.get('as_of') or 'not decided'}", *(f"  - {reason}" for reason in result["reasons"])]
    lines = [
        f"As of: {result['as_of']}",
        (
            f"Predicted by version {result['version']} (sha256 {result['model_sha256'][:12]}): "
            f"{result['n_rows']:,} rows, {result['positive_share']:.1%} of them positive"
        ),
    ]
    if result.get("predicted_by"):
        lines.append(f"  Predicted already, by run {result['predicted_by']}; nothing was written")
    return [*lines, *(f"  {_beside_words(one)}" for one in result.get("beside", ()))]


def _beside_words(one: Mapping[str, Any]) -> str:
    """What a version said beside the champion, or why it did not."""
    who = {"challenger": "Challenger", "former": "Former champion"}.get(one["variant"], one["variant"])
    named = f"{who} {one['version']}" if one["version"] else who
    if one["why_not"]:
        return f"{named} did not predict: {one['why_not']}"
    return f"{named} predicted {one['n_rows']:,} rows, {one['positive_share']:.1%} of them positive"


def score_lines(result: Mapping[str, Any]) -> list[str]:
    """What came of the predictions, in short; `acis live` has the whole."""
    if result.get("reasons"):
        return [f"As of: {result['as_of']}", *(f"  - {reason}" for reason in result["reasons"])]
    lines = [
        f"As of: {result['as_of']}",
        (
            f"Predictions: {result['n_predictions']:,} of {result['n_days']:,} days; {result['n_labelled']:,} have an "
            f"outcome, {result['n_unripe']:,} are not ripe yet"
        ),
        (
            f"Days that say something new: {result['n_new_days']:,}, of which {result['n_restated_days']:,} restate "
            "what was known"
        ),
    ]
    lines += [f"  {words}" for words in result["words"]]
    if result.get("retrain_words"):
        lines.append(f"  {result['retrain_words']}")
    return [*lines, *experiment_words(result.get("experiment"))]


def experiment_words(looked: Mapping[str, Any] | None) -> list[str]:
    """What a look at the experiment found, in a sentence and its numbers; empty where none runs."""
    if not looked:
        return []
    share = "" if looked["mode"] == "shadow" else f" at {looked['share']:.0%}"
    between = f"Experiment {looked['id']}, version {looked['challenger']} beside {looked['champion']}"
    lines = [f"{between} ({looked['mode']}{share}): {looked['words']}"]
    if looked["mean"] is not None:
        interval = "no interval yet" if looked["low"] is None else f"{looked['low']:+.3g} to {looked['high']:+.3g}"
        lines.append(f"  {looked['measure']} {looked['mean']:+.3g} a day over {looked['n_days']} days; {interval}")
    if looked["decision"] == "await_approval":
        lines.append("  It awaits a person's approval: `acis approve` or `acis reject`, with this run's id")
    return lines


def without_outcome_words(counts: Mapping[str, Any]) -> str | None:
    """How many predictions will have no outcome, and why; None where all have one or may have."""
    parts = []
    if counts.get("n_without_outcome"):
        parts.append(f"{counts['n_without_outcome']:,} are ripe and their label has no value")
    if counts.get("n_gone"):
        parts.append(f"the rows of {counts['n_gone']:,} are not in the feature view any more")
    return f"Predictions without an outcome: {'; '.join(parts)}" if parts else None


def decay_words(decay: Mapping[str, Any]) -> list[str]:
    """What the test of the champion found, in a sentence, or why it was not made; empty for neither."""
    if decay["words"]:
        return [f"{decay['words'][0].upper()}{decay['words'][1:]}"]
    return [f"Decay was not tested: {decay['why_not']}"] if decay["why_not"] else []


def rollback_words(rollback: Mapping[str, Any]) -> list[str]:
    """What became of the watch over the champion, in a sentence; empty where nothing speaks against it."""
    if not rollback or rollback["action"] == "none":
        return []
    words = f"{rollback['words'][0].upper()}{rollback['words'][1:]}"
    return [f"{words}. Version {rollback['to']} is the champion again" if rollback["action"] == "rollback" else words]


def stage_lines(strategy: str, kind: Kind, stage: StageView) -> list[str]:
    """Lines of a finished stage; none while it runs, and none of an error, which the command prints itself."""
    if not stage.result:
        return []
    if stage.stage is Stage.DRIFT:
        follows = _what_follows(stage.result, strategy) if kind is Kind.PIPELINE else []
        return [*drift_lines(stage.result), *follows]
    if stage.stage is Stage.TRAIN:
        return train_lines(stage.result)
    if stage.stage is Stage.PREDICT:
        return predict_lines(stage.result)
    if stage.stage is Stage.SCORE:
        return score_lines(stage.result)
    return comparison_lines(stage.result) if kind is Kind.COMPARE else _promote_lines(stage.result)


def _what_follows(result: Mapping[str, Any], strategy: str) -> list[str]:
    trains = ["Training XGBoost model..."] if result["retrain_reason"] else []
    return [retrain_reason(result, strategy), *trains]


def counts(runs: Iterable[RunView]) -> dict[str, int]:
    """The pipeline summary's numbers."""
    views = list(runs)
    results = [{stage.stage: stage.result or {} for stage in view.stages} for view in views]
    return {
        "total_strategies": len(views),
        "drift_detected": sum(bool(result.get(Stage.DRIFT, {}).get("drifted")) for result in results),
        "models_retrained": sum("version" in result.get(Stage.TRAIN, {}) for result in results),
        "promoted": sum(bool(result.get(Stage.PROMOTE, {}).get("promoted")) for result in results),
        "errors": sum(is_error(view) for view in views),
    }


def summary_lines(numbers: Mapping[str, int]) -> list[str]:
    """The guide's pipeline summary."""
    return [
        "Pipeline Summary:",
        f"Total strategies processed: {numbers['total_strategies']}",
        f"Drift detected: {numbers['drift_detected']}",
        f"Models retrained: {numbers['models_retrained']}",
        f"Promoted to production: {numbers['promoted']}",
        f"Errors: {numbers['errors']}",
    ]


def is_error(view: RunView) -> bool:
    """The run ended without an answer; a refusal is an answer."""
    return view.state in (RunState.FAILED, RunState.DEAD, RunState.CANCELLED)


def result_of(view: RunView, stage: Stage) -> Mapping[str, Any]:
    """Result of one stage of the run; empty where it has none."""
    return next((one.result or {} for one in view.stages if one.stage is stage), {})


def error_of(view: RunView) -> str:
    """The run's error in words; empty where there is none."""
    errors: Sequence[str] = [stage.error for stage in view.stages if stage.error]
    return errors[-1] if errors and is_error(view) else ("" if not is_error(view) else f"the run ended {view.state}")


# ---- Why a run did or did not retrain, and why it did or did not promote: a sentence each; pure text from what it left

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
    found = [
        _why_retrained(run, results),
        _why_promoted(run, results.get(Stage.PROMOTE)),
        _why_predicted(results.get(Stage.PREDICT)),
        _why_scored(results.get(Stage.SCORE)),
        _why_ended(run),
    ]
    return [sentence for sentence in found if sentence] or [f"It was asked for: {run.reason}."]


def _why_retrained(run: RunView, results: Mapping[Stage, Mapping[str, Any]]) -> str:
    drift = results.get(Stage.DRIFT)
    if drift is None:
        asked = run.kind in (Kind.RETRAIN, Kind.TRAIN)
        return f"It retrains whatever the drift, since it was asked to: {run.reason}." if asked else ""
    verdict, reason = drift.get("verdict", "no verdict"), drift.get("verdict_reason", "no reason was noted")
    if run.kind is Kind.CHECK:
        return f"It checked and does not retrain, as it was asked to; {verdict}: {reason}{_waiting(drift)}."
    if drift.get("retrain_reason") == "no_champion":
        return f"It retrained because nothing was in production, whatever the drift; {verdict}: {reason}."
    return _why_labels(drift) or _why_drift(drift, verdict, reason)


def _why_labels(drift: Mapping[str, Any]) -> str:
    """Why a change of the labels' relation led to the retraining; empty where it did not."""
    if drift.get("retrain_reason") != "labels":
        return ""
    watched = drift["label_watch"]
    because = f"the relation of features and label changed at {watched['change_at']} ({watched['retrain_words']})"
    return f"It retrained because {because}{_diagnosis(drift)}."


def _why_drift(drift: Mapping[str, Any], verdict: str, reason: str) -> str:
    if drift.get("retrain"):
        alarm = f" ({drift['alarm_reason']})" if drift.get("alarm_reason") else ""
        return f"It retrained because of drift: {reason}{alarm}."
    if drift.get("drifted") and drift.get("alarm_reason"):
        return f"It did not retrain although the features drifted: {drift['alarm_reason']}; {reason}{_waiting(drift)}."
    return f"It did not retrain; {verdict}: {reason}{_waiting(drift)}."


def _why_promoted(run: RunView, result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    if run.kind is Kind.COMPARE:
        return f"It compared and decided nothing: {result.get('words', 'nothing was noted')}."
    decision = result.get("decision", "nothing")
    decided = _DECIDED.get(decision, "It decided {decision} about version {version}")
    because = "; ".join(result.get("reasons", ())) or "no reason was noted"
    return f"{decided.format(version=result.get('version', '?'), decision=decision)}: {because}."


def _why_predicted(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    if result.get("version") is None:
        return f"It predicted nothing: {'; '.join(result.get('reasons', ())) or 'no reason was noted'}."
    if result.get("predicted_by"):
        return f"It wrote nothing: run {result['predicted_by']} had predicted {result['as_of']} by the same model."
    return f"It predicted {result['n_rows']:,} rows of {result['as_of']} by version {result['version']}."


def _why_scored(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    if result.get("reasons"):
        return f"It scored nothing: {'; '.join(result['reasons'])}."
    new = result["n_new_days"]
    found = f"It scored {result['n_days']:,} days of predictions, {new:,} of which say something new"
    return f"{found}. {result['retrain_words']}." if result.get("retrain_words") else f"{found}."


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
