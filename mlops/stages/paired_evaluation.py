"""Two versions' judged models scored on the held-out dates that neither was trained on.

What is compared of a refitted version is its judged twin: the refit knows the dates.

Called by the promote stage and by `acis compare`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.domain.errors import (
    EmptyWindow,
    InsufficientData,
    MissingColumn,
    ModelNotFound,
    RegistryError,
    UnrecordedModelFile,
    UnusableFeatures,
    UnusableModelFile,
    VersionNotFound,
)
from mlops.domain.ports import XGBOOST_TAG, ModelRegistry, expect
from mlops.domain.promotion.bootstrap import MIN_BLOCKS
from mlops.domain.promotion.date_parts import Parts, ScoredRows, date_parts, has_parts, influence
from mlops.domain.promotion.evidence import CommonDates
from mlops.domain.promotion.gates import apply_gates
from mlops.domain.promotion.paired import PairedTest, Untestable, compare_on_dates, paired_test_in_words
from mlops.domain.records import RunState, StageOutcome
from mlops.domain.training.feature_names import feature_names
from mlops.domain.training.fingerprint import data_fingerprint
from mlops.domain.training.judged_twin import judged_of, since_of
from mlops.domain.training.metrics import majority_class_share
from mlops.domain.training.trading import is_long_label
from mlops.registry.adoption import as_recorded, trained_as_of
from mlops.stages.judged_model import JudgedModel, load_judged
from mlops.stages.labelled_rows import read_labelled
from mlops.stages.scoring import positive_probability, score_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    import numpy.typing as npt

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, Ledger, ModelVersion
    from mlops.domain.promotion.records import ModelIdentity
    from mlops.domain.records import Grant
    from mlops.stages.labelled_rows import LabelledRows

#: Newest dates before a change by which the champion's spread is known: a year of trading.
_DATES_BEFORE = 250
#: What keeps a model from being scored; anything else (a registry that refuses, say) fails the stage.
UNSCORED = (UnusableModelFile, MissingColumn, UnusableFeatures, EmptyWindow, InsufficientData)


@dataclass(frozen=True, kw_only=True)
class PairedEvaluation:
    """Scores of two versions on the dates that neither was trained on."""

    common: CommonDates | None
    unusable: str | None = None
    """Why the champion could not be scored; then there are no common dates."""
    findings: tuple[str, ...] = ()
    twins: tuple[str | None, str | None] = (None, None)
    """SHA-256 of the judged twins that were scored, the challenger's first; None where the version was"""


def evaluate_pair(
    ledger: Ledger,
    registry: ModelRegistry,
    features: FeatureSource,
    strategy: Strategy,
    challenger: ModelVersion,
    champion_version: str,
    *,
    as_of: date,
    identity: ModelIdentity,
) -> PairedEvaluation:
    """Score both as of a date, on one state of the features.

    identity : what the champion is known by, by the ledger
    Raises one of UNSCORED where the challenger cannot be scored beside the champion: nobody knows which is better.
    """
    with features.snapshot() as source:
        read = _Reader(ledger=ledger, registry=registry, strategy=strategy, source=source, as_of=as_of)
        return _evaluated(read, challenger, champion_version, identity=identity)


def _evaluated(
    read: _Reader, challenger: ModelVersion, champion_version: str, *, identity: ModelIdentity
) -> PairedEvaluation:
    ledger, strategy = read.ledger, read.strategy
    ours = read.scorable(challenger, ledger.recorded_model(challenger.name, challenger.version))
    if ours.judged.finding is not None:
        raise UnusableModelFile(ours.judged.finding)
    held = _held_out(ours.rows, challenger)
    try:
        champion = as_recorded(ledger, expect(read.registry.version(challenger.name, champion_version), identity))
        theirs = read.scorable(champion, identity, read=ours.rows)
    except UnrecordedModelFile:
        raise  # whoever swaps the champion's file does not open the way for another version
    except (*UNSCORED, ModelNotFound, VersionNotFound) as exc:
        return PairedEvaluation(common=None, unusable=str(exc))
    mixed = _mixed_versions(challenger, champion)
    gap = strategy.training.horizon_dates + strategy.training.embargo_dates
    unseen, left_out = _unseen(held, ours.rows, champion, theirs.judged.train_end, gap_dates=gap)
    stands_for_itself = () if theirs.judged.finding is None else (theirs.judged.finding,)
    findings = (*stands_for_itself, *left_out, *mixed)
    scored = _scored(strategy, ours, unseen, before=held[0])
    since = read.trained_since(challenger)
    earlier = None
    try:
        beside = _scored(strategy, theirs, unseen, before=held[0])
        if since is not None and len(unseen) < MIN_BLOCKS * max(1, strategy.training.horizon_dates):
            earlier = _before(strategy, theirs, since, champion, gap_dates=gap)
    except UnusableModelFile as exc:
        return PairedEvaluation(common=None, unusable=str(exc), findings=findings)
    return PairedEvaluation(
        common=_common(strategy, scored, beside, unseen, earlier=earlier),
        findings=findings,
        twins=(ours.judged.twin_sha256, theirs.judged.twin_sha256),
    )


def _mixed_versions(challenger: ModelVersion, champion: ModelVersion) -> tuple[str, ...]:
    """A finding where the two were trained with two versions of XGBoost: the same rows then give other trees."""
    ours, theirs = challenger.tags.get(XGBOOST_TAG), champion.tags.get(XGBOOST_TAG)
    if ours == theirs or ours is None:
        return ()
    said = f"XGBoost {theirs}" if theirs else "a version of XGBoost that it does not say"
    pair = f"version {challenger.version} was trained with XGBoost {ours}, version {champion.version} with {said}"
    return (f"{pair}: a part of the difference may be the library's",)


@dataclass(frozen=True, kw_only=True)
class _Scorable:
    """A judged model with the rows of its own features."""

    judged: JudgedModel
    rows: LabelledRows


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A model's rows of some dates, and what it says of them."""

    rows: ScoredRows
    metrics: Mapping[str, float]
    fingerprint: str


def _before(
    strategy: Strategy, champion: _Scorable, since: date, version: ModelVersion, *, gap_dates: int
) -> npt.NDArray[np.float64] | None:
    """(d,) influence of the champion's newest dates before a change, of those that it was not trained on."""
    rows, day = champion.rows, np.datetime64(since, "D")
    labelled = np.unique(rows.dates[rows.known & (rows.dates < day)])
    if not labelled.size or champion.judged.train_end is None:
        return None
    try:
        dates, _ = _unseen(labelled, rows, version, champion.judged.train_end, gap_dates=gap_dates)
    except InsufficientData:
        return None
    scored = _scored_rows(champion, dates[-_DATES_BEFORE:])
    metric = strategy.promotion.main_metric
    if _why_no_parts(metric, strategy, scored) is not None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):  # labels that are all alike
        found = influence(metric, date_parts(metric, scored))
    return found if np.isfinite(found).all() else None


def _common(
    strategy: Strategy,
    challenger: _Scored,
    champion: _Scored,
    dates: npt.NDArray[np.datetime64],
    *,
    earlier: npt.NDArray[np.float64] | None,
) -> CommonDates:
    if not np.array_equal(challenger.rows.dates, champion.rows.dates):
        message = "the feature view changed while both versions were scored; promote again"
        raise InsufficientData(message)
    metric = strategy.promotion.main_metric
    why = _why_no_parts(metric, strategy, challenger.rows)
    parts: tuple[Parts | None, Parts | None] = (None, None)
    if why is None:
        parts = (date_parts(metric, challenger.rows), date_parts(metric, champion.rows))
    return CommonDates(
        first=str(dates[0]),
        last=str(dates[-1]),
        n_dates=len(dates),
        n_rows=len(challenger.rows.y),
        data_fingerprint=challenger.fingerprint,
        champion_data_fingerprint=champion.fingerprint,
        is_enough=len(dates) >= MIN_BLOCKS * max(1, strategy.training.horizon_dates),
        challenger=challenger.metrics,
        champion=champion.metrics,
        parts_challenger=parts[0],
        parts_champion=parts[1],
        why_no_parts=why,
        predictions_challenger=_digest(challenger.rows.probability),
        predictions_champion=_digest(champion.rows.probability),
        champion_before=earlier,
        gate_parts={
            gate.metric: date_parts(gate.metric, champion.rows)
            for gate in apply_gates(strategy.promotion, champion.metrics)
            if not gate.passed and gate.found is not None and has_parts(gate.metric)
        },
    )


def _digest(probability: npt.NDArray[np.floating[Any]]) -> str:
    return hashlib.sha256(np.ascontiguousarray(probability, dtype="<f8").tobytes()).hexdigest()


def _why_no_parts(metric: str, strategy: Strategy, rows: ScoredRows) -> str | None:
    if metric != "sharpe":
        return None
    if rows.target_return is None:
        return "sharpe is undefined: the features hold no target_return"
    if not is_long_label(strategy.training.label):
        return f"sharpe is undefined: the label {strategy.training.label!r} does not say when to be long"
    return None


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Where judged models and their rows are read from."""

    ledger: Ledger
    registry: ModelRegistry
    strategy: Strategy
    source: FeatureSource
    as_of: date

    def trained_since(self, version: ModelVersion) -> date | None:
        """The date since which the ledger says that it was trained; None where the policy's window alone decided."""
        facts, _ = self.ledger.training_facts(self.ledger.recorded_model(version.name, version.version))
        policy = self.strategy.training
        return since_of(
            facts,
            as_of=self.as_of,
            training_days=policy.training_days,
            label=policy.label,
            horizon_dates=policy.horizon_dates,
        )

    def scorable(
        self, version: ModelVersion, identity: ModelIdentity, *, read: LabelledRows | None = None
    ) -> _Scorable:
        """The judged model of a version, which the ledger knows by `identity`, with its rows.

        read : rows that were read already, which serve where the features are the same
        """
        judged = load_judged(self.ledger, self.registry, version, identity)
        features = feature_names(judged.classifier.get_booster())
        if features is None:
            message = f"version {version.version} does not say the names of its features; train it again here"
            raise MissingColumn(message)
        if read is not None and read.features == features:
            return _Scorable(judged=judged, rows=read)
        rows = read_labelled(self.source, self.strategy, as_of=self.as_of, features=features)
        return _Scorable(judged=judged, rows=rows)


def _scored(
    strategy: Strategy, scorable: _Scorable, dates: npt.NDArray[np.datetime64], *, before: np.datetime64
) -> _Scored:
    """Score a model on those dates; rows before a date give the majority class to compare with."""
    rows, scored = scorable.rows, _scored_rows(scorable, dates)
    on = rows.known & np.isin(rows.dates, dates)
    share = majority_class_share(rows.y[rows.known & (rows.dates < before)])
    metrics = score_rows(strategy, rows, on, scored.probability, train_positive_share=share).metrics
    return _Scored(
        rows=scored,
        metrics=metrics,
        fingerprint=data_fingerprint(rows.x[on], rows.y[on], rows.dates[on], features=rows.features),
    )


def _scored_rows(scorable: _Scorable, dates: npt.NDArray[np.datetime64]) -> ScoredRows:
    """The labelled rows of those dates with what the judged model says of them."""
    rows = scorable.rows
    on = rows.known & np.isin(rows.dates, dates)
    return ScoredRows(
        dates=rows.dates[on],
        y=rows.y[on],
        probability=positive_probability(scorable.judged.classifier, rows.x[on]),
        target_return=None if rows.target_return is None else rows.target_return[on],
    )


def _held_out(rows: LabelledRows, version: ModelVersion) -> npt.NDArray[np.datetime64]:
    """Dates with labels that a version held out, ascending. Raises EmptyWindow."""
    first, last = _holdout(version)
    held = np.unique(rows.dates[rows.known & (rows.dates >= first) & (rows.dates <= last)])
    if not held.size:
        message = f"there are no labelled rows from {first} to {last}, which version {version.version} held out"
        raise EmptyWindow(message)
    return held


def _unseen(
    held: npt.NDArray[np.datetime64],
    rows: LabelledRows,
    champion: ModelVersion,
    last_trained: date | None,
    *,
    gap_dates: int,
) -> tuple[npt.NDArray[np.datetime64], tuple[str, ...]]:
    """The dates that the champion's judged model was not trained on either, by the rule of its own split.

    `gap_dates` panel dates (the label's horizon and the embargo) lie between its last training date and the first
    that is compared.
    Raises InsufficientData where none is left.
    """
    if last_trained is None:
        return held, (f"champion {champion.version} does not say what it was trained on; it may know these dates",)
    train_end = np.datetime64(last_trained, "D")
    panel = np.unique(rows.dates)
    first = int(np.searchsorted(panel, train_end, side="right")) - 1 + max(1, gap_dates)
    unseen = held[np.searchsorted(panel, held) >= first]
    left_out = len(held) - len(unseen)
    if not unseen.size:
        message = f"champion {champion.version} was trained up to {train_end} and knows all {left_out} held-out dates"
        raise InsufficientData(message)
    if not left_out:
        return unseen, ()
    finding = (
        f"{left_out} of {len(held)} held-out dates are left out, since champion {champion.version} "
        f"was trained up to {train_end}"
    )
    return unseen, (finding,)


def _holdout(version: ModelVersion) -> tuple[np.datetime64, np.datetime64]:
    """First and last held-out date. Raises InsufficientData for a version that was registered elsewhere."""
    held = judged_of(version.tags).holdout
    if held is None:
        message = f"version {version.version} does not say which dates it held out; train it here"
        raise InsufficientData(message)
    return np.datetime64(held[0], "D"), np.datetime64(held[1], "D")


# ---- Two versions of one strategy side by side, with the paired test where both can be scored on common dates
#
# Called by `acis compare`; nothing is decided and nothing is written.


@dataclass(frozen=True, kw_only=True)
class VersionComparison:
    """Both versions as they were logged, and what a test says of them."""

    champion: ModelVersion
    challenger: ModelVersion
    test: PairedTest | None
    words: str
    """The test as a sentence, or why there is none."""
    findings: tuple[str, ...]


def compare_versions(
    ledger: Ledger,
    registry: ModelRegistry,
    source: FeatureSource,
    strategy: Strategy,
    champion: str,
    challenger: str,
    *,
    today: date,
) -> VersionComparison:
    """Test `challenger` on the dates that it held out and `champion` was not trained on either.

    Not deflated: it is a look, not a decision. Raises ModelNotFound, VersionNotFound, and what the registry and the
    features raise.
    """
    old, new = (as_recorded(ledger, registry.version(strategy.model_name, one)) for one in (champion, challenger))
    test: PairedTest | Untestable
    findings: tuple[str, ...] = ()
    try:
        paired = evaluate_pair(
            ledger,
            registry,
            source,
            strategy,
            new,
            champion,
            as_of=trained_as_of(new) or today,
            identity=ledger.recorded_model(strategy.model_name, champion),
        )
    except UNSCORED as exc:
        test = Untestable(words=str(exc))
    else:
        findings = paired.findings
        test = Untestable(words=str(paired.unusable)) if paired.common is None else _test(strategy, paired.common)
    return VersionComparison(
        champion=old,
        challenger=new,
        test=test if isinstance(test, PairedTest) else None,
        words=paired_test_in_words(test, champion)
        if isinstance(test, PairedTest)
        else f"they cannot be tested: {test.words}",
        findings=findings,
    )


def _test(strategy: Strategy, common: CommonDates) -> PairedTest | Untestable:
    if common.parts_challenger is None or common.parts_champion is None:
        return Untestable(words=common.why_no_parts or "nothing is known of these dates")
    policy = strategy.promotion
    return compare_on_dates(
        policy.main_metric,
        challenger=common.parts_challenger,
        champion=common.parts_champion,
        horizon_dates=strategy.training.horizon_dates,
        margin=policy.margin,
        confidence=policy.confidence,
    )


# ---- Two versions beside each other, as a run on a worker: metrics, parameters, importance, the paired test
#
# Safe to run twice: nothing is decided, and nothing is written but the stage's own result.


def compare(
    grant: Grant,
    ledger: Ledger,
    registry: ModelRegistry,
    source: FeatureSource,
    strategy: Strategy,
    *,
    today: date,
) -> StageOutcome:
    """Version `second` of the parameters beside `first`. Raises what the registry and the features raise."""
    first, second = str(grant.params["first"]), str(grant.params["second"])
    found = compare_versions(ledger, registry, source, strategy, first, second, today=today)
    result = {
        "first": _side(registry, found.champion),
        "second": _side(registry, found.challenger),
        "test": asdict(found.test) if found.test else None,
        "words": found.words,
        "findings": list(found.findings),
    }
    return StageOutcome(result=result, run_state=RunState.SUCCEEDED, as_of=grant.as_of)


def _side(registry: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    try:
        facts = registry.training_facts(version)
    except RegistryError:
        params, importance = {}, {}
    else:
        params, importance = dict(facts.params), dict(facts.importance)
    return {
        "version": version.version,
        "stage": version.stage,
        "metrics": dict(version.metrics),
        "params": params,
        "importance": importance,
        "trained_at": version.created_at.isoformat(),
    }
