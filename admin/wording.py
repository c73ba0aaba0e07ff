"""How times, ages, durations, sizes and shares are written; each is a filter of the templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from markupsafe import Markup

from admin.heat import spark
from mlops.domain.promotion.bootstrap import INTERVAL_LEVEL
from mlops.reporting import experiments
from mlops.volumes import size as in_bytes

NOTHING = "–"
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))

_STATE_TONES = {
    "queued": "waiting",
    "running": "busy",
    "succeeded": "good",
    "promote": "good",
    "promoted": "good",
    "stable": "good",
    "alive": "good",
    "on": "good",
    "refused": "calm",
    "keep": "calm",
    "inconclusive": "calm",
    "skipped": "calm",
    "cancelled": "calm",
    "rollback": "calm",
    "restore": "calm",
    "override": "warn",
    "given back": "warn",
    "paused": "warn",
    "insufficient": "warn",
    "undecided": "calm",
    "holds": "good",
    "too few answers": "calm",
    "not clear yet": "warn",
    "champion": "calm",
    "challenger": "busy",
    "held": "warn",
    "abort": "warn",
    "awaiting_approval": "warn",
    "await_approval": "warn",
    "drifted": "bad",
    "failed": "bad",
    "dead": "bad",
    "late": "bad",
    "policy does not fit": "bad",
    "silent": "bad",
    "broken": "bad",
}
"""Colour of a badge; the word stands in it, so that the colour says nothing that is not written."""
_WORDS = {
    "awaiting_approval": "awaits approval",
    "await_approval": "awaits approval",
    "abort": "aborted",
    "compare": "comparison",
    "holdout_majority_accuracy": "majority class of the held-out dates",
    "majority_accuracy": "majority class of the training, on the held-out dates",
}


def duration(seconds: float | None) -> str:
    """`4 d 3 h`, `2 h 5 min`, `3 min 20 s`, `12 s`, `0.3 s`."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 60:
        return f"{seconds:.0f} s"
    for place, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            whole = int(seconds // size)
            below, small = _UNITS[place + 1] if place + 1 < len(_UNITS) else (1.0, "s")
            rest = int((seconds - whole * size) // below)
            return (
                f"{whole} {unit} {rest} {small}"
                if rest and whole < 10 * (24 if unit == "h" else 1)
                else f"{whole} {unit}"
            )
    return f"{seconds:.0f} s"


def between(start: datetime | None, end: datetime | None) -> str:
    """How long from one time to another."""
    return NOTHING if start is None or end is None else duration((end - start).total_seconds())


def when(value: datetime | date | None) -> Markup | str:
    """A time in UTC, to the minute; its title has the seconds."""
    if value is None:
        return NOTHING
    if not isinstance(value, datetime):
        return Markup('<time datetime="{0}">{0}</time>').format(value.isoformat())
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{utc:%Y-%m-%d %H:%M} UTC"
    )


def local(value: datetime | None) -> Markup | str:
    """A time in the reader's own zone; the browser fills it in, and without a script it is UTC."""
    if value is None:
        return NOTHING
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}" data-local>{}</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M} UTC"
    )


def ago(value: datetime | None, now: datetime) -> Markup | str:
    """`3 min 20 s ago`, or `in 2 h`; its title has the time."""
    if value is None:
        return NOTHING
    seconds = (now - value).total_seconds()
    words = f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S} UTC", words
    )


def days_old(value: date | None, now: datetime) -> str:
    """`today`, `1 day`, `40 days`."""
    if value is None:
        return NOTHING
    days = (now.date() - value).days
    return "today" if days <= 0 else ("1 day" if days == 1 else f"{days} days")


def share(value: float | None, digits: int = 0) -> str:
    """`42 %`."""
    return NOTHING if value is None else f"{value * 100:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """`0.712`; a whole number with thousands apart."""
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def size(value: float | None) -> str:
    """`3.4 MB`, powers of a thousand."""
    return NOTHING if value is None else in_bytes(int(value))


def words(value: object) -> str:
    """A state or kind as it is read: `awaits approval`."""
    text = str(value)
    return _WORDS.get(text, text.replace("_", " "))


def sentence(words: str) -> str:
    """With a capital and a full stop, whatever it was part of."""
    return f"{words[:1].upper()}{words[1:]}".rstrip(".") + "."


def badge(value: object) -> Markup:
    """A state in a coloured box; the word stands in it."""
    if value in (None, ""):
        return Markup("–")
    return Markup('<span class="badge {}">{}</span>').format(_STATE_TONES.get(str(value), "calm"), words(value))


def short(value: object, length: int = 8) -> str:
    """The first characters of an id or a digest."""
    return str(value or "").removeprefix("sha256:")[:length]


def as_json(value: object) -> str:
    """For a `data-` attribute, which the template escapes."""
    return json.dumps(value, default=str, separators=(",", ":"))


def indented(value: object) -> str:
    """JSON to be read."""
    return json.dumps(value, default=str, indent=2, ensure_ascii=False)


FILTERS: dict[str, Callable[..., Any]] = {
    "duration": duration,
    "when": when,
    "local": local,
    "ago": ago,
    "days_old": days_old,
    "share": share,
    "number": number,
    "size": size,
    "words": words,
    "sentence": sentence,
    "badge": badge,
    "short": short,
    "as_json": as_json,
    "indented": indented,
    "spark": spark,
    "percent": experiments.percent,
    "in_unit": experiments.in_unit,
    "experiment_standing": experiments.standing,
    "experiment_interval": experiments.interval,
    "experiment_end": experiments.expected_end,
    "guardrail_state": experiments.guardrail_state,
}
GLOBALS: dict[str, Any] = {"between": between, "NOTHING": NOTHING, "INTERVAL_LEVEL": INTERVAL_LEVEL}
