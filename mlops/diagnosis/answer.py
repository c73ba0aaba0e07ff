"""What a question of `acis doctor` is answered with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question's answer."""

    subject: str
    level: Level
    found: str
    mend: str = ""
    strategy: str = ""
    """Of which it is one of many like answers; empty: there is one such answer alone."""
    kind: str = ""
    """What the answers of several strategies have in common, without the figures of each."""


def summed_up(answers: Sequence[Answer], *, most: int = 8, shown: int = 3) -> list[Answer]:
    """One line where more than `most` strategies have an answer of the same kind: how many, and `shown` examples."""
    groups: dict[tuple[str, str, str], list[Answer]] = {}
    for answer in answers:
        if answer.strategy:
            groups.setdefault(_group(answer), []).append(answer)
    lines = []
    for answer in answers:
        alike = groups.get(_group(answer), []) if answer.strategy else []
        if len(alike) <= most:
            lines.append(answer)
        elif answer is alike[0]:
            lines.append(_sum(alike, shown))
    return lines


def _group(answer: Answer) -> tuple[str, str, str]:
    return _subject(answer), answer.level, answer.kind


def _subject(answer: Answer) -> str:
    return answer.subject.removesuffix(f" of {answer.strategy}")


def _sum(alike: Sequence[Answer], shown: int) -> Answer:
    examples = alike[:1] if alike[0].level == "ok" else alike[:shown]
    named = "; ".join(f"{one.strategy}: {one.found}" for one in examples)
    return Answer(
        subject=f"{_subject(alike[0])} of {len(alike):,} strategies",
        level=alike[0].level,
        found=f"{alike[0].kind}; as {named}",
        mend=alike[0].mend,
        kind=alike[0].kind,
    )
