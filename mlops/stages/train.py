"""The train stage: read, split by date, fit, judge on dates the model never saw, refit on all known labels, register.

Safe to run twice: one run registers one version, and a second try finds it.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import xgboost as xgb

from mlops.domain.drift.references.training_profile import profile_digest, write_profile
from mlops.domain.errors import AcisError, InsufficientData, UnusableModelFile
from mlops.domain.panel import CountedDates, date_facts
from mlops.domain.ports import PROFILE_TAG, XGBOOST_TAG, ModelVersion, Progress, expect
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.training.checks import as_result, read_checks
from mlops.domain.training.fingerprint import data_fingerprint
from mlops.domain.training.judged_twin import (
    HORIZON_TAG,
    OF_TWIN,
    SINCE_TAG,
    TWIN_TAG,
    judged_of,
    since_of,
    twin_result,
)
from mlops.domain.training.leakage import rows_to_look_at
from mlops.domain.training.metrics import LOWER_IS_BETTER, majority_class_share
from mlops.domain.training.refit_distance import refit_distance
from mlops.domain.training.since_change import least_dates, policy_since
from mlops.domain.training.splits import all_known
from mlops.domain.windows import resolve_as_of, training_window
from mlops.registry.projection import project
from mlops.registry.report_projection import report_tags
from mlops.stages.champion_base import Beginning, beginning, incremental_result
from mlops.stages.fitting import fit, fit_twin_and_refit
from mlops.stages.labelled_rows import read_labelled, read_recent, split_rows
from mlops.stages.leakage_checks import check_training
from mlops.stages.scoring import positive_probability, score_rows
from mlops.stages.training_record import (
    JudgedTwin,
    ScoredModel,
    failure_logged,
    held_out_plots,
    read_training_profile,
    record_of,
    tags_of,
)
from mlops.stages.tuning import refuse_search, tune, tuning_result
from mlops.strategies.file import restore

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlops.domain.panel import DateFact
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.promotion.records import Promotion
    from mlops.domain.training.metrics import Evaluation
    from mlops.domain.training.refit_distance import RefitDistance
    from mlops.domain.training.splits import Split
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.champion_base import ChampionBase
    from mlops.stages.fitting import Fitted, TwinAndRefit
    from mlops.stages.labelled_rows import LabelledRows
    from mlops.stages.table import TrainServices
    from mlops.stages.tuning import Tuned

log = structlog.get_logger(__name__)


def train(grant: Grant, services: TrainServices, keeper: LeaseKeeper) -> StageOutcome:
    """Register one version, scored on held-out dates, and hand it to promotion where the run's kind says so."""
    strategy = restore(grant.policy)
    as_of = resolve_as_of(grant.as_of, strategy, services.source, today=services.feature_day())
    evidence = _Evidence(services, grant, strategy)
    found = services.registry.find_by_ledger_run(strategy.model_name, grant.run_id, evidence=evidence)
    if found is not None and not evidence.lacks_twin(found):
        log.info("train.version_found", version=found.version)
        sha256, tags = evidence.registered(found), dict(found.tags)
    else:
        keeper.check_before_write()
        services.registry.close_stale_runs(grant.run_id, reason="the training was taken over by another worker")
        found, sha256, tags = _fit_and_register(grant, services, keeper, strategy, as_of, evidence)
    result = _result(found, strategy, tags, sha256=sha256)
    _to_staging(services, keeper, strategy, grant, result)
    keeper.check_before_write()
    _forget_trials(grant, services)
    ends = grant.kind is Kind.TRAIN
    return StageOutcome(
        result=result,
        run_state=RunState.SUCCEEDED if ends else None,
        next_stage=None if ends else Stage.PROMOTE,
        as_of=as_of,
    )


class _Evidence:
    """The ledger's knowledge of the files that this run's attempts made; `mlops.domain.ports.Evidence`."""

    def __init__(self, services: TrainServices, grant: Grant, strategy: Strategy) -> None:
        self._services, self._grant, self._strategy = services, grant, strategy
        self.made: str | None = None
        """Digest of the file that this attempt made"""

    def note(self, sha256: str) -> None:
        """Keep the digest, fenced by the grant. Raises LeaseLost."""
        self._services.ledger.note_model_file(self._grant, self._strategy.model_name, sha256)
        self.made = sha256

    def note_twin(self, sha256: str) -> None:
        """Keep the digest of the judged twin's file, fenced by the grant. Raises LeaseLost."""
        self._services.ledger.note_model_file(self._grant, self._strategy.model_name + OF_TWIN, sha256)

    def known(self) -> frozenset[str]:
        """Digests of what this attempt and those before it made."""
        return self._services.ledger.noted_model_files(self._grant.run_id)

    def lacks_twin(self, version: ModelVersion) -> bool:
        """Tell whether the version names a judged twin and no note of one is left, as in a ledger that was set back.

        Its tag alone counts for nothing: the training is repeated, and the very bytes are recognized.
        """
        twins = self._services.ledger.noted_model_files(self._grant.run_id, twins=True)
        return not twins and TWIN_TAG in version.tags

    def registered(self, version: ModelVersion) -> str:
        """Record the digest of the version's file under its number, and return it. Raises UnusableModelFile, LeaseLost.

        The file is read back from where everybody else will read it, whichever attempt wrote it. The twin that the
        version names must be one that an attempt made, too: its digest goes from the tag into the result.
        """
        content = self._services.registry.model_file(version.name, version.version)
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self.known():
            message = (
                f"version {version.version} of {version.name!r} was to be the file that this run made, and has sha256 "
                f"{sha256[:12]}…: it was changed while it was registered; train again"
            )
            raise UnusableModelFile(message)
        twins, twin = (
            self._services.ledger.noted_model_files(self._grant.run_id, twins=True),
            version.tags.get(TWIN_TAG),
        )
        if (twins or twin) and twin not in twins:
            message = (
                f"version {version.version} of {version.name!r} was to name a judged twin that this run made, and "
                f"names {'none' if twin is None else f'{twin[:12]}…'}: it was changed while it was registered; "
                f"train again"
            )
            raise UnusableModelFile(message)
        self._services.ledger.note_model_file(self._grant, version.name, sha256, version=version.version)
        return sha256


def _fit_and_register(
    grant: Grant, services: TrainServices, keeper: LeaseKeeper, strategy: Strategy, as_of: date, evidence: _Evidence
) -> tuple[ModelVersion, str, dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="acis-train-") as folder:
        with failure_logged(services.registry, keeper, grant, strategy, as_of=as_of):
            scored, profile = _scored(grant, services, keeper, strategy, as_of, Path(folder))
            keeper.check_before_write()
            check = report_tags(services.ledger, services.registry, grant.run_id)
            tags = {**tags_of(scored), **check, PROFILE_TAG: profile_digest(profile)}
            record = record_of(scored, tags, Path(folder), profile=profile)
        if TWIN_TAG in tags:
            evidence.note_twin(tags[TWIN_TAG])
        version = services.registry.log_training(record, before_write=keeper.check_before_write, evidence=evidence)
    log.info("train.registered", model=version.name, version=version.version, fit_s=round(scored.fitted.fit_s, 2))
    sha256 = evidence.registered(version)
    if sha256 != evidence.made:  # an attempt before made it, maybe of other rows
        return version, sha256, {**tags, **version.tags}
    # What was measured here, not what the registry gives back of it.
    measured = {name: value for name, value in record.metrics.items() if math.isfinite(value)}
    return replace(version, metrics=measured), sha256, {**version.tags, **tags}


def _scored(
    grant: Grant, services: TrainServices, keeper: LeaseKeeper, strategy: Strategy, as_of: date, folder: Path
) -> tuple[ScoredModel, bytes]:
    """The version, and the drift profile of what it was trained on; both of one state of the features."""
    keeper.report(Progress(done=0, total=4, unit="steps"))
    begins = Beginning()
    since = _since(grant, services, strategy, as_of)
    if grant.params.get("incremental") and since is not None:
        words = f"it begins at {since}, where the relation of features and label changed, so it was trained in full"
        begins = Beginning(warnings=(words,))
    elif grant.params.get("incremental"):
        begins = beginning(services.ledger, services.registry, services.source, strategy, namespace=grant.namespace)
    base = begins.base
    n_trials = grant.params.get("tune")
    if since is not None:
        strategy = replace(strategy, training=replace(strategy.training, training_days=(as_of - since).days + 1))
    with services.source.snapshot() as source:
        if base is None:
            rows = read_labelled(source, strategy, as_of=as_of)
            if since is not None:
                asked, strategy = strategy, _split_since(strategy, rows, since)
                if n_trials and strategy != asked:
                    words = f"the dates since {since} are too few to search parameters on, so none was searched"
                    begins, n_trials = replace(begins, warnings=(*begins.warnings, words)), None
            split = split_rows(rows, strategy.training)
        else:
            rows, split = read_recent(source, strategy, as_of=as_of, features=base.features)
            base.refuse_knowing(split)
        facts = _date_facts(source, strategy, rows, as_of=as_of, today=services.feature_day())
        trained_on = _registered_split(strategy, rows, split, base)
        first = trained_on.first_train if base is None else base.first_train(trained_on)
        profile = _profile(source, strategy, rows, first=first, last=trained_on.last_train, as_of=as_of)
    if base is not None:
        strategy = replace(strategy, training=base.continued(strategy.training))
    keeper.check()
    tuned = None
    if n_trials:
        tuned = _tuned(grant, services, keeper, strategy, rows, split, n_trials=n_trials)
        strategy = replace(strategy, training=tuned.applied(strategy.training))
    fits = _fits(services, keeper, strategy, rows, split, trained_on, base, folder)
    checks = check_training(
        strategy, rows, split, fits.evaluation, as_of=as_of, settings=services.settings, control=keeper
    )
    twin = None
    if fits.both is not None:
        distance = _distance(strategy, rows, split, fits.both)
        checks = replace(checks, findings=(*distance.findings(), *checks.findings))
        twin = JudgedTwin(fitted=fits.both.twin, file=fits.both.twin_file, distance=distance)
    scored = ScoredModel(
        grant=grant,
        strategy=strategy,
        as_of=as_of,
        rows=rows,
        split=split,
        trained_on=trained_on,
        fitted=fits.registered,
        twin=twin,
        probability=fits.probability,
        evaluation=fits.evaluation,
        plots=fits.plots,
        begins=begins,
        since=since,
        tuned=tuned,
        checks=checks,
        facts=tuple(fact.words for fact in facts),
    )
    return scored, profile


def _since(grant: Grant, services: TrainServices, strategy: Strategy, as_of: date) -> date | None:
    """The date from which rows are taken, where it is not the policy's window alone that decides; else None.

    Where the relation of features and label was found to have changed, as the check of this run says; then, as long as
    the window reaches back further, where it had changed before the champion was trained: as of a date that is not
    later, and for the label that the policy asks for.
    """
    check = grant.inputs.get("drift", {})
    if check.get("retrain_reason") == "labels":
        since = date.fromisoformat(check["label_watch"]["change_at"])
        return since if (as_of - since).days < strategy.training.training_days else None
    champion = services.ledger.champion(strategy.name, namespace=grant.namespace)
    facts, _ = services.ledger.training_facts(champion.identity)
    policy = strategy.training
    return since_of(
        facts,
        as_of=as_of,
        training_days=policy.training_days,
        label=policy.label,
        horizon_dates=policy.horizon_dates,
    )


def _split_since(strategy: Strategy, rows: LabelledRows, since: date) -> Strategy:
    """The strategy with the split of a training on rows from `since` on. Raises InsufficientData."""
    n_labelled, least = len(np.unique(rows.dates[rows.known])), least_dates(strategy.training.horizon_dates)
    if n_labelled < least:
        raise InsufficientData(
            f"a training on the dates since {since}, where the relation of features and label changed, needs {least} "
            f"of them with labels; found {n_labelled}, so {least - n_labelled} are missing: wait for them"
        )
    return replace(strategy, training=policy_since(strategy.training, n_labelled=n_labelled))


def _registered_split(strategy: Strategy, rows: LabelledRows, split: Split, base: ChampionBase | None) -> Split:
    """The split whose training part is what the registered model learns from."""
    if not strategy.training.refit:
        return split
    days = None if base is None else strategy.training.incremental_days
    return all_known(split, rows.dates, rows.known, days=days)


@dataclass(frozen=True, kw_only=True)
class _Fits:
    """What was fitted, and what the judged model says of the held-out dates."""

    registered: Fitted
    both: TwinAndRefit | None
    """None: what is registered was judged"""
    probability: npt.NDArray[np.float64]
    evaluation: Evaluation
    plots: Mapping[str, Path] | None
    """Pictures of the held-out dates, as far as they are drawn already"""


def _fits(
    services: TrainServices,
    keeper: LeaseKeeper,
    strategy: Strategy,
    rows: LabelledRows,
    split: Split,
    trained_on: Split,
    base: ChampionBase | None,
    folder: Path,
) -> _Fits:
    """Fit and judge; where the policy says so, refit, and meanwhile draw, which keeps one core busy for a second."""
    policy, settings = strategy.training, services.settings

    def judged(fitted: Fitted) -> tuple[npt.NDArray[np.float64], Evaluation]:
        probability = positive_probability(fitted.model, rows.x[split.holdout])
        share = majority_class_share(rows.y[split.train])
        return probability, score_rows(strategy, rows, split.holdout, probability, train_positive_share=share)

    if not policy.refit:
        continued = None if base is None else base.model
        fitted = fit(policy, rows, split, settings=settings, control=keeper, base=continued, resumes=True)
        probability, evaluation = judged(fitted)
        return _Fits(registered=fitted, both=None, probability=probability, evaluation=evaluation, plots=None)
    found: list[tuple[npt.NDArray[np.float64], Evaluation, Future[dict[str, Path]]]] = []
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="plots") as beside:

        def judge_and_draw(twin: Fitted) -> None:
            probability, evaluation = judged(twin)
            # Whoever stops the refit waits for the picture that is being written, not for all of them.
            drawn = beside.submit(
                held_out_plots, strategy, rows, split, probability, folder, is_twin=True, check=keeper.check
            )
            found.append((probability, evaluation, drawn))

        both = fit_twin_and_refit(
            policy,
            rows,
            split,
            trained_on,
            settings=settings,
            control=keeper,
            bases=(None, None) if base is None else (base.model, base.refit_model),
            on_twin=judge_and_draw,
        )
    ((probability, evaluation, drawn),) = found
    return _Fits(registered=both.refit, both=both, probability=probability, evaluation=evaluation, plots=drawn.result())


def _distance(strategy: Strategy, rows: LabelledRows, split: Split, both: TwinAndRefit) -> RefitDistance:
    looked_at = rows.x[rows_to_look_at(rows.x, rows.y, rows.marks, on=split.train)]
    of_twin, of_refit = (positive_probability(one.model, looked_at) for one in (both.twin, both.refit))
    return refit_distance(of_twin, of_refit, bound=strategy.findings.refit_distance)


def _tuned(
    grant: Grant,
    services: TrainServices,
    keeper: LeaseKeeper,
    strategy: Strategy,
    rows: LabelledRows,
    split: Split,
    *,
    n_trials: int,
) -> Tuned:
    policy = strategy.training
    refuse_search(policy)
    on = split.train
    keeper.check_before_write()
    study = services.studies.open(
        grant.run_id,
        maximise=policy.search_metric not in LOWER_IS_BETTER,
        seed=policy.seed,
        data=data_fingerprint(rows.x.where(on), rows.y[on], rows.dates[on], features=rows.features),
        library=f"XGBoost {xgb.__version__}",
    )
    return tune(strategy, rows, split, study, n_trials=n_trials, settings=services.settings, control=keeper)


def _forget_trials(grant: Grant, services: TrainServices) -> None:
    """The version says what came of them. Not worth failing a run for that has its version."""
    if not grant.params.get("tune"):
        return
    try:
        services.studies.delete(grant.run_id)
    except AcisError as exc:
        log.warning("train.study_not_deleted", error=str(exc), action="none: it costs a few rows")


def _date_facts(
    source: FeatureSource, strategy: Strategy, rows: LabelledRows, *, as_of: date, today: date
) -> tuple[DateFact, ...]:
    window = training_window(as_of, strategy.training)
    share = strategy.data.min_date_share
    counted = CountedDates(source=source, strategy=strategy.name, window=window, panel=rows.panel, min_share=share)
    return date_facts(counted, as_of=as_of, today=today)


def _profile(
    source: FeatureSource, strategy: Strategy, rows: LabelledRows, *, first: date, last: date, as_of: date
) -> bytes:
    """The drift profile of what is trained on."""
    return write_profile(
        read_training_profile(source, strategy, features=rows.features, first=first, last=last, as_of=as_of)
    )


def _result(version: ModelVersion, strategy: Strategy, tags: Mapping[str, str], *, sha256: str) -> dict[str, Any]:
    return {
        "model_name": version.name,
        "version": version.version,
        "model_sha256": sha256,
        "profile_sha256": tags.get(PROFILE_TAG),
        "mlflow_run_id": version.run_id,
        "metrics": dict(version.metrics),
        "label": strategy.training.label,
        "device": tags["device"],
        "xgboost": tags.get(XGBOOST_TAG),
        "data_fingerprint": tags["data_fingerprint"],
        "n_train": int(tags["n_train"]),
        "n_holdout": int(tags["n_holdout"]),
        "n_features": int(tags["n_features"]),
        "train_start": tags["train_start"],
        "train_end": tags["train_end"],
        SINCE_TAG: tags.get(SINCE_TAG),
        HORIZON_TAG: strategy.training.horizon_dates,
        **_held_out(tags),
        "fit_s": float(tags["fit_s"]),
        "n_validation": int(tags.get("n_validation", 0)),
        "resumed_from": tags.get("resumed_from"),
        "best_iteration": int(tags["best_iteration"]) if "best_iteration" in tags else None,
        "warnings": [tags["warning"]] if "warning" in tags else [],
        **twin_result(tags),
        **incremental_result(tags),
        **tuning_result(tags),
        **as_result(read_checks(tags)),
    }


def _held_out(tags: Mapping[str, str]) -> dict[str, str]:
    """First and last held-out date, whoever they were held out of."""
    first, last = judged_of(tags).holdout or (tags["holdout_start"], tags["holdout_end"])
    return {"holdout_start": str(first), "holdout_end": str(last)}


def _to_staging(
    services: TrainServices, keeper: LeaseKeeper, strategy: Strategy, grant: Grant, result: Mapping[str, Any]
) -> None:
    """Only a version that nobody has placed or decided about goes to Staging; every other one stays where it is."""
    found = services.registry.version(strategy.model_name, result["version"])
    identity = expect(found, ModelIdentity(sha256=result["model_sha256"], made_by=grant.run_id)).identity
    if found.stage != "None" or _decision_about(services, strategy, found) is not None:
        return
    keeper.check_before_write()
    seq = services.ledger.champion(strategy.name, namespace=grant.namespace).seq
    services.registry.apply_stage(strategy.model_name, found.version, "Staging", seq=seq, tags={}, identity=identity)
    meanwhile = _decision_about(services, strategy, found)
    if meanwhile is not None:
        project(meanwhile, services.registry, services.ledger)


def _decision_about(services: TrainServices, strategy: Strategy, version: ModelVersion) -> Promotion | None:
    """The newest decision about a version, whoever made it."""
    return services.ledger.newest_decision(strategy.name, version.version, version.identity)
