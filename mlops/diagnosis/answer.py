"""What a question of `acis doctor` is answered with."""

from __future__ import annotations

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
