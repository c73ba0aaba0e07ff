"""An experiment's confidence sequence as the page draws it, look by look, with the shares that were answered; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from admin.pictures.axes import TimeAxis, ValueAxis, around
from mlops.domain.experiments.records import Experiment, Look
from mlops.reporting.experiments import UNITS, expected_end

_ROOM = 1.6
"""Of the newest interval, so much is shown: the first ones are so wide that nothing else would be seen."""


@dataclass(frozen=True, kw_only=True)
class SequencePoint:
    """A look, in the measure's unit."""

    day: date
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class ShareBand:
    """Days of looks at one share."""

    share: float
    first: date
    last: date


@dataclass(frozen=True, kw_only=True)
class SequencePicture:
    """What is drawn."""

    axis: TimeAxis
    values: ValueAxis
    unit: str
    points: tuple[SequencePoint, ...]
    bands: tuple[ShareBand, ...]
    ended: date | None
    """Date of the look that ended it, or of the newest one where something else did"""
    expected: date | None
    """About which it is expected to be decided; None: ended, or beyond the picture"""


def sequence_picture(experiment: Experiment, looks: Sequence[Look]) -> SequencePicture | None:
    """Give the picture of an experiment; None without a look. looks : oldest first"""
    if not looks:
        return None
    factor, unit = UNITS[experiment.plan.measure]
    points = tuple(
        SequencePoint(day=look.as_of, mean=_times(look.mean, factor), low=_times(look.low, factor),
                      high=_times(look.high, factor))
        for look in looks
    )  # fmt: skip
    axis, expected = _axis(experiment, looks[-1].as_of)
    return SequencePicture(
        axis=axis,
        values=_values(points),
        unit=unit,
        points=points,
        bands=tuple(_bands(looks)),
        ended=None if experiment.is_running else looks[-1].as_of,
        expected=expected,
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _axis(experiment: Experiment, newest: date) -> tuple[TimeAxis, date | None]:
    """From its start to its end, or to the expected one where that leaves the looks a third of the width."""
    first = experiment.started_as_of
    if not experiment.is_running:
        return TimeAxis(first=first, last=max(newest, first + timedelta(days=13))), None
    until = max(newest + timedelta(days=3), first + timedelta(days=13))
    median = expected_end(experiment).median
    if median is None or median < newest or (median - first) > 3 * (until - first):
        return TimeAxis(first=first, last=until), None
    return TimeAxis(first=first, last=max(until, median + timedelta(days=3))), median


def _values(points: Sequence[SequencePoint]) -> ValueAxis:
    means = [point.mean for point in points if point.mean is not None]
    newest = next((point for point in reversed(points) if point.low is not None and point.high is not None), None)
    if newest is None or newest.low is None or newest.high is None:
        return around([0.0, *means], least=1.0)
    middle, half = (newest.low + newest.high) / 2, (newest.high - newest.low) / 2 * _ROOM
    return around([0.0, middle - half, middle + half, *means])


def _bands(looks: Sequence[Look]) -> list[ShareBand]:
    found = []
    for share, part in groupby(looks, key=lambda look: look.share):
        days = [look.as_of for look in part]
        found.append(ShareBand(share=share, first=days[0], last=days[-1]))
    return found
