"""Strategies from TOML, and a strategy as the JSON snapshot that every run keeps.

    [defaults.training]                 any policy of `mlops.domain.policies`, for all strategies
    holdout_dates = 60
    [strategies.growth]                 one table per strategy
    description = "…"
    tags = ["us", "large-cap"]          words to find and choose strategies by
    [strategies.growth.training]        overrides the defaults, key by key (`params`, `metrics` and `gates` too)
    label = "target_return > 0"

TOML has no null: a gate is taken out with the string "none".
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from mlops.domain.cron import cron_fault
from mlops.domain.errors import ConfigurationError, InvalidStrategyFile, UnknownStrategy
from mlops.domain.labels import parse_label
from mlops.domain.policies import MAX_FOLDS, Strategy
from mlops.domain.promotion.findings import code_fault
from mlops.domain.training.metric_names import form_fault
from mlops.domain.training.parameters import params_faults, search_fault, search_faults

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
#: A smaller sample of a window saves nothing and shows less: its bound is 0.0043.
LEAST_SAMPLE = 100_000
#: Tables of a strategy.
POLICIES = ("data", "drift", "training", "findings", "promotion", "schedule", "execution")
#: Values that the release before does not know and refuses in a snapshot.
_NEW_VALUES = {
    "data": ("max_current_days",),
    "drift": ("correlation_alpha", "feature_alpha"),
    "promotion": ("floor", "yearly_error"),
}
_adapter: TypeAdapter[Strategy] = TypeAdapter(with_config(ConfigDict(extra="forbid"))(Strategy))


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A strategy's policy as a run gets it."""

    strategy: Strategy
    origins: Mapping[str, str]
    """`drift.alert_share` → in words, where the value is from; one that is not there is the program's default."""


class Strategies(Mapping[str, Strategy]):
    """The strategies of a file, by name; an unknown name raises UnknownStrategy."""

    def __init__(
        self, strategies: Mapping[str, Strategy], *, origins: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """By strategy, `origins` has the table of the file that a value is from; one left out is a default."""
        self._by_name = dict(strategies)
        self._origins = origins or {}

    def settled(self, name: str) -> Settled:
        """A strategy with the tables that its values are from. Raises UnknownStrategy."""
        return Settled(strategy=self[name], origins=dict(self._origins.get(name, {})))

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag that a strategy has, sorted."""
        return tuple(sorted({tag for strategy in self._by_name.values() for tag in strategy.tags}))

    def chosen(self, names: Iterable[str] = (), tags: Iterable[str] = ()) -> list[str]:
        """The named strategies and those with any of the tags, each once. Raises UnknownStrategy, ConfigurationError.

        A tag that no strategy has is refused: what was meant is not known.
        """
        found = [self[name].name for name in names]
        for tag in tags:
            tagged = [name for name, strategy in self._by_name.items() if tag in strategy.tags]
            if not tagged:
                known = f"tags: {', '.join(self.tags)}" if self.tags else "the strategies file gives none a tag"
                raise ConfigurationError(f"no strategy has the tag {tag!r}; {known}")
            found += tagged
        return list(dict.fromkeys(found))

    def __getitem__(self, name: str) -> Strategy:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownStrategy.named(name, self._by_name) from None

    def __contains__(self, name: object) -> bool:
        # Mapping's own asks for the value, whose error is no KeyError.
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def load_strategies(path: Path) -> Strategies:
    """Read and check a strategies file. Raises InvalidStrategyFile with the place and the mend."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        message = f"strategies file {path} does not exist; set ACIS_STRATEGIES_FILE"
        raise InvalidStrategyFile(message) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        message = f"strategies file {path} is not TOML: {exc}"
        raise InvalidStrategyFile(message) from exc
    unknown = set(content) - {"defaults", "strategies"}
    if unknown:
        message = f"strategies file {path}: unknown table {min(unknown)!r}; only defaults and strategies are allowed"
        raise InvalidStrategyFile(message)
    defaults = _table(path, content, "defaults")
    for policy in POLICIES:
        _table(path, defaults, policy, "defaults.")
    tables = _table(path, content, "strategies")
    strategies = {name: _strategy(path, name, defaults, _table(path, tables, name, "strategies.")) for name in tables}
    if not strategies:
        message = f"strategies file {path} names no strategy; add a table [strategies.NAME]"
        raise InvalidStrategyFile(message)
    return Strategies(strategies, origins={name: _origins(name, defaults, tables[name]) for name in tables})


def snapshot(strategy: Strategy) -> dict[str, Any]:
    """The strategy as JSON."""
    return _adapter.dump_python(strategy, mode="json")  # type: ignore[no-any-return]


def run_policy(settled: Settled) -> dict[str, Any]:
    """The snapshot that a run keeps: every value, and under `origins` where each that is no default is from.

    Values of this release that are their default are left out, so that a worker of the release before can restore it,
    and tags, by which nothing is judged.
    """
    kept = snapshot(settled.strategy)
    del kept["tags"]
    for policy, names in _NEW_VALUES.items():
        default = snapshot(Strategy(name=settled.strategy.name))[policy]
        for name in names:
            if kept[policy][name] == default[name]:
                del kept[policy][name]
    return {**kept, "origins": dict(settled.origins)}


def restore(policy: Mapping[str, Any]) -> Strategy:
    """The strategy of a snapshot. Raises InvalidStrategyFile when it was written by another version."""
    try:
        return _adapter.validate_python({key: value for key, value in policy.items() if key != "origins"})
    except ValidationError as exc:
        message = f"policy snapshot is not readable: {_first(exc)}"
        raise InvalidStrategyFile(message) from exc


def _strategy(path: Path, name: str, defaults: dict[str, Any], table: dict[str, Any]) -> Strategy:
    for policy in POLICIES:
        _table(path, table, policy, f"strategies.{name}.")
    if "name" in defaults or "name" in table:
        message = f"strategies file {path}, strategy {name!r}: its name is its table's; take out the key 'name'"
        raise InvalidStrategyFile(message)
    if not _NAME.fullmatch(name):
        message = f"strategies file {path}: {name!r} is no strategy name; use lower-case letters, digits, underscores"
        raise InvalidStrategyFile(message)
    merged: dict[str, Any] = {key: value for key, value in table.items() if key not in POLICIES}
    for policy in POLICIES:
        merged[policy] = _merge(defaults.get(policy, {}), table.get(policy, {}))
    merged = {**{key: value for key, value in defaults.items() if key not in POLICIES}, **merged}
    try:
        return checked({"name": name, **merged})
    except InvalidStrategyFile as exc:
        message = f"strategies file {path}, strategy {name!r}: {exc}"
        raise InvalidStrategyFile(message) from exc


def checked(values: Mapping[str, Any]) -> Strategy:
    """The strategy of values as the file has them, types and meaning checked. Raises InvalidStrategyFile."""
    try:
        strategy = _adapter.validate_python(_without_none_words(dict(values)))
    except ValidationError as exc:
        raise InvalidStrategyFile(_first(exc)) from exc
    _check_meaning(strategy)
    return strategy


def _origins(name: str, defaults: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, str]:
    """The table of each value that the file sets."""
    found: dict[str, str] = {}
    for policy in POLICIES:
        for where, values in ((f"defaults.{policy}", defaults), (f"strategies.{name}.{policy}", table)):
            found |= {f"{policy}.{key}": f"strategies file, [{where}]" for key in values.get(policy, {})}
    return found


def _check_meaning(strategy: Strategy) -> None:
    """Refuse values of the right type that mean nothing, before a run finds out."""
    parse_label(strategy.training.label)
    drift, data, training, execution = strategy.drift, strategy.data, strategy.training, strategy.execution
    suspect = strategy.findings
    bounds = (
        suspect.single_feature_auc,
        suspect.target_correlation,
        suspect.accuracy,
        suspect.roc_auc,
        suspect.random_split_gap,
    )
    promotion = strategy.promotion
    shares = (promotion.min_accuracy, promotion.min_roc_auc, promotion.min_f1)
    deadlines = (execution.drift_deadline_s, execution.train_deadline_s, execution.promote_deadline_s)
    wrong = [
        f"tag {tag!r} is not 1 to 32 lower-case letters, digits, dots, dashes and underscores"
        for tag in strategy.tags
        if not _TAG.fullmatch(tag)
    ]
    if len(set(strategy.tags)) < len(strategy.tags):
        wrong.append(f"tags name each word once (found {', '.join(strategy.tags)})")
    wrong += [
        rule
        for rule, holds in {
            f"drift.alert_share is a share of features, above 0 and at most 1 (found {drift.alert_share})": (
                0 < drift.alert_share <= 1
            ),
            f"drift.ks_p is a level between 0 and 1 (found {drift.ks_p})": 0 < drift.ks_p < 1,
            f"drift.feature_alpha and drift.correlation_alpha are levels from 0 up to, but not, 1 (found "
            f"{drift.feature_alpha}, {drift.correlation_alpha})": (
                0 <= drift.feature_alpha < 1 and 0 <= drift.correlation_alpha < 1
            ),
            f"drift.alpha is a level between 0 and 1 (found {drift.alpha})": 0 < drift.alpha < 1,
            f"drift.min_calibration_days is at least 1 and at most calibration_days (found "
            f"{drift.min_calibration_days}, {drift.calibration_days})": (
                1 <= drift.min_calibration_days <= drift.calibration_days
            ),
            f"drift.persistence_checks is at least 1 and at most persistence_window (found "
            f"{drift.persistence_checks}, {drift.persistence_window})": (
                1 <= drift.persistence_checks <= drift.persistence_window
            ),
            f"drift.cooldown_days, smoothing and psi_floor are at least 0 (found {drift.cooldown_days}, "
            f"{drift.smoothing}, {drift.psi_floor})": min(drift.cooldown_days, drift.smoothing, drift.psi_floor) >= 0,
            "drift.psi_floor is above 0 where drift.smoothing is 0: an empty bin would cost infinity": (
                drift.smoothing > 0 or drift.psi_floor > 0
            ),
            f"drift.bins is at least 2 (found {drift.bins})": drift.bins >= 2,
            f"drift.psi_moderate is above 0 and at most psi_significant (found {drift.psi_moderate})": (
                0 < drift.psi_moderate <= drift.psi_significant
            ),
            f"data.season_years is at least 1 (found {data.season_years})": data.season_years >= 1,
            f"data.reference_days and current_days of a season are at most 365 together (found {data.reference_days}, "
            f"{data.current_days})": data.reference != "season" or data.reference_days + data.current_days <= 365,
            f"data.current_days and data.reference_days are at least 1 (found {data.current_days}, "
            f"{data.reference_days})": min(data.current_days, data.reference_days) >= 1,
            f"data.max_current_days is at least 1 (found {data.max_current_days})": data.max_current_days >= 1,
            f'data.max_reference_rows is at least {LEAST_SAMPLE:,}, or "none" (found {data.max_reference_rows})': (
                data.max_reference_rows is None or data.max_reference_rows >= LEAST_SAMPLE
            ),
            f"data.min_date_share and data.max_bad_returns are shares from 0 to 1 (found {data.min_date_share}, "
            f"{data.max_bad_returns})": all(0 <= share <= 1 for share in (data.min_date_share, data.max_bad_returns)),
            f"data.max_stale_days is at least 0 (found {data.max_stale_days})": data.max_stale_days >= 0,
            f"data.return_bounds are two finite numbers, the first at most 0, the second above 0 (found "
            f"{list(data.return_bounds)})": -math.inf < data.return_bounds[0] <= 0 < data.return_bounds[1] < math.inf,
            f"training.training_days and training.holdout_dates are at least 1 (found {training.training_days}, "
            f"{training.holdout_dates})": min(training.training_days, training.holdout_dates) >= 1,
            f"execution deadlines are more than 0 s (found {deadlines})": all(0 < one < math.inf for one in deadlines),
            f"execution.max_attempts is at least 1 (found {execution.max_attempts})": execution.max_attempts >= 1,
            f"training.early_stopping_rounds (or none) and training.validation_dates are at least 1 (found "
            f"{training.early_stopping_rounds}, {training.validation_dates})": (
                (training.early_stopping_rounds is None or training.early_stopping_rounds >= 1)
                and training.validation_dates >= 1
            ),
            f"training.incremental_rounds and training.incremental_days are at least 1, "
            f"training.max_incremental_updates at least 0 (found {training.incremental_rounds}, "
            f"{training.incremental_days}, {training.max_incremental_updates})": (
                min(training.incremental_rounds, training.incremental_days) >= 1
                and training.max_incremental_updates >= 0
            ),
            f"training.horizon_dates and training.embargo_dates are at least 0 (found {training.horizon_dates}, "
            f"{training.embargo_dates})": min(training.horizon_dates, training.embargo_dates) >= 0,
            f"findings.single_feature_auc, target_correlation, accuracy, roc_auc and random_split_gap are above 0 "
            f"(found {bounds}); one above 1 is never reached": min(bounds) > 0,
            f"training.search_folds is 1 to {MAX_FOLDS} (found {training.search_folds})": (
                1 <= training.search_folds <= MAX_FOLDS
            ),
            f"training.folds is 0 to {MAX_FOLDS} (found {training.folds})": 0 <= training.folds <= MAX_FOLDS,
            f"promotion.confidence is a probability from 0.5 up to, but not, 1 (found {promotion.confidence})": (
                0.5 <= promotion.confidence < 1
            ),
            f"promotion.yearly_error is a probability above 0 and below 1, or none (found {promotion.yearly_error})": (
                promotion.yearly_error is None or 0 < promotion.yearly_error < 1
            ),
            f"promotion.margin is at least 0 and finite (found {promotion.margin})": 0 <= promotion.margin < math.inf,
            f"promotion.max_champion_age is at least 1 day (found {promotion.max_champion_age})": (
                promotion.max_champion_age is None or promotion.max_champion_age >= 1
            ),
            f"promotion.min_accuracy, min_roc_auc and min_f1 are shares from 0 to 1 (found {shares})": all(
                bar is None or 0 <= bar <= 1 for bar in shares
            ),
            f"promotion.min_lift_over_majority is from -1 to 1 (found {promotion.min_lift_over_majority})": (
                promotion.min_lift_over_majority is None or -1 <= promotion.min_lift_over_majority <= 1
            ),
            f"promotion.gates are finite numbers (found {promotion.gates})": all(
                bar is None or math.isfinite(bar) for bar in promotion.gates.values()
            ),
        }.items()
        if not holds
    ]
    wrong += filter(None, (form_fault(name, function) for name, function in training.metrics.items()))
    wrong += params_faults(training.trainer, training.params)
    unsearchable = list(filter(None, (search_fault(name, values) for name, values in training.search.items())))
    wrong += unsearchable or search_faults(training.trainer, training.search)
    wrong += filter(None, map(code_fault, strategy.promotion.accepted_findings))
    for name, cron in (("drift_check", strategy.schedule.drift_check), ("retrain", strategy.schedule.retrain)):
        fault = cron_fault(cron) if cron else None
        if fault:
            wrong.append(f"schedule.{name} = {cron!r} is no cron expression: {fault}; an empty one schedules nothing")
    if wrong:
        raise InvalidStrategyFile("; ".join(wrong))


def _table(path: Path, content: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        message = f"strategies file {path}: {where}{key} must be a table, found {table!r}; write [{where}{key}]"
        raise InvalidStrategyFile(message)
    return table


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **over}
    for table in ("params", "metrics", "gates", "search"):
        if isinstance(base.get(table), dict) and isinstance(over.get(table), dict):
            merged[table] = {**base[table], **over[table]}
    return merged


def _without_none_words(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none_words(value) if isinstance(value, dict) else (None if value == "none" else value)
        for key, value in table.items()
    }


def _first(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']} (found {error['input']!r})"
