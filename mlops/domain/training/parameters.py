"""Parameters of XGBoost that a strategy may set or search: a closed list, each with its type and range.

Pure; called when a strategies file or an edit of it is read, by the tuning and by the trainer. A parameter outside
the list is refused by name: it would be honoured in the training and not in the evaluation (`missing`), give no
probability (`objective`), or end in an error of the library (`tree_method = "exact"`). Ranges are XGBoost's own, with
an upper end where it has none.

`training.search` holds one list of values per parameter:

    max_depth = [3, 8]                  whole numbers from 3 to 8
    subsample = [0.5, 1.0]              any number between
    learning_rate = [0.01, 0.3, "log"]  any number between, evenly on a logarithmic scale
    grow_policy = ["depthwise", "lossguide"]   one of these; so are three numbers or more, and truth values
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Value = float | int | str | bool
_LOG = "log"
_ENDS = 2
_DEFAULT_TRAINER = "xgboost"
_MOST = 2.0**63
"""Of a number for a custom trainer, whose own bounds are not known here: seeds are as large."""
_SMALLEST = 2.0**-126
"""Of float32 at full precision."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """Values that one parameter may have."""

    name: str
    low: float = 0.0
    high: float = 0.0
    is_integer: bool = False
    is_log: bool = False
    choices: tuple[Value, ...] = ()
    """Empty for a range."""

    def holds(self, value: object) -> bool:
        """Whether a value is one of these."""
        if self.choices:
            return any(value == choice and isinstance(value, type(choice)) for choice in self.choices)
        is_number = isinstance(value, int) or (isinstance(value, float) and not self.is_integer)
        return is_number and not isinstance(value, bool) and self.low <= float(value) <= self.high  # type: ignore[arg-type]


def dimensions(space: Mapping[str, Sequence[Value]]) -> tuple[Dimension, ...]:
    """The parameters in the order of their names, so that the same space is the same search however it is written."""
    return tuple(_dimension(name, space[name]) for name in sorted(space))


def search_fault(name: str, values: Sequence[Value]) -> str | None:
    """Describe why these values cannot be searched; None where they can."""
    beyond = next((fault for value in values if (fault := _number_fault(value)) is not None), None)
    if beyond is not None:
        return f"training.search.{name} = {str(list(values))[:80]} holds a number that {beyond}"
    wrong = _range_fault(values) if _is_range(values) else _choices_fault(values)
    return f"training.search.{name} = {list(values)} {wrong}" if wrong else None


def _choices_fault(values: Sequence[Value]) -> str | None:
    if not values:
        return "holds no value; give [low, high], [low, high, 'log'] or choices"
    if _LOG in values:
        return "is no range; write [low, high, 'log'] with two numbers"
    return "names a choice twice" if len(set(values)) < len(values) else None


def _range_fault(values: Sequence[Value]) -> str | None:
    low, high = float(values[0]), float(values[1])
    if low > high:
        return "goes down; write the smaller number first"
    return f"has no logarithm at {values[0]}; begin above 0" if values[-1] == _LOG and low <= 0 else None


def _dimension(name: str, values: Sequence[Value]) -> Dimension:
    if not _is_range(values):
        return Dimension(name=name, choices=tuple(values))
    low, high = values[:_ENDS]
    return Dimension(
        name=name,
        low=float(low),
        high=float(high),
        is_integer=isinstance(low, int) and isinstance(high, int),
        is_log=values[-1] == _LOG,
    )


def _is_range(values: Sequence[Value]) -> bool:
    ends, rest = values[:_ENDS], list(values[_ENDS:])
    are_numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    return len(ends) == _ENDS and are_numbers and rest in ([], [_LOG])


@dataclass(frozen=True, kw_only=True)
class _Number:
    """Range of numbers; both ends belong to it, unless `is_open`."""

    low: float
    high: float
    is_whole: bool = False
    is_open: bool = False
    """Neither end belongs to it."""
    above_low: bool = False
    """The lower end does not belong to it."""

    def fault(self, value: object) -> str | None:
        kind = "a whole number" if self.is_whole else "a number"
        between = f"{self.low:g} to {self.high:,g}"
        if self.is_open:
            between = f"between {self.low:g} and {self.high:g}"
        elif self.above_low:
            between = f"above {self.low:g} and at most {self.high:,g}"
        types = int if self.is_whole else (int, float)
        is_number = isinstance(value, types) and not isinstance(value, bool)
        if is_number and 0 < abs(float(value)) < _SMALLEST:  # type: ignore[arg-type]
            between = f"0 or from {_SMALLEST:g}, the least that XGBoost's numbers hold"
            return f"is {kind}, {between}"
        return None if is_number and self._holds(float(value)) else f"is {kind}, {between}"  # type: ignore[arg-type]

    def _holds(self, value: float) -> bool:
        if not math.isfinite(value) or not self.low <= value <= self.high:
            return False
        return not ((self.is_open and value in (self.low, self.high)) or (self.above_low and value == self.low))


@dataclass(frozen=True)
class _Choice:
    """Words of which a value is one."""

    words: tuple[str, ...]
    why: str = ""

    def fault(self, value: object) -> str | None:
        if isinstance(value, str) and value in self.words:
            return None
        return f"is {' or '.join(map(repr, self.words))}{self.why and f', {self.why}'}"


_SHARE = _Number(low=0, high=1, above_low=True)
_PENALTY = _Number(low=0, high=1e6)
_SUPPORTED: Mapping[str, _Number | _Choice] = {
    "n_estimators": _Number(low=1, high=100_000, is_whole=True),
    "max_depth": _Number(low=0, high=32, is_whole=True),
    "max_leaves": _Number(low=0, high=65_536, is_whole=True),
    "max_bin": _Number(low=2, high=65_536, is_whole=True),
    "grow_policy": _Choice(("depthwise", "lossguide")),
    "learning_rate": _Number(low=0, high=1),
    "min_child_weight": _PENALTY,
    "gamma": _PENALTY,
    "reg_alpha": _PENALTY,
    "reg_lambda": _PENALTY,
    "max_delta_step": _PENALTY,
    "subsample": _SHARE,
    "colsample_bytree": _SHARE,
    "colsample_bylevel": _SHARE,
    "colsample_bynode": _SHARE,
    "num_parallel_tree": _Number(low=1, high=1_000, is_whole=True),
    "scale_pos_weight": _Number(low=0, high=1e6, above_low=True),
    "base_score": _Number(low=0, high=1, is_open=True),
    "objective": _Choice(("binary:logistic",), "the one that gives a probability"),
    "tree_method": _Choice(("hist",), "since rows are binned before the training"),
    "booster": _Choice(("gbtree",), "since a model is explained and resumed by its trees"),
}
_ELSEWHERE = {
    "random_state": "the policy's `seed`",
    "seed": "the policy's `seed`",
    "n_jobs": "ACIS_TRAIN_N_JOBS",
    "nthread": "ACIS_TRAIN_N_JOBS",
    "device": "the policy's `device`",
    "early_stopping_rounds": "the policy's `early_stopping_rounds`",
    "monotone_constraints": "the policy's `monotone`",
    "eval_metric": "the policy's `search_metric`, or `early_stopping_rounds`, which looks at the log loss",
    "verbosity": "LOG_LEVEL",
    "missing": "nothing: what is missing is NULL in the feature view",
    "callbacks": "nothing: it is not data",
}
"""Parameters that a strategy may not set, and what to set instead."""


def params_faults(trainer: str, params: Mapping[str, Value]) -> Iterator[str]:
    """Yield what is wrong with `training.params`; nothing for a custom trainer, which knows its parameters."""
    if trainer != _DEFAULT_TRAINER:
        for name, value in params.items():
            fault = _number_fault(value)
            if fault:
                yield f"training.params.{name} is a finite number that is no larger than 2**63: it {fault}"
        return
    for name, value in params.items():
        fault = fault_of(name, value)
        if fault:
            yield f"training.params.{fault}"
    if params.get("max_depth") == 0 and not params.get("max_leaves"):
        yield "training.params.max_depth = 0 puts no bound on a tree; set max_leaves beside it"


def search_faults(trainer: str, space: Mapping[str, Sequence[Value]]) -> Iterator[str]:
    """Yield what is wrong with `training.search`, whose ends and choices are each a value.

    space : one in which each list of values can be searched (`search_fault`)
    """
    if trainer != _DEFAULT_TRAINER:
        return
    for one in dimensions(space):
        ends = one.choices or tuple(int(end) if one.is_integer else end for end in (one.low, one.high))
        fault = next(filter(None, (fault_of(one.name, end) for end in ends)), None)
        if fault:
            yield f"training.search.{fault}"


def _number_fault(value: Value) -> str | None:
    """Describe why no trainer is given this number; None for what is none, or may be one."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"is not finite (found {value})"
    if isinstance(value, int | float) and abs(value) > _MOST:
        return f"is larger than any seed, {_MOST:.0e}: a slip of a finger is likelier than a meaning"
    return None


def fault_of(name: str, value: object) -> str | None:
    """Describe why a value of a parameter is refused, beginning with its name; None where it is not."""
    if name in _ELSEWHERE:
        return f"{name} cannot be set by a strategy; set {_ELSEWHERE[name]}"
    supported = _SUPPORTED.get(name)
    if supported is None:
        near = difflib.get_close_matches(name, _SUPPORTED, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"these are: {', '.join(_SUPPORTED)}"
        return f"{name} is no parameter that this system supports; {hint}"
    fault = supported.fault(value)
    return fault and f"{name} {fault} (found {value!r})"
