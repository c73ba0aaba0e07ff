"""Models in use without servers: a ledger of one champion, whose model is kept in a folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from config.settings import Settings
from mlops.domain.errors import LedgerUnavailable
from mlops.domain.promotion.records import Champion, ModelIdentity
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
    n_asked: int = field(default=0)

    def champion(self, strategy: str) -> Champion:
        """The champion. Raises LedgerUnavailable while it is away."""
        self.n_asked += 1
        if self.is_away:
            raise LedgerUnavailable("PostgreSQL does not answer")
        return self.champion_now

    def close(self) -> None:
        """Nothing is open."""


def champion(version: str | None, seq: int, model: bytes | None = None) -> Champion:
    """The champion of `growth`, known by its model's bytes."""
    sha256 = None if model is None else hashlib.sha256(model).hexdigest()
    return Champion(
        namespace="",
        strategy="growth",
        version=version,
        seq=seq,
        as_of=None,
        promotion_id=seq,
        identity=ModelIdentity(sha256=sha256, made_by=None if sha256 is None else f"run-{sha256[:8]}"),
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

    def promote(self, version: str, seq: int, model: xgb.XGBClassifier) -> bytes:
        """Keep a model and make it the champion."""
        content = model_bytes(model)
        self.keep(content)
        self.one.champion_now = champion(version, seq, content)
        return content
