"""Newly known labels that a champion gets wrong: what is said, what is trained on which dates, and who replaces whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.domain.errors import InsufficientData
from mlops.domain.policies import DriftPolicy
from mlops.domain.promotion.evidence import replay
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.training.since_change import SINCE_TAG, least_dates, next_dates
from mlops.reporting.narrative import stage_lines, why
from mlops.reporting.page.render import render_page
from mlops.stages.drift import check_drift
from mlops.stages.promote import promote
from mlops.stages.train import train
from tests.support.services import FIRST, MODEL, FakeServices, panel, small_strategy

DAY = timedelta(days=1)
TRAINED_ON, CHANGED_ON = FIRST + 120 * DAY, FIRST + 140 * DAY
HORIZON = 5
LEAST = least_dates(HORIZON)
CALM = DriftPolicy(rule="raw", psi_significant=5.0)


def changed(on: date = CHANGED_ON, table: pa.Table | None = None) -> pa.Table:
    """The panel, in which what went up with `momentum` goes down with it from a date on."""
    table = panel() if table is None else table
    days = np.asarray(table.column("date").to_numpy(), dtype="datetime64[D]")
    target = np.where(days >= np.datetime64(on), -1.0, 1.0) * table.column("target_return").to_numpy()
    return table.set_column(table.column_names.index("target_return"), "target_return", pa.array(target))


@pytest.fixture(autouse=True)
def _champion(services: FakeServices) -> None:
    """A refitted champion of the time before the change."""
    services.with_policy(training=replace(small_strategy().training, refit=True), drift=CALM)
    services.with_source(changed())
    assert run(services, Kind.RETRAIN, TRAINED_ON).result["promoted"]


STAGES = {Stage.DRIFT: check_drift, Stage.TRAIN: train, Stage.PROMOTE: promote}


def stages(services: FakeServices, kind: Kind, as_of: date, **asked: Any) -> Iterator[tuple[Grant, StageOutcome]]:
    """The stages of a run as of a date, one after the other."""
    first = Stage.DRIFT if kind in (Kind.PIPELINE, Kind.CHECK) else Stage.TRAIN
    grant = services.granted(kind, first, as_of=as_of, **asked)
    while True:
        outcome = STAGES[grant.stage](grant, services, services.keeper(grant))
        services.ledger.finish(grant, outcome)
        yield grant, outcome
        if outcome.next_stage is None:
            return
        grant = services.claimed(grant.run_id, outcome.next_stage)


def run(services: FakeServices, kind: Kind, as_of: date, **asked: Any) -> StageOutcome:
    """The last stage's outcome."""
    return list(stages(services, kind, as_of, **asked))[-1][1]


def watched(services: FakeServices, as_of: date, kind: Kind = Kind.CHECK) -> dict[str, Any]:
    return dict(run(services, kind, as_of).result["label_watch"])


def first_training(services: FakeServices) -> date:
    """The first day whose check would open a training for labels."""
    days = (CHANGED_ON + number * DAY for number in range(40))
    return next(day for day in days if watched(services, day)["retrain"])


def test_a_changed_relation_replaces_the_champion_by_one_that_learnt_the_new_one(services: FakeServices) -> None:
    day = first_training(services)
    done = list(stages(services, Kind.PIPELINE, day))
    (_, check), (_, trained), (_, decided) = done
    assert (check.result["retrain_reason"], check.next_stage) == ("labels", Stage.TRAIN)
    since = date.fromisoformat(check.result["label_watch"]["change_at"])
    assert abs((since - CHANGED_ON).days) <= 2
    assert trained.result[SINCE_TAG] == trained.result["train_start"] == since.isoformat()
    assert trained.result["train_end"] == (day - HORIZON * DAY).isoformat()
    # The twin's last date and the first held-out one are a horizon apart; together they have all but h - 1 dates.
    first_held, twin_end = (date.fromisoformat(text) for text in (trained.result["holdout_start"], trained.result["twin"]["train_end"]))
    assert (first_held - twin_end).days == HORIZON
    assert decided.result["decision"] == "promote", decided.result["reasons"]
    assert decided.result["comparison"]["n_dates_before"] >= 2 * HORIZON
    assert services.ledger.champion("growth").version == "2"
    version = services.registry.version(MODEL, "2")
    assert version.tags[SINCE_TAG] == since.isoformat()


def test_the_decision_on_few_dates_is_made_again_from_its_evidence(services: FakeServices) -> None:
    decided = run(services, Kind.PIPELINE, first_training(services))
    promotion = services.ledger.promotions("growth", limit=1)[0]
    assert promotion.evidence["common"]["champion_before"]
    again = replay(promotion.evidence, promotion.evidence_digest)
    assert again is not None
    assert again.agrees
    assert decided.result["evidence_digest"] == again.digest
