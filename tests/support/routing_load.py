"""Rollbacks and changes of share under load, each answer compared with who could have answered; for test and bench."""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from mlops.domain.experiments.records import Experiment
from mlops.serving.router import ModelRouter

VERSIONS = ("1", "2", "3")
"""Champions are the first two in turns, and the third challenges each."""
N_ROLLBACKS, N_SHARES = 20, 200


class Product(Protocol):
    """The writing side."""

    def place(self, version: str) -> None:
        """Make it the champion, which ends the experiment against the one before."""
        ...

    def start(self, challenger: str, steps: tuple[float, ...], number: int) -> Experiment:
        """Start a canary against the champion."""
        ...

    def advance(self) -> Experiment:
        """Give the challenger its next share."""
        ...


@dataclass
class _State:
    champion: str
    theirs: frozenset[str]
    """Keys of the challenger"""
    began: float
    """Before it was written"""
    settled: float = float("inf")
    """After it was followed: no answer that begins later is of a state before"""


@dataclass
class Found:
    """What happened."""

    n_requests: int = 0
    n_answers: int = 0
    faults: list[str] = field(default_factory=list)
    n_rollbacks: int = 0
    n_shares: int = 0
    n_moved: int = 0
    """Keys that another version answered after a change of share"""
    n_fewest: int = 0
    """Keys by which the challenger's number of keys grew: no rule moves fewer"""
    expected_moved: float = 0.0
    """Keys times the changes of the share"""


class RoutingLoad:
    """Threads that ask, and the states that there were."""

    def __init__(self, frame: pd.DataFrame, probabilities: Mapping[str, np.ndarray]) -> None:
        """frame: a row for each key. probabilities: (n,) of each version."""
        self.frame, self.keys = frame, [f"K{place}" for place in range(len(frame))]
        self.rows = frame.to_dict("records")
        self._probabilities = probabilities
        self._states: list[_State] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._asked: list[tuple[float, float, str, int, str, str, float]] = []
        self.found = Found()

    def ask(self, one: Callable[[int], Sequence[tuple[int, str, str, float]]], *, slack_s: float = 0.0) -> None:
        """Ask in a thread until the end. one: given the request's number, gives place, version, variant, probability
        of each answer. slack_s: a state may be answered from for so long after it was followed.
        """
        self._threads.append(threading.Thread(target=self._ask, args=(one, slack_s), daemon=True))
        self._threads[-1].start()

    def _ask(self, one: Callable[[int], Sequence[tuple[int, str, str, float]]], slack_s: float) -> None:
        number = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                answers = one(number)
            except Exception as exc:  # noqa: BLE001 -- whatever a request ends with
                self.found.faults.append(repr(exc))
                answers = ()
            ended = time.monotonic()
            self._asked += [(began - slack_s, ended, self.keys[place], place, *rest) for place, *rest in answers]  # type: ignore[misc]
            self.found.n_requests += 1
            number += 1

    def one_by_one(self, router: ModelRouter) -> Callable[[int], Sequence[tuple[int, str, str, float]]]:
        """`predict_one`, a key after the other."""

        def one(number: int) -> Sequence[tuple[int, str, str, float]]:
            place = number % len(self.keys)
            answer = router.predict_one(self.rows[place], key=self.keys[place])
            return [(place, answer.version, answer.variant, answer.probability)]

        return one

    def in_frames(self, router: ModelRouter) -> Callable[[int], Sequence[tuple[int, str, str, float]]]:
        """`predict`, 50 rows a call."""

        def one(number: int) -> Sequence[tuple[int, str, str, float]]:
            first = number * 50 % len(self.keys)
            answers = router.predict(self.frame.iloc[first : first + 50], tickers=self.keys[first : first + 50])
            of_each = zip(answers.versions, answers.variants, answers.probability.tolist(), strict=True)
            return [(first + place, *of) for place, of in enumerate(of_each)]

        return one

    def drive(self, product: Product, router: ModelRouter) -> None:
        """Change the share and roll back, the router following each change."""
        n_advances = N_SHARES // N_ROLLBACKS
        steps = tuple(float(step) for step in np.geomspace(0.01, 1.0, n_advances + 1))
        for number in range(N_ROLLBACKS):
            champion = VERSIONS[number % 2]
            self._change(router, champion, lambda number=number: product.start(VERSIONS[2], steps, number))  # type: ignore[misc]
            after = router.predict(self.frame, keys=self.keys).versions
            for step in range(n_advances):
                before = after
                self._change(router, champion, product.advance)
                after = router.predict(self.frame, keys=self.keys).versions
                self.found.n_moved += sum(a != b for a, b in zip(before, after, strict=True))
                self.found.n_fewest += abs(after.count(VERSIONS[2]) - before.count(VERSIONS[2]))
                self.found.expected_moved += len(self.keys) * (steps[step + 1] - steps[step])
                self.found.n_shares += 1
            other = VERSIONS[1 - number % 2]
            self._change(router, other, lambda other=other: product.place(other))  # type: ignore[misc]
            self.found.n_rollbacks += 1

    def begin(self, champion: str) -> None:
        """Note the first state."""
        self._switch_s = sys.getswitchinterval()
        sys.setswitchinterval(0.001)  # as the service has it: what changes the routes waits for who asks
        self._states.append(_State(champion, frozenset(), float("-inf"), float("-inf")))

    def _change(self, router: ModelRouter, champion: str, write: Callable[[], Experiment | None]) -> None:
        state = _State(champion, frozenset(), time.monotonic())
        made = write()
        if made is not None:
            state.theirs = frozenset(key for key in self.keys if made.assignment.is_challengers(key))
        self._states.append(state)
        router.follow()
        state.settled = time.monotonic()

    def end(self) -> Found:
        """Stop asking, and compare each answer with who could have given it."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                self.found.faults.append("a request did not end")
        sys.setswitchinterval(self._switch_s)
        settled, begun = [one.settled for one in self._states], [one.began for one in self._states]
        checked: dict[tuple[int, int, str, str, str], bool] = {}
        for began, ended, key, place, version, variant, probability in self._asked:
            # States that a request of that time may have been answered from.
            said = bisect_right(settled, began) - 1, bisect_right(begun, ended), key, version, variant
            could = checked.get(said)
            if could is None:
                states = self._states[said[0] : said[1]]
                could = checked[said] = any(self._may(state, key, version, variant) for state in states)
            if not could:
                self.found.faults.append(f"{key} was answered by {version} ({variant}), which could not be")
            elif not abs(probability - float(self._probabilities[version][place])) <= 2e-6:
                self.found.faults.append(f"{key} was not answered by {version}, which was said")
        self.found.n_answers = len(self._asked)
        return self.found

    @staticmethod
    def _may(state: _State, key: str, version: str, variant: str) -> bool:
        expected = (VERSIONS[2], "challenger") if key in state.theirs else (state.champion, "champion")
        return (version, variant) == expected
