"""Champions that answer, and days of their predictions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import xgboost as xgb

from mlops.domain.policies import LivePolicy
from mlops.domain.ports import ModelVersion
from mlops.domain.promotion.records import Champion
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.stages.live.predict import predict_universe
from tests.support.ledgers import decision_for, promoting
from tests.support.models import trained_model
from tests.support.services import FEATURES, LAST, MODEL, FakeServices, panel

LIVE = LivePolicy(predict=True)
TRAINED_AS_OF = date(2020, 5, 1)
DATES = {
    "training_date": TRAINED_AS_OF.isoformat(),
    "train_start": "2020-01-01",
    "train_end": "2020-03-31",
    "holdout_start": "2020-04-06",
    "holdout_end": "2020-04-25",
}
"""What a training says of its dates; the held-out ones are 20."""


def with_return_column(table: pa.Table, *, seed: int = 5) -> pa.Table:
    """The panel with `return_1d`, the simple return of the last date."""
    returns = np.random.default_rng(seed).normal(size=table.num_rows) * 0.01
    return table.append_column("return_1d", pa.array(returns))


def without(table: pa.Table, day: date) -> pa.Table:
    """The panel without a date."""
    return table.filter(pc.not_equal(table.column("date"), pa.scalar(day, pa.date32())))


def classifier_of(table: pa.Table, *, rounds: int = 5, features: tuple[str, ...] = FEATURES) -> xgb.XGBClassifier:
    """A small model of the panel's label."""
    frame = pd.DataFrame({name: table.column(name).to_numpy() for name in features}).astype("float32")
    y = (table.column("target_return").to_numpy() > 0).astype(int)
    return xgb.XGBClassifier(n_estimators=rounds, max_depth=2, n_jobs=1, seed=1).fit(frame, y)


def logged(services: FakeServices, run_id: str, *, rounds: int) -> ModelVersion:
    """A version of the panel's label in the registry."""
    model = classifier_of(panel(), rounds=rounds)
    trained = trained_model(run_id, model_name=MODEL)
    return services.registry.log_training(replace(trained, model=model, tags={**trained.tags, **DATES}))


def promoted(services: FakeServices, run_id: str = "made-1", *, rounds: int = 5) -> ModelVersion:
    """The same, and the champion by the ledger."""
    version = logged(services, run_id, rounds=rounds)
    champion: Champion = services.ledger.champion("growth")
    decision = decision_for(
        version.version,
        expected_seq=champion.seq,
        identity=version.identity,
        as_of=TRAINED_AS_OF,
        trained_as_of=TRAINED_AS_OF,
    )
    grant = promoting(services.ledger)
    services.ledger.decide(grant, decision)
    services.ledger.finish(grant, StageOutcome(result={"version": version.version}, run_state=RunState.SUCCEEDED))
    return version


def predicted(services: FakeServices, day: date | None = LAST, **asked: Any) -> StageOutcome:
    """A run that has predicted the date, finished."""
    grant = services.granted(Kind.PREDICT, Stage.PREDICT, as_of=day, **asked)
    outcome = predict_universe(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome
