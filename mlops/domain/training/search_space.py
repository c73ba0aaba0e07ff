"""What a search may choose from: `training.search`, one list of values per parameter.

    max_depth = [3, 8]                  whole numbers from 3 to 8
    subsample = [0.5, 1.0]              any number between
    learning_rate = [0.01, 0.3, "log"]  any number between, evenly on a logarithmic scale
    grow_policy = ["depthwise", "lossguide"]   one of these; so are three numbers or more, and truth values

Pure; read by the strategies file, which refuses what means nothing, and by the tuning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = float | int | str | bool
LOG = "log"
_ENDS = 2


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One parameter's values."""

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
    """Why these values cannot be searched; None where they can."""
    wrong = _range_fault(values) if _is_range(values) else _choices_fault(values)
    return f"training.search.{name} = {list(values)} {wrong}" if wrong else None


def _choices_fault(values: Sequence[Value]) -> str | None:
    if not values:
        return "holds no value; give [low, high], [low, high, 'log'] or choices"
    if LOG in values:
        return "is no range; write [low, high, 'log'] with two numbers"
    return "names a choice twice" if len(set(values)) < len(values) else None


def _range_fault(values: Sequence[Value]) -> str | None:
    low, high = float(values[0]), float(values[1])
    if not (math.isfinite(low) and math.isfinite(high)):
        return "is not finite"
    if low > high:
        return "goes down; write the smaller number first"
    return f"has no logarithm at {values[0]}; begin above 0" if values[-1] == LOG and low <= 0 else None


def _dimension(name: str, values: Sequence[Value]) -> Dimension:
    if not _is_range(values):
        return Dimension(name=name, choices=tuple(values))
    low, high = values[:_ENDS]
    return Dimension(
        name=name,
        low=float(low),
        high=float(high),
        is_integer=isinstance(low, int) and isinstance(high, int),
        is_log=values[-1] == LOG,
    )


def _is_range(values: Sequence[Value]) -> bool:
    ends, rest = values[:_ENDS], list(values[_ENDS:])
    are_numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    return len(ends) == _ENDS and are_numbers and rest in ([], [LOG])
