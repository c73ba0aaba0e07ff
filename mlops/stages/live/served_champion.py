"""A version of the ledger as a model that answers: its file's bytes are those that the ledger knows it by.

Called by the predict and the score stage, in a child that may load XGBoost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.errors import ModelNotFound
from mlops.domain.ports import ModelVersion, expect
from mlops.serving.model import ServedModel
from mlops.stages.judged_model import twin_digest, twin_file

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlops.domain.live.rows import Floats
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import Ledger, ModelRegistry
    from mlops.domain.promotion.records import Champion, ModelIdentity


@dataclass(frozen=True, kw_only=True)
class ServedChampion:
    """The model in use, and the version of the registry that it is."""

    model: ServedModel
    version: ModelVersion
    content: bytes
    """The model file, verified"""

    @property
    def last_judged(self) -> date | None:
        """Last date whose outcome its training or its judgement may have known; None where the version does not say.

        Of the dates between those it held out and its own, the judgement read returns by which they would be marked.
        """
        held_out, trained = (_date_of(self.version.tags.get(name)) for name in ("holdout_end", "training_date"))
        before = trained - timedelta(days=1) if trained is not None else None
        return max((day for day in (held_out, before) if day is not None), default=None)

    def why_not_predict(self, day: date) -> str | None:
        """Why what it says of the date is no prediction; None where it is one."""
        known_to = self.last_judged
        if known_to is None or day > known_to:
            return None
        return (
            f"version {self.version.version} was trained and judged on dates up to {known_to}: what it says of {day} "
            "is no prediction, and would be scored as one"
        )

    def contributions(self, rows: Floats) -> npt.NDArray[np.float64]:
        """(n, f + 1) SHAP contributions of prepared rows to the margin, in the model's order; the last is the bias."""
        import xgboost as xgb  # noqa: PLC0415 -- after the fork

        booster = xgb.Booster({"nthread": 1})
        booster.load_model(bytearray(self.content))
        booster.set_param({"nthread": 1})
        matrix = xgb.DMatrix(rows, missing=np.nan, feature_names=booster.feature_names, nthread=1)
        return np.asarray(booster.predict(matrix, pred_contribs=True), dtype=np.float64)


def load_champion(registry: ModelRegistry, strategy: Strategy, champion: Champion) -> ServedChampion:
    """The champion, verified by the digest that the ledger has.

    Raises ModelNotFound, VersionNotFound, UnusableModelFile, RegistryUnavailable.
    """
    if champion.version is None:
        message = f"strategy {strategy.name!r} has no champion"
        raise ModelNotFound(message)
    return load_version(registry, strategy, champion.version, champion.identity, seq=champion.seq)


def load_version(
    registry: ModelRegistry, strategy: Strategy, version: str, identity: ModelIdentity, *, seq: int
) -> ServedChampion:
    """A version that is the model which the ledger knows by this identity, verified by its digest.

    seq : of the champion that it answers beside
    Raises as `load_champion` does.
    """
    from mlops.registry.model_file import verify_digest  # noqa: PLC0415 -- loads XGBoost, after the fork
    from mlops.serving.loading import ModelFile, serve  # noqa: PLC0415 -- as above

    found = expect(registry.version(strategy.model_name, version), identity)
    content = registry.model_file(strategy.model_name, version)
    # `serve` verifies a digest that there is; this also says what to do where the ledger has none.
    verify_digest(content, identity.sha256, name=f"of {strategy.name} version {version}")
    file = ModelFile(strategy=strategy.name, version=version, seq=seq, sha256=str(identity.sha256), content=content)
    return ServedChampion(model=serve(file), version=found, content=content)


def judged_twin(
    ledger: Ledger, registry: ModelRegistry, strategy: Strategy, identity: ModelIdentity, served: ServedChampion
) -> ServedModel:
    """The model by whose held-out dates the version was judged: its twin, or itself where it was not refitted.

    Raises UnusableModelFile where the twin cannot be had: the refit knows those dates. RegistryUnavailable.
    """
    from mlops.serving.loading import ModelFile, serve  # noqa: PLC0415 -- loads XGBoost, after the fork

    content = twin_file(ledger, registry, served.version, identity)
    if content is None:
        return served.model
    sha256, version = str(twin_digest(ledger, identity)), served.version.version
    return serve(
        ModelFile(strategy=strategy.name, version=version, seq=served.model.seq, sha256=sha256, content=content)
    )


def _date_of(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
