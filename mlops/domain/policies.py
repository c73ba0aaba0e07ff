"""What a strategy is: its label, its windows, and the rules that decide about it.

Values only, each with the bounds between which it means something. pydantic checks them where values come from
outside: `mlops.strategies.file` reads them from TOML, from edits and from the snapshot that every run keeps; the stages
receive a `Strategy` and never look at the file. The program's own copies (`dataclasses.replace`) are not checked again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mlops.domain.experiments.policy import ExperimentPolicy, GuardrailPolicy

#: Columns of the feature view that identify a row and are never features.
KEY_COLUMNS = ("ticker", "date", "strategy")
#: Any column with this prefix looks into the future and is never a feature.
TARGET_PREFIX = "target_"

#: Most trials of one tuning: with more, the deflated test of the promotion lets nothing pass.
MAX_TRIALS = 500
#: Most walk-forward folds: with more, a fold of a 2-year window has fewer dates than one label looks ahead.
MAX_FOLDS = 20
#: Fewest rows of a sampled window: a smaller sample saves nothing and shows less, its bound is 0.0043.
LEAST_SAMPLE = 100_000

# Where a value has no natural bound, one that no strategy reaches, so that a slip of a finger is refused: 100 years.
_Days = Annotated[int, Field(ge=1, le=36_500)]
_DaysFrom0 = Annotated[int, Field(ge=0, le=36_500)]
_Dates = Annotated[int, Field(ge=1, le=10_000)]
_DatesFrom0 = Annotated[int, Field(ge=0, le=10_000)]
_Rounds = Annotated[int, Field(ge=1, le=100_000)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Level = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
_LevelFrom0 = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
_Psi = Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]
_Suspicion = Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]  # one above 1 is never reached
_Deadline = Annotated[float, Field(gt=0, le=2_592_000, allow_inf_nan=False)]  # 30 days
_Bar = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]

Device = Literal["auto", "cpu", "gpu"]
AsOf = Literal["today", "latest"]
Rule = Literal["raw", "calibrated"]
_Weighting = Literal["equal", "importance"]
Reference = Literal["trailing", "champion", "season"]
FoldWindow = Literal["expanding", "rolling"]
_MainMetric = Literal["accuracy", "roc_auc", "f1_score", "log_loss", "sharpe"]


@dataclass(frozen=True, kw_only=True)
class DataPolicy:
    """Which rows a check and a training see. Days are calendar days."""

    as_of: AsOf = "today"
    """`today`: the current UTC date; `latest`: the newest date in the feature view (a static data set)."""
    reference: Reference = "trailing"
    """`trailing`: the days before the current window. `champion`: the dates that the model in production was trained
    on, from the profile that its version carries; only current rows are read. `season`: the same season of earlier
    years."""
    champion_beside: bool = True
    """With the trailing reference and the calibrated rule a check compares the same current rows with the champion's
    profile as well, each at half of `drift.alpha`; drift against either is drift. The trailing window follows a slow
    change, the champion's dates do not."""
    reference_days: _Days = 90
    """Length of the reference window; it ends where the current window begins. `season`: length of each year's part,
    with the current window's place in its middle."""
    season_years: Annotated[int, Field(ge=1, le=100)] = 3
    """Earlier years whose season is the reference; for `season`."""
    current_days: _Days = 7
    """Length of the current window; it ends on the as-of date."""
    min_current_rows: Annotated[int, Field(ge=0, le=1_000_000_000)] = 100
    """Fewer current rows than this give the verdict `insufficient`, after the window was stretched."""
    max_current_days: _Days = 60
    """A current window with fewer rows than `min_current_rows` begins earlier, at most so many days before the as-of
    date: 34 dates of 3 names are 102 rows. At most `current_days`: it is never stretched."""
    max_reference_rows: Annotated[int, Field(ge=LEAST_SAMPLE, le=1_000_000_000_000)] | None = 1_000_000
    """Of a reference window, or of a history before it, with more rows about so many are read: always the same ones,
    by a hash of ticker and date. None: all of them, whatever that costs. 45 features of a million rows are 360 MB,
    and its distribution functions are within 0.0014 of those of all rows."""
    min_date_share: _Share = 0.5
    """A date counts where it has this share of the rows that its neighbours have, else it is left out with a finding.
    0 takes every date. Half: a feed that is late by a few names counts, one that has only begun does not."""
    max_stale_days: _DaysFrom0 = 4
    """The newest date that counts may be so many calendar days before the as-of date, beyond the panel's usual gap of
    one: Thursday's close to Tuesday's. Older rows hold back a training's promotion; a check has a finding after 4."""
    duplicate_rows: Literal["refuse", "drop_equal"] = "refuse"
    """What a training does where a ticker and date stand in several rows. `drop_equal`: rows that are equal in all
    columns read count once; rows that differ are refused all the same."""
    return_bounds: tuple[
        Annotated[float, Field(ge=-1_000_000, le=0, allow_inf_nan=False)],
        Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)],
    ] = (-1.0, 10.0)
    """Simple returns outside, or infinite ones, are no labels: nothing loses more than all, and 11 times the price
    within one horizon is a split or a wrong price. Columns `target_*return*`."""
    max_bad_returns: _Share = 0.01
    """With a larger share of such returns among those that are there, a training is refused."""
    include: tuple[str, ...] = ()
    """Feature columns; empty: every numeric column of the view that is no key and no target."""
    exclude: tuple[str, ...] = ()
    """Columns that are not features although they could be."""

    @model_validator(mode="after")
    def _check_season(self) -> Self:
        if self.reference == "season" and self.reference_days + self.current_days > 365:
            raise ValueError(
                f"reference_days and current_days of a season are at most 365 together (found {self.reference_days}, "
                f"{self.current_days})"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class DriftPolicy:
    """When a check says `drifted`."""

    rule: Rule = "calibrated"
    """`raw`, the documented rule: share of features with PSI at or above `psi_significant` at or above `alert_share`.
    `calibrated`: that, and a shift that is extreme among all earlier ones of the strategy's own history."""
    calibration_days: _Days = 730
    """Length of the history before the reference window in which earlier shifts are looked at; calendar days."""
    min_calibration_days: _Days = 365
    """With a shorter history the calibrated rule says `insufficient`."""
    alpha: _Level = 0.05
    """The calibrated rule's level: this share of checks without drift may be taken for one."""
    feature_alpha: _LevelFrom0 = 0.015
    """At most this share of weeks has a false alarm about a single feature's feed, over all features together. An alarm
    is a finding and leads to no retraining. 0 switches it off."""
    correlation_alpha: _LevelFrom0 = 0.035
    """Level of the alarm about a changed correlation of two features, over all pairs. A finding; it leads to no
    retraining. 0 switches it off."""
    label_alpha: _LevelFrom0 = 0.05
    """Probability with which a champion whose relation of features to label has not changed is said, within a year, to
    have lost it, by newly known labels. Such an alarm opens a retraining on the dates since then. 0 switches it off."""
    alert_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.3
    """Share of features that must have drifted; the documented alert threshold."""
    ks_p: _Level = 0.05
    """A feature with a Kolmogorov-Smirnov p below this counts as drifted by KS."""
    psi_moderate: _Psi = 0.1
    """PSI from here on is a moderate change."""
    psi_significant: _Psi = 0.2
    """PSI from here on is a significant change."""
    bins: Annotated[int, Field(ge=2, le=10_000)] = 10
    """Quantile bins of the reference for PSI."""
    smoothing: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 0.5
    """Added to each bin's count in both windows before the shares; 0 switches it off."""
    psi_floor: _Share = 0.0
    """Shares below this are raised to it; needed where `smoothing` is 0 (other libraries have 0.0001)."""
    predictions: bool = True
    """The champion's predictions on both windows are compared too, beside the features and never for the verdict."""
    weights: _Weighting = "equal"
    """`equal`: each feature counts alike. `importance`: as much as it contributes to the champion (share of the total
    gain), in the share of drifted features and in the calibrated statistic; equal while there is no champion to ask."""
    persistence_checks: Annotated[int, Field(ge=1, le=10_000)] = 1
    """A retraining follows where so many of the last `persistence_window` checks, this one among them, drifted."""
    persistence_window: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many checks `persistence_checks` looks at."""
    cooldown_days: _DaysFrom0 | Literal["auto"] = "auto"
    """No retraining for drift or decay within so many calendar days after one that came to its end, promoted or not,
    forced or not; by as-of dates. `auto`: the label's horizon, before which no label is known that the last one lacked.
    """
    plan: Literal["episode", "check"] = "episode"
    """`episode`: checks that drift one after the other are one episode, with one retraining when it begins and one when
    labels since then can be learnt from. `check`: each drifted check retrains as soon as the cooldown is over."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        for least, most in (
            ("min_calibration_days", "calibration_days"),
            ("persistence_checks", "persistence_window"),
            ("psi_moderate", "psi_significant"),
        ):
            if getattr(self, least) > getattr(self, most):
                found = f"{getattr(self, least)}, {getattr(self, most)}"
                raise ValueError(f"{least} is at most {most} (found {found})")
        if self.smoothing == 0 and self.psi_floor == 0:
            raise ValueError("psi_floor is above 0 where smoothing is 0: an empty bin would cost infinity")
        return self


@dataclass(frozen=True, kw_only=True)
class TrainingPolicy:
    """What is learnt, from which rows, with which parameters."""

    label: str = "target_return > 0"
    """`<column> <op> <number or column>`; parsed, never evaluated."""
    horizon_dates: _DatesFrom0 = 20
    """Dates of the panel (trading days) that the label looks ahead; purged from the training rows."""
    training_days: _Days = 730
    """Length of the training window in calendar days (2 years), the held-out dates included."""
    holdout_dates: _Dates = 60
    """Newest labelled dates, never trained on, on which a version is judged."""
    refit: bool = True
    """What is registered is trained once more, with the judged model's parameters, seed and rounds, on every row whose
    label is known, the held-out dates among them; the judged twin stays beside it. False registers the judged model:
    its newest date is horizon, held-out dates, horizon and embargo old. Set it once every worker knows this value."""
    embargo_dates: _DatesFrom0 = 5
    """Dates left out between training and judged dates, beside the label's horizon: 1 % of a 2-year window, since
    the purge ends the overlap of labels and not the likeness of neighbouring dates (López de Prado 2018, 7.4.2)."""
    folds: Annotated[int, Field(ge=0, le=MAX_FOLDS)] = 0
    """Walk-forward folds for the stability table; 0: none. Each costs a training."""
    fold_window: FoldWindow = "expanding"
    """`expanding`: a fold trains on all earlier dates; `rolling`: on as many as the first fold."""
    leak_check: bool = False
    """Each training measures the documented random split beside the honest one; costs a training."""
    metrics: dict[str, str] = field(default_factory=dict)
    """Metrics of the strategy's own, logged and open to gates: name = "package.module:function", the function
    `(dates, y, p, returns) -> float`."""
    trainer: str = "xgboost"
    """`xgboost`, or `package.module:ClassName` of a `mlops.domain.ports.Trainer`."""
    params: dict[str, float | int | str | bool] = field(
        default_factory=lambda: {
            "max_depth": 6,
            "learning_rate": 0.1,
            "n_estimators": 100,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
        }
    )
    """Parameters of the trainer."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 42
    """Seed of every random choice of a training."""
    device: Device = "auto"
    """`auto`: a GPU worker while one is alive, else the CPU."""
    segment_rounds: _Rounds = 50
    """Boosting rounds between two borders at which a training can stop and be resumed."""
    early_stopping_rounds: _Rounds | None = None
    """Stop after so many rounds without a better log loss on the newest training dates, and keep the best round.
    None boosts every round, on all training dates: the documented training."""
    validation_dates: _Dates = 40
    """Newest training dates that early stopping looks at, not fitted; the label's horizon before them is purged."""
    incremental_rounds: _Rounds = 20
    """Boosting rounds that an incremental training adds to the champion's."""
    incremental_days: _Days = 90
    """Newest calendar days before the held-out dates that an incremental training learns from."""
    max_incremental_updates: Annotated[int, Field(ge=0, le=10_000)] = 10
    """After so many incremental updates the next training is a full one: trees of old days are never taken out."""
    search: dict[str, list[float | int | str | bool]] = field(
        default_factory=lambda: {
            "max_depth": [3, 8],
            "learning_rate": [0.02, 0.3, "log"],
            "n_estimators": [50, 300],
            "min_child_weight": [1.0, 50.0, "log"],
            "subsample": [0.5, 1.0],
            "colsample_bytree": [0.4, 1.0],
            "reg_lambda": [0.1, 100.0, "log"],
        }
    )
    """What tuning chooses from, per parameter: `[low, high]`, `[low, high, "log"]`, or a list of choices."""
    search_folds: Annotated[int, Field(ge=1, le=MAX_FOLDS)] = 3
    """Walk-forward folds of the training rows on which each trial is judged; as many trainings a trial."""
    search_metric: _MainMetric = "log_loss"
    """What tuning looks for, the mean over the folds. Log loss sees what a threshold does not: how sure it was."""
    class_weight: Literal["balanced"] | None = None
    """`balanced`: positive rows weigh negatives over positives (`scale_pos_weight`); the probabilities then speak
    of a sample with as many of both."""
    monotone: dict[str, Literal[-1, 1]] = field(default_factory=dict)
    """Features in which the probability may only rise (1) or only fall (-1)."""


@dataclass(frozen=True, kw_only=True)
class FindingsPolicy:
    """From where on something is too good to be true. A finding blocks promotion until it is accepted by name."""

    single_feature_auc: _Suspicion = 0.95
    """ROC AUC with which one feature alone predicts the label. Honest features reach 0.8: trailing volatility on the
    question whether volatility rises, since it returns to its mean."""
    target_correlation: _Suspicion = 0.95
    """Rank correlation of a feature with a column that looks into the future; trailing and next volatility have 0.6."""
    accuracy: _Suspicion = 0.90
    """On the held-out dates, where it also halves the majority class's errors. The best honest model of prices that
    was measured, of volatility, had 0.76."""
    roc_auc: _Suspicion = 0.95
    """On the held-out dates. The best honest one that was measured had 0.89."""
    random_split_gap: _Suspicion = 0.15
    """Accuracy of the documented random split over the honest one, where the latter does not exceed its majority
    class. For directions 0.19 to 0.55 was measured; volatility has a gap too, and skill beside it."""
    refit_distance: _Suspicion = 0.85
    """Distance of a refit's probabilities from its judged twin's, of the twin's own spread, from which on the refit is
    another model. Honest refits had 0.1 to 0.7, those of labels in a random order about 1: docs/evaluation.md."""
    target_like_names: tuple[str, ...] = (
        "target",
        "label",
        "future",
        "fwd",
        "next",
        "lookahead",
        "forward_return",
        "forward_returns",
    )
    """Words of a feature's name, between underscores, that say that it looks into the future."""


@dataclass(frozen=True, kw_only=True)
class PromotionPolicy:
    """When a version may become the champion. A gate that is None is not applied."""

    min_accuracy: _Share | None = 0.70
    """Accuracy on the held-out dates; the documented gate."""
    min_roc_auc: _Share | None = None
    """Area under the ROC curve on the held-out dates."""
    min_lift_over_majority: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    """Accuracy minus that of always predicting the more frequent class."""
    min_f1: _Share | None = None
    """F1 score on the held-out dates."""
    gates: dict[str, _Bar | None] = field(default_factory=dict)
    """Bars on any metric that is logged: `{ sharpe_ratio = 0.5 }`. log_loss, brier and max_drawdown are bars from
    above, all others from below."""
    floor: Literal["log_loss", "brier"] | None = "log_loss"
    """What any useful model is: more accurate than the majority class of the held-out dates, better on this proper
    score than a constant probability at their base rate, and with predictions that vary. None: not asked."""
    comparison: Literal["paired", "gates"] = "paired"
    """`paired`: a challenger must be better than the champion on the same held-out dates. `gates`, the documented
    rule: one that clears its gates is promoted, whatever the champion is."""
    main_metric: _MainMetric = "roc_auc"
    """What the two are compared on. `sharpe`: of a position opened on every date, equal weight in each name with
    p >= 0.5, held for the label's horizon."""
    margin: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 0.01
    """How much better a challenger must be, in units of the main metric: below this, changing costs more than it
    brings, and another seed is worth as much."""
    confidence: Annotated[float, Field(ge=0.5, lt=1, allow_inf_nan=False)] = 0.95
    """Probability, after deflation, that it is better by the margin. The champion is kept as better by the same."""
    yearly_error: _Level | None = 0.10
    """Probability with which all comparisons of 365 days together may replace a champion by one that is as good; each
    decision spends a part of it (`mlops.domain.promotion.error_budget`). None: each decision is judged by itself."""
    max_champion_age: _Days | None = None
    """Days since the champion's training after which a challenger that clears its gates replaces it; None: never."""
    accepted_findings: tuple[str, ...] = ()
    """Findings that block no promotion, by their codes: "single_feature_predicts_label:vol_20"."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`manual`: a run that would promote ends `awaiting_approval`."""
    manual_changes: Literal["adopt", "revert"] = "revert"
    """What becomes of a promotion made by hand in the registry's own pages. It is taken back within a minute, with an
    alert. `adopt` takes one of a version that the ledger has judged, by its file's digest, and not refused."""


@dataclass(frozen=True, kw_only=True)
class LivePolicy:
    """What the champion is asked each day, and what is made of its answers once their outcomes are known."""

    predict: bool = False
    """A day's universe is predicted by the champion as soon as that day's features are complete. Switch it on once
    every worker knows this value: a worker of an older version cannot read such runs."""
    late_after_hours: Annotated[float, Field(gt=0, le=8_760, allow_inf_nan=False)] = 36.0
    """So long after a date began, in the features' time zone, its features should be complete; then an alert."""
    return_column: str = "return_1d"
    """Column with a name's simple return of the last date; the next date's is what a position of today earns."""
    slices: tuple[str, ...] = ()
    """Columns of the feature view by which performance is broken down: a category as it is, a number by its terciles.
    """
    decay_alpha: _Level = 0.01
    """Probability with which a model that is as good as it was at its promotion is said, within a year, to decay."""
    retrain_on_decay: bool = False
    """Decay opens a retraining, as drift does, under the same cooldown."""


ScheduledJob = Literal["drift_check", "retrain"]
"""A strategy's two lines of the timetable."""


@dataclass(frozen=True, kw_only=True)
class SchedulePolicy:
    """When beat opens runs. Cron expressions are UTC; an empty one schedules nothing."""

    drift_check: str = "0 3 * * *"
    """Daily drift check, 03:00 UTC."""
    retrain: str = "0 4 * * 0"
    """Forced retraining, Sunday 04:00 UTC."""
    spread_minutes: Annotated[int, Field(ge=0, le=10_080)] = 10
    """Strategies start within so many minutes after the nominal time, by a hash of their name."""
    grace_hours: Annotated[float, Field(ge=0, le=87_600, allow_inf_nan=False)] = 12.0
    """A slot missed by no more than this is opened late; an older one is marked skipped."""
    paused: tuple[ScheduledJob, ...] = ()
    """Lines of the timetable that open nothing until they are taken out here; what falls due is not missed."""


@dataclass(frozen=True, kw_only=True)
class ExecutionPolicy:
    """How often and how long a stage may run."""

    max_attempts: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Crashes and permanent-looking errors before a stage is dead; outages and drains do not count."""
    drift_deadline_s: _Deadline = 900.0
    """A drift stage that runs longer loses its lease."""
    train_deadline_s: _Deadline = 2700.0
    """A train stage that runs longer loses its lease: 45 min. Trainings of up to 60 min, which the documentation
    speaks of, need more; the workers' time limits follow this value."""
    promote_deadline_s: _Deadline = 600.0
    """A promote stage that runs longer loses its lease."""
    predict_deadline_s: _Deadline = 300.0
    """A predict stage that runs longer loses its lease."""
    score_deadline_s: _Deadline = 900.0
    """A score stage that runs longer loses its lease."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One strategy with all its policies."""

    name: str
    description: str = ""
    tags: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,31}$")], ...] = ()
    """Words by which people find and choose strategies, as `us` or `pilot`; no run is judged by them."""
    data: DataPolicy = DataPolicy()
    drift: DriftPolicy = DriftPolicy()
    training: TrainingPolicy = field(default_factory=TrainingPolicy)
    findings: FindingsPolicy = FindingsPolicy()
    promotion: PromotionPolicy = field(default_factory=PromotionPolicy)
    live: LivePolicy = LivePolicy()
    experiments: ExperimentPolicy = field(default_factory=ExperimentPolicy)
    guardrails: GuardrailPolicy = field(default_factory=GuardrailPolicy)
    schedule: SchedulePolicy = SchedulePolicy()
    execution: ExecutionPolicy = ExecutionPolicy()

    @model_validator(mode="after")
    def _check_tags(self) -> Self:
        if len(set(self.tags)) < len(self.tags):
            raise ValueError(f"tags name each word once (found {', '.join(self.tags)})")
        return self

    @property
    def model_name(self) -> str:
        """Name in the model registry."""
        return model_name_of(self.name)

    @property
    def cooldown_days(self) -> int:
        """Calendar days without a retraining after one."""
        chosen = self.drift.cooldown_days
        return calendar_days(self.training.horizon_dates) if chosen == "auto" else chosen

    def overridden(
        self,
        *,
        drift_threshold: float | None = None,
        drift_rule: Rule | None = None,
        reference: Reference | None = None,
        min_accuracy: float | None = None,
        folds: int | None = None,
        leak_check: bool | None = None,
    ) -> Strategy:
        """The same strategy with the values that a caller gave in place of the policy's; None keeps it."""
        changed: dict[str, Any] = {}
        if drift_threshold is not None:
            changed["drift"] = replace(self.drift, alert_share=drift_threshold)
        if reference is not None:
            changed["data"] = replace(self.data, reference=reference)
        if drift_rule is not None:
            changed["drift"] = replace(changed.get("drift", self.drift), rule=drift_rule)
        if min_accuracy is not None:
            changed["promotion"] = replace(self.promotion, min_accuracy=min_accuracy)
        measured = {"folds": folds, "leak_check": leak_check}
        asked = {name: value for name, value in measured.items() if value is not None}
        if asked:
            changed["training"] = replace(self.training, **asked)  # type: ignore[arg-type]  # each of its own type
        return replace(self, **changed)


def calendar_days(n_dates: int) -> int:
    """Calendar days of so many trading days, of which a week has five; a market without weekends is faster."""
    return -(-7 * n_dates // 5)


def model_name_of(strategy: str) -> str:
    """`acis_growth_classifier` for `growth`."""
    return f"acis_{strategy}_classifier"


def strategy_of_model(model_name: str) -> str:
    """`growth` for `acis_growth_classifier`; the name itself where it has another form."""
    return model_name.removeprefix("acis_").removesuffix("_classifier")
