"""Checks a cron expression's five fields, so that a strategies file with a wrong one is refused when it is read.

`tasks.slots` computes the times, with Celery; what is accepted here is a part of what it accepts. Values only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ITEM = re.compile(r"(?:(?P<star>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[1-9]\d{0,2}))?", re.ASCII)
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONGEST = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}


@dataclass(frozen=True, kw_only=True)
class _Field:
    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> set[int]:
        """The values that the text stands for. Raises ValueError in words."""
        found: set[int] = set()
        for item in text.split(","):
            match = _ITEM.fullmatch(item)
            if match is None or (match["step"] and match["first"] and not match["last"]):
                message = (
                    f"{self.name} {item!r} is none of *, a number, a range as 1-5, each with a step as */5 or 1-9/2"
                )
                raise ValueError(message)
            first = self.least if match["star"] else self._value(match["first"])
            last = self.most if match["star"] else self._value(match["last"] or match["first"])
            # A range may pass the end: 22-2 are the hours 22, 23, 0, 1, 2.
            span = [*range(first, last + 1)] or [*range(first, self.most + 1), *range(self.least, last + 1)]
            found.update(span[:: int(match["step"] or 1)])
        return found

    def _value(self, word: str) -> int:
        if word.lower() in self.names:
            return self.least + self.names.index(word.lower())
        if not word.isdecimal() or not self.least <= int(word) <= self.most:
            names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
            message = f"{self.name} {word!r} is not {self.least} to {self.most}{names}"
            raise ValueError(message)
        return int(word)


_FIELDS = (
    _Field(name="minute", least=0, most=59),
    _Field(name="hour", least=0, most=23),
    _Field(name="day", least=1, most=31),
    _Field(name="month", least=1, most=12, names=_MONTHS),
    _Field(name="weekday", least=0, most=6, names=_WEEKDAYS),
)


def cron_fault(expression: str) -> str | None:
    """What is wrong with the expression, in words; None where it has times. Sunday is 0."""
    texts = expression.split()
    if len(texts) != len(_FIELDS):
        return f"it has {len(texts)} fields instead of 5: minute hour day month weekday"
    try:
        _, _, days, months, _ = (field.values(text) for field, text in zip(_FIELDS, texts, strict=True))
    except ValueError as exc:
        return str(exc)
    if min(days) > max(_LONGEST[month] for month in months):
        return f"no month of {texts[3]!r} has a day {texts[2]!r}"
    return None
