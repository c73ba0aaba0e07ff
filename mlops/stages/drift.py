"""The drift stage: compare the current window with the reference, and say whether a training follows.

Safe to run twice: it writes nothing but its own result and the report's file, and to a ledger that never had a
champion the one that the registry shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from mlops.domain.drift.data_quality import DataFinding
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.episodes import EPISODE_DAYS, CheckedDay, RetrainingPlan, plan_retraining
from mlops.domain.drift.outputs import TargetReport, target_drift
from mlops.domain.drift.placements import rows_kept
from mlops.domain.drift.references.frozen import detect_drift_from_profile
from mlops.domain.drift.references.seasons import detect_seasonal_drift, season_windows
from mlops.domain.drift.references.two_references import detect_drift_by_both
from mlops.domain.drift.report import (
    TRAILING,
    ChampionVerdict,
    DriftReport,
    ReferenceUsed,
    prediction_json,
    target_json,
)
from mlops.domain.drift.weights import importance_weights, weights_json
from mlops.domain.errors import ConfigurationError, RegistryError, RegistryUnavailable
from mlops.domain.frame import ColumnRole, feature_frame
from mlops.domain.ports import PROFILE_TAG, Ledger, Progress
from mlops.domain.promotion.records import Champion
from mlops.domain.records import LIVE, Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.sampling import sampling_json
from mlops.domain.windows import resolve_as_of
from mlops.reporting.report_files import write_page, write_report
from mlops.stages.champion import NOT_ASKED, ask_champion, compare_predictions
from mlops.stages.drift_windows import WindowsRead, dates_of, read_windows, with_enough_rows
from mlops.stages.live.label_watch import settle_labels, watch_champion
from mlops.strategies.file import restore

if TYPE_CHECKING:
    from datetime import datetime

    from mlops.domain.drift.references.training_profile import DriftProfile
    from mlops.domain.drift.weights import Weights
    from mlops.domain.frame import FeatureFrame
    from mlops.domain.policies import DriftPolicy, Reference, Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.champion import AskedChampion
    from mlops.stages.table import DriftServices

log = structlog.get_logger(__name__)

# ---- The champion's part in a check: weights of the features, and its predictions beside them
#
# What the champion cannot add is a finding in words.


def settled_weights(
    asked: AskedChampion, strategy: Strategy, features: Sequence[str]
) -> tuple[dict[str, float] | None, list[DataFinding]]:
    """Weights of the features: None for equal ones, with the reason where the policy wants the importance."""
    if strategy.drift.weights == "equal":
        return None, []
    why_not = asked.why_not or "there is no champion"
    if asked.model is not None:
        weights = importance_weights(asked.model.importance(), features)
        if weights is not None:
            return weights, []
        why_not = f"champion {asked.model.version} draws on none of the check's features"
    log.warning("drift.weights_equal", strategy=strategy.name, error=why_not)
    message = f"all features count alike, although the policy weights them by importance: {why_not}"
    return None, [DataFinding(code="equal_weights", column=None, message=message, is_drift=False)]


def _compared_predictions(
    asked: AskedChampion, read: WindowsRead, reference: FeatureFrame, current: FeatureFrame, strategy: Strategy
) -> tuple[dict[str, Any] | None, list[DataFinding]]:
    """The report's `predictions`: None where there is no champion or the policy wants none, or with the reason."""
    why_not = asked.why_not
    if strategy.drift.predictions and asked.model is not None:
        try:
            predictions = compare_predictions(asked.model, reference, current, strategy.drift)
        except NOT_ASKED as exc:
            why_not = f"champion {asked.model.version} cannot be asked: {exc}"
        else:
            return prediction_json(predictions, read.reference_window, read.current_window), []
    if not strategy.drift.predictions or why_not is None:
        return None, []
    log.warning("drift.predictions_not_compared", strategy=strategy.name, error=why_not)
    message = f"the predictions are not compared: {why_not}"
    return None, [DataFinding(code="predictions_not_compared", column=None, message=message, is_drift=False)]


# ---- The reference of a check, by the policy's choice, and the comparison with it
#
# Where the champion's profile cannot be had, the trailing window stands in for it and a finding says why: a check is
# never failed for that. Called by the drift stage.


@dataclass(frozen=True, kw_only=True)
class ReferenceChoice:
    """The reference that a check has."""

    used: ReferenceUsed
    profile: DriftProfile | None = None
    """Stands for the reference's rows; None: they are read"""
    beside: tuple[DriftProfile, ReferenceUsed] | None = None
    """The champion's profile, with which the current rows are compared too"""
    why_not_beside: str | None = None
    """Why there is none, where the policy wants one"""
    findings: tuple[DataFinding, ...] = ()
    """Why it is not the one of the policy"""


def _choose_reference(
    services: DriftServices, strategy: Strategy, champion: Champion, source: FeatureSource, *, as_of: date
) -> ReferenceChoice:
    """The policy's reference, or the trailing window with the reason why not."""
    if strategy.data.reference == "trailing":
        return _trailing_with_champion(services, strategy, champion, as_of=as_of)
    if strategy.data.reference == "season":
        return _seasonal(source, strategy, as_of=as_of)
    return _of_champion(services, strategy, champion, as_of=as_of)


def _trailing_with_champion(
    services: DriftServices, strategy: Strategy, champion: Champion, *, as_of: date
) -> ReferenceChoice:
    """The trailing window, with the champion's profile beside it where the policy wants it and it can be had."""
    wanted = strategy.data.champion_beside and strategy.drift.rule == "calibrated"
    if not wanted or champion.version is None:
        return ReferenceChoice(used=TRAILING)
    found = _of_champion(services, strategy, champion, as_of=as_of)
    if found.profile is None:
        return ReferenceChoice(used=TRAILING, why_not_beside=found.why_not_beside)
    return ReferenceChoice(used=TRAILING, beside=(found.profile, found.used))


def _of_champion(services: DriftServices, strategy: Strategy, champion: Champion, *, as_of: date) -> ReferenceChoice:
    if champion.version is None:
        return _trailing("there is no champion")
    version = f"version {champion.version} of {strategy.model_name}"
    recorded, _ = services.ledger.training_facts(champion.identity)
    if PROFILE_TAG not in recorded:
        return _trailing(
            f"the ledger has no digest of the profile of {version}: an earlier version of this system trained it, or "
            "nobody here; retrain it"
        )
    try:
        stored = services.profiles.get(
            strategy.model_name,
            champion.version,
            seq=champion.seq,
            sha256=recorded[PROFILE_TAG],
            identity=champion.identity,
        )
    except (RegistryUnavailable, RegistryError, ConfigurationError) as exc:
        log.warning("drift.profile_not_had", version=champion.version, error=str(exc), next="the trailing window")
        return _trailing(f"the profile of {version} cannot be had: {exc}")
    profile = stored.profile
    if profile.strategy != strategy.name:
        return _trailing(f"the profile of {version} is of strategy {profile.strategy!r}")
    if profile.as_of > as_of:
        return _trailing(f"{version} was trained as of {profile.as_of}, and would know what came after {as_of}")
    return ReferenceChoice(
        profile=profile,
        used=ReferenceUsed(
            choice="champion",
            used="champion",
            model_name=strategy.model_name,
            model_version=champion.version,
            profile_sha256=stored.sha256,
        ),
    )


def not_compared(choice: ReferenceChoice, strategy: Strategy, targets: Sequence[str]) -> list[DataFinding]:
    """Findings on what a reference without rows leaves out: a profile knows neither predictions nor targets."""
    if choice.profile is None:
        return []
    why = "the reference is the champion's training profile, which holds no rows"
    found = []
    if strategy.drift.predictions:
        message = f"the champion's predictions are not compared: {why}"
        found.append(DataFinding(code="predictions_not_compared", column=None, message=message, is_drift=False))
    if targets:
        message = f"{', '.join(targets)} not compared: {why}"
        found.append(DataFinding(code="targets_not_compared", column=None, message=message, is_drift=False))
    return found


def compare(
    read: WindowsRead,
    strategy: Strategy,
    choice: ReferenceChoice,
    *,
    frames: tuple[FeatureFrame, FeatureFrame, FeatureFrame],
    weights: Weights | None,
    timestamp: datetime,
) -> DriftReport:
    """The report of what was read. frames: history, reference and current. Raises EmptyWindow, UnusableFeatures."""
    history, reference, current = frames
    if choice.profile is not None:
        return detect_drift_from_profile(
            choice.profile,
            current,
            strategy.drift,
            as_of=read.as_of,
            current_window=read.current_window,
            timestamp=timestamp,
            min_current_rows=strategy.data.min_current_rows,
            used=choice.used,
            weights=weights,
        )
    if choice.used.windows:
        return detect_seasonal_drift(
            history,
            reference,
            current,
            strategy.drift,
            strategy.data,
            strategy=strategy.name,
            as_of=read.as_of,
            timestamp=timestamp,
            current_window=read.current_window,
            weights=weights,
        )

    def against_trailing(policy: DriftPolicy) -> DriftReport:
        return detect_drift(
            reference,
            current,
            policy,
            strategy=strategy.name,
            as_of=read.as_of,
            reference_window=read.reference_window,
            current_window=read.current_window,
            timestamp=timestamp,
            min_current_rows=strategy.data.min_current_rows,
            history=history,
            used=choice.used,
            findings=choice.findings,
            weights=weights,
        )

    if choice.beside is None:
        missing = choice.why_not_beside if choice.used == TRAILING else None
        return replace(against_trailing(strategy.drift), champion=ChampionVerdict(missing=missing) if missing else None)
    profile, used = choice.beside
    return detect_drift_by_both(
        against_trailing,
        profile,
        current,
        strategy.drift,
        current_start=read.current_window.start,
        used=used,
        min_current_rows=strategy.data.min_current_rows,
        weights=weights,
    )


def _seasonal(source: FeatureSource, strategy: Strategy, *, as_of: date) -> ReferenceChoice:
    parts = season_windows(as_of, strategy.data)
    if not any(source.count(strategy.name, part) for part in parts):
        years = strategy.data.season_years
        return _trailing(f"there are no rows of this season of {years} earlier years", choice="season")
    return ReferenceChoice(used=ReferenceUsed(choice="season", used="season", windows=parts))


def _trailing(why: str, *, choice: Reference = "champion") -> ReferenceChoice:
    message = f"{why}; compared with the trailing window in its place"
    finding = DataFinding(code="reference_unavailable", column=None, message=message, is_drift=False)
    return ReferenceChoice(used=ReferenceUsed(choice=choice, used="trailing"), findings=(finding,), why_not_beside=why)


def _report_file(document: dict[str, Any], strategy: Strategy, as_of: date, services: DriftServices) -> Path | None:
    owner = services.ledger.identity().ledger_id
    return write_report(document, strategy.name, as_of, services.settings.report_dir, owner=owner)


def check_drift(grant: Grant, services: DriftServices, keeper: LeaseKeeper) -> StageOutcome:
    """The verdict with its report, and what follows from it."""
    strategy = restore(grant.policy)
    keeper.report(Progress(done=0, total=3, unit="steps"))
    champion = services.ledger.champion(strategy.name, namespace=grant.namespace)
    with services.source.snapshot() as source:
        as_of = resolve_as_of(grant.as_of, strategy, source, today=services.feature_day())
        asked_days, strategy = strategy.data.current_days, with_enough_rows(source, strategy, as_of=as_of)
        choice = _choose_reference(services, strategy, champion, source, as_of=as_of)
        read = read_windows(
            source,
            strategy,
            as_of=as_of,
            today=services.feature_day(),
            frozen=choice.profile.trained if choice.profile else None,
            seasons=choice.used.windows,
        )
        labels = watch_champion(services, source, strategy, champion, as_of=as_of)
    labels = settle_labels(services.ledger, grant, labels, as_of=as_of)
    keeper.report(Progress(done=1, total=3, unit="steps"))
    keeper.check()
    # A profile holds no rows that the model could be asked about.
    asking = replace(strategy, drift=replace(strategy.drift, predictions=False)) if choice.profile else strategy
    asked = ask_champion(services, asking, champion)
    weights, unweighted = settled_weights(asked, asking, read.features)
    reference, current = feature_frame(read.reference, read.features), feature_frame(read.current, read.features)
    history = feature_frame(read.history, read.features)
    report = compare(
        read,
        strategy,
        choice,
        frames=(history, reference, current),
        weights=weights,
        timestamp=services.now(),
    )
    if strategy.data.current_days != asked_days:
        report = replace(report, stretched_from_days=asked_days)
    document = report.to_json()
    document["label_watch"] = labels
    document["targets"] = {name: target_json(target) for name, target in _known_targets(read, strategy).items()}
    document["data"]["sampling"] = sampling_json(
        read.sampling, n_reference=read.reference.num_rows, n_history=read.history.num_rows
    )
    document["data"]["weights"] = weights_json(weights, champion.version)
    document["predictions"], unpredicted = _compared_predictions(asked, read, reference, current, asking)
    document["data"]["columns"] = [asdict(column) for column in read.columns]
    untold = [*read.findings, *unweighted, *unpredicted, *not_compared(choice, strategy, read.targets)]
    document["findings"] += [asdict(finding) for finding in [*untold, *_left_out(read.columns)]]
    plan = settle_plan(services.ledger, strategy, grant, report)
    document["episode"] = plan.to_json()
    # A replay's report is in the ledger; the documented place is the live loop's.
    is_live = grant.namespace == LIVE
    path = _report_file(document, strategy, read.as_of, services) if is_live else None
    earlier = services.ledger.earlier_checks(strategy.name, before=read.as_of) if path else []
    page = write_page({**document, "run_id": grant.run_id}, earlier, path.with_suffix(".html")) if path else None
    reason = "no_champion" if champion.version is None else "drift" if plan.retrain else None
    if labels["retrain"]:  # drift, where there is any, is the diagnosis beside it
        reason = "labels"
    trains = grant.kind is Kind.PIPELINE and reason is not None
    summary = document["summary"]
    result: dict[str, Any] = {
        "as_of": read.as_of.isoformat(),
        "verdict": report.verdict,
        "verdict_reason": report.reason,
        "verdict_basis": report.basis,
        "drifted": report.drifted,
        "retrain": plan.retrain or labels["retrain"],
        "alarm_reason": plan.reason,
        "episode": plan.to_json(),
        "retrain_reason": reason,
        "label_watch": {name: part for name, part in labels.items() if name != "path"},
        "n_features": document["n_features"],
        "n_reference": document["n_samples_reference"],
        "n_current": document["n_samples_current"],
        "windows": document["windows"],
        "reference": document["data"]["reference"],
        "drifted_features_ks": summary["drifted_features_ks"],
        "drifted_features_psi": summary["drifted_features_psi"],
        "drift_ratio": summary["drift_ratio"],
        "alert_threshold": strategy.drift.alert_share,
        "sampling": document["data"]["sampling"],
        "weights": document["data"]["weights"]["by"],
        "predictions": document["predictions"],
        "feature_alarms": document["feature_alarms"]["alarms"],
        "correlation_alarm": document["correlation_alarm"],
        "n_findings": len(document["findings"]),
        "rule": strategy.drift.rule,
        "raw_verdict": report.raw.verdict,
        "calibrated_verdict": report.calibrated.verdict,
        "p_value": report.p_value,
        "references": verdicts_by_reference(document),
        "n_placements": report.calibration.n_placements,
        "n_blocks": report.calibration.n_blocks,
        "smallest_detectable_shift": report.calibration.critical,
        "smallest_p_value": report.calibration.smallest_p_value,
        "difference": document["verdict"]["difference"],
        "report_path": str(path) if path else None,
        "page_path": str(page) if page else None,
    }
    log.info(
        "drift.checked",
        verdict=report.verdict,
        share=summary["drift_ratio"],
        p_value=report.p_value,
        retrain_reason=reason,
    )
    if report.calibration.jumps.alarms:
        log.warning(
            "drift.feature_jumped",
            strategy=strategy.name,
            features=list(report.calibration.jumps.alarms),
            action="look at the feeds of these features; a retraining would learn from what they deliver",
        )
    if report.calibration.correlations.is_alarm:
        log.warning(
            "drift.correlation_changed",
            strategy=strategy.name,
            pair=report.calibration.correlations.pair,
            action="look at how these two features are made; the verdict decides whether to retrain",
        )
    return StageOutcome(
        result=result,
        run_state=None if trains else RunState.SUCCEEDED,
        next_stage=Stage.TRAIN if trains else None,
        as_of=read.as_of,
        drift_report=document,
    )


def _known_targets(read: WindowsRead, strategy: Strategy) -> dict[str, TargetReport]:
    """Drift of what is predicted, over the newest windows in which it is known."""
    read_once = (read.history, read.current) if read.is_in_history else (read.history, read.reference, read.current)
    tables = [table for table in read_once if table.num_rows]
    if not read.targets:
        return {}
    if read.thinned:
        # Windows of a target lie across those of the features: every date counts alike again.
        tables = [table.take(rows_kept(dates_of(table), tickers=table.column("ticker"))) for table in tables]
    frames = [feature_frame(table.select(["date", *read.targets]), read.targets) for table in tables]
    dates = np.concatenate([dates_of(table) for table in tables])
    values = {name: np.concatenate([frame.numbers[name] for frame in frames]) for name in read.targets}
    horizon = strategy.training.horizon_dates
    return target_drift(values, dates, horizon_dates=horizon, data=strategy.data, drift=strategy.drift)


def settle_plan(ledger: Ledger, strategy: Strategy, grant: Grant, report: DriftReport) -> RetrainingPlan:
    """What follows from the check by the plan of its episode, of what the ledger knows of earlier dates."""
    as_of = report.as_of
    since = as_of - timedelta(days=EPISODE_DAYS)
    return plan_retraining(
        CheckedDay(as_of=as_of, verdict=report.verdict, p_value=report.p_value),
        ledger.checked_days(strategy.name, since=since, before=as_of, namespace=grant.namespace),
        ledger.retrained_days(strategy.name, until=as_of, without_run=grant.run_id, namespace=grant.namespace),
        strategy.drift,
        cooldown_days=strategy.cooldown_days,
        horizon_dates=strategy.training.horizon_dates,
    )


def verdicts_by_reference(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Both references' own verdicts in short; one where the champion's dates were not asked."""
    verdict, calibration, champion = (document[key] for key in ("verdict", "calibration", "champion_reference"))
    own = verdict["trailing"] or verdict["calibrated"]
    used = document["data"]["reference"]
    found = [
        {
            "used": used["used"],
            "verdict": own["verdict"],
            "reason": own["reason"],
            "p_value": calibration["p_value"],
            "alpha": calibration["alpha"],
        }
    ]
    if champion is not None:
        version = (champion["reference"] or {}).get("model_version")
        found.append(
            {
                "used": "champion",
                "model_version": version,
                **{key: champion[key] for key in ("verdict", "reason", "p_value", "alpha", "missing")},
            }
        )
    return found


def _left_out(columns: Iterable[ColumnRole]) -> list[DataFinding]:
    return [
        DataFinding(code="left_out", column=one.name, message=f"{one.name}: left out: {one.reason}", is_drift=False)
        for one in columns
        if one.role == "left out" and not one.is_chosen
    ]
