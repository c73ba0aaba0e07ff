"""Ctrl-C that lets a command finish what it is at."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from mlops.reporting.terminal import err


class Interruption:
    """Context manager: the first Ctrl-C makes it true, a second one interrupts as ever."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._came = False
        self._before: Any = None

    def __bool__(self) -> bool:
        return self._came

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        err.print(self._words)
