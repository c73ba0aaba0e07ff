"""Models in use without servers: a ledger of one champion, whose model is kept in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from config.settings import Settings
from mlops.domain.errors import LedgerUnavailable
from mlops.domain.experiments.decision import Mode
from mlops.domain.experiments.policy import ExperimentPolicy, GuardrailPolicy
from mlops.domain.experiments.records import (
    AnswerCount,
    Experiment,
    ExperimentPlan,
    Measure,
    NewExperiment,
    ServingState,
)
from mlops.domain.promotion.records import Champion, ModelIdentity
from mlops.domain.records import LIVE
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import MODEL, key_of
from mlops.registry.opening import ModelServices
from mlops.serving.loading import ModelFile, serve
from mlops.serving.model import ServedModel
from mlops.strategies.file import Strategies
from tests.support.registry import FakeRegistry
from tests.support.services import small_strategy

FEATURES = tuple(f"feature_{number}" for number in range(6))
NEVER_S = 1e9
"""The router's own thread does not ask; a test calls `follow`."""


def rows(n: int = 2000, *, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(n, 6) float32, a tenth of them missing."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, len(FEATURES))).astype(np.float32)
    x[generator.random(x.shape) < 0.1] = np.nan
    return x


def frame(n: int = 2000, *, seed: int = 1) -> pd.DataFrame:
    """The rows with their names."""
    return pd.DataFrame(rows(n, seed=seed), columns=list(FEATURES))


def classifier(*, seed: int = 1, features: tuple[str, ...] = FEATURES, **params: Any) -> xgb.XGBClassifier:
    """A small classifier of the rows; another seed is another model."""
    x = rows(seed=seed)[:, : len(features)]
    noise = np.random.default_rng(seed + 100).normal(size=len(x))
    y = (np.nan_to_num(x[:, 0]) + noise > 0).astype(int)
    model = xgb.XGBClassifier(**{"n_estimators": 20, "max_depth": 4, "n_jobs": 1, "random_state": seed, **params})
    return model.fit(pd.DataFrame(x, columns=list(features)), y)


def model_bytes(model: xgb.XGBClassifier) -> bytes:
    """The model file."""
    return bytes(model.get_booster().save_raw("ubj"))


def served(model: xgb.XGBClassifier, *, profile: bytes | None = None) -> ServedModel:
    """The model as a router holds it."""
    content = model_bytes(model)
    file = ModelFile(
        strategy="growth",
        version="1",
        seq=1,
        sha256=hashlib.sha256(content).hexdigest(),
        content=content,
        profile=profile,
    )
    return serve(file)


@dataclass
class OneChampion:
    """The part of a ledger that a router asks."""

    champion_now: Champion
    is_away: bool = False
    experiment_now: Experiment | None = None
    counted: dict[tuple[object, ...], AnswerCount] = field(default_factory=dict)
    """The last of each writer, minute, version and variant"""

    def serving_state(self, strategy: str) -> ServingState:
        """Who answers. Raises LedgerUnavailable while it is away."""
        self._answer()
        runs = self.experiment_now if self.champion_now.seq == getattr(self.experiment_now, "champion_seq", 0) else None
        return ServingState(champion=self.champion_now, experiment=runs)

    def count_answers(self, rows: Sequence[AnswerCount]) -> None:
        """Write counts over those of before. Raises LedgerUnavailable while it is away."""
        self._answer()
        self.counted |= {(one.writer, one.minute, one.version, one.variant): one for one in rows}

    def counts(self, version: str, variant: str = "champion") -> Mapping[str, int]:
        """What was counted of a version, all minutes together."""
        found = [one for one in self.counted.values() if (one.version, one.variant) == (version, variant)]
        names = ("n", "n_errors", "n_positive", "n_missing_rows")
        timed = sum(sum(one.latency_ms) for one in found)
        return {**{name: sum(getattr(one, name) for one in found) for name in names}, "timed": timed}

    def _answer(self) -> None:
        if self.is_away:
            raise LedgerUnavailable("PostgreSQL does not answer")

    def close(self) -> None:
        """Nothing is open."""


class Recording:
    """A recorder that keeps all in memory."""

    def __init__(self) -> None:
        self.recorded: list[tuple[ServedModel, list[str], list[date], np.ndarray, list[bytes]]] = []

    def record(self, *given: Any) -> None:
        self.recorded.append(given)  # type: ignore[arg-type]  # as the protocol says

    def flush(self) -> None:
        """Nothing is written."""


def identity_of(model: bytes) -> ModelIdentity:
    """What a model is known by."""
    sha256 = hashlib.sha256(model).hexdigest()
    return ModelIdentity(sha256=sha256, made_by=f"run-{sha256[:8]}")


def champion(version: str | None, seq: int, model: bytes | None = None) -> Champion:
    """The champion of `growth`, known by its model's bytes."""
    return Champion(
        namespace="",
        strategy="growth",
        version=version,
        seq=seq,
        as_of=None,
        promotion_id=seq,
        identity=ModelIdentity() if model is None else identity_of(model),
    )


def new_experiment(
    challenger: bytes,
    *,
    version: str = "2",
    champion_version: str = "1",
    champion_seq: int = 1,
    mode: Mode = Mode.AB,
    share: float = 0.5,
    steps: tuple[float, ...] = (),
    keys: tuple[str, ...] = (),
    number: int = 1,
) -> NewExperiment:
    """An experiment of `growth`, its challenger known by its bytes; another number is another salt."""
    policy = ExperimentPolicy()
    plan = ExperimentPlan(
        mode=mode,
        steps=steps or (share,),
        measure=Measure.MARK,
        alpha=policy.alpha,
        sharpe=policy.sharpe,
        r=1e-4,
        deadline_days=policy.deadline_days,
        min_days_on_step=policy.min_days_on_step,
        horizon_dates=20,
        guardrails=GuardrailPolicy(),
        salt=f"salt {number}",
        keys=keys,
    )
    return NewExperiment(
        namespace=LIVE,
        strategy="growth",
        plan=plan,
        champion_version=champion_version,
        champion_seq=champion_seq,
        champion=ModelIdentity(),
        challenger_version=version,
        challenger=identity_of(challenger),
        started_as_of=date(2020, 6, 1),
        started_by="test",
        reason="a test",
    )


def running(new: NewExperiment, *, number: int = 1, step: int = 0) -> Experiment:
    """The experiment as the ledger would have it."""
    return Experiment(
        **{one.name: getattr(new, one.name) for one in fields(NewExperiment)},
        id=number,
        step=step,
        step_since=new.started_as_of,
        held=False,
        started_at=datetime(2020, 6, 1, tzinfo=UTC),
    )


class ChampionServices(ModelServices):
    """Services of a router whose ledger, registry and kept models a test sets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Settings(var_dir=folder / "var"))  # type: ignore[call-arg]  # by name, as the settings allow
        self.one = OneChampion(champion(None, 0))
        self.fake_registry = FakeRegistry()
        self.store = CheckpointStore(str(folder / "checkpoints"))
        vars(self).update(
            strategies=Strategies({"growth": small_strategy()}),
            ledger=self.one,
            registry=self.fake_registry,
            checkpoints=self.store,
        )

    def keep(self, model: bytes, *, content: bytes | None = None) -> None:
        """Keep the model, or other content in its place."""
        identity = champion("1", 1, model).identity
        self.store.keep_model(key_of(identity), {MODEL: model if content is None else content})

    def challenge(self, model: xgb.XGBClassifier, **options: Any) -> bytes:
        """Keep a model and start an experiment with it."""
        content = model_bytes(model)
        self.keep(content)
        new = new_experiment(content, champion_seq=self.one.champion_now.seq, **options)
        self.one.experiment_now = running(new, number=options.get("number", 1))
        return content

    def promote(self, version: str, seq: int, model: xgb.XGBClassifier) -> bytes:
        """Keep a model and make it the champion."""
        content = model_bytes(model)
        self.keep(content)
        self.one.champion_now = champion(version, seq, content)
        return content
