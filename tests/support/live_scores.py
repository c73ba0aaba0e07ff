"""Scored days of made-up champions in a ledger, by a run as a worker ends it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np

from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.records import DayScored, Kind, LiveFindings, RunState, Stage, StageOutcome
from tests.support.services import FakeServices

SHA256 = "ab" * 32


def trading_days(first: date, n: int) -> list[date]:
    """So many days from Monday to Friday."""
    return [day for day in (first + timedelta(days=number) for number in range(2 * n + 7)) if day.weekday() < 5][:n]


def made_up_scores(
    days: list[date], *, skill: float = 1.0, ripe: int | None = None, n: int = 20, seed: int = 1
) -> dict[date, DayScore]:
    """Calibrated predictions of n names a day, and what came of them; without skill they say what comes by chance.

    ripe : so many days have outcomes, the first ones; None: all
    """
    generator = np.random.default_rng(seed)
    found = {}
    for place, day in enumerate(days):
        p = 1 / (1 + np.exp(-generator.normal(size=n)))
        y = (generator.uniform(size=n) < (p if skill else 0.5)).astype(np.int8)
        returns = 0.01 * generator.normal(size=n) + 0.004 * skill * (y - 0.5)
        known = np.full(n, ripe is None or place < ripe)
        found[day] = score_day(p, y, known, returns, is_long=True)
    return found


def scored(
    services: FakeServices,
    versions: Mapping[str, Mapping[date, DayScore]],
    *,
    document: Mapping[str, Any] | None = None,
    strategy: str = "growth",
) -> str:
    """The run of a scoring that found these days. versions : of each version its days"""
    grant = services.granted(Kind.SCORE, Stage.SCORE, strategy)
    days = tuple(_scored(version, day, score) for version, scores in versions.items() for day, score in scores.items())
    findings = LiveFindings(days=days, document=dict(document or {}))
    as_of = max(day.as_of for day in days)
    services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED, as_of=as_of, live=findings))
    return grant.run_id


def _scored(version: str, day: date, score: DayScore) -> DayScored:
    document = score.to_json()
    return DayScored(
        version=version,
        model_sha256=SHA256,
        variant="champion",
        as_of=day,
        n_predictions=score.n_predictions,
        n_labelled=score.n_labelled,
        score=document,
        digest=hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
    )
