"""The champion of the ledger as a model that answers: its file's bytes are those that were promoted.

Called by the predict and the score stage, in a child that may load XGBoost.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mlops.domain.errors import ModelNotFound, UnusableModelFile
from mlops.domain.ports import DIGEST_TAG, expect
from mlops.domain.training.feature_names import feature_names
from mlops.serving.model import ServedModel

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelRegistry
    from mlops.domain.records import Champion


def load_champion(registry: ModelRegistry, strategy: Strategy, champion: Champion) -> ServedModel:
    """The version, verified by the digest that the ledger has, else by the one that was logged.

    Raises ModelNotFound, VersionNotFound, UnusableModelFile, RegistryUnavailable.
    """
    import xgboost as xgb  # noqa: PLC0415 -- after the fork

    from mlops.serving.engines import XgboostPredictor  # noqa: PLC0415 -- beside it

    if champion.version is None:
        message = f"strategy {strategy.name!r} has no champion"
        raise ModelNotFound(message)
    found = expect(registry.version(strategy.model_name, champion.version), champion.identity)
    content = registry.model_file(strategy.model_name, champion.version)
    sha256 = hashlib.sha256(content).hexdigest()
    expected = champion.identity.sha256 or found.tags.get(DIGEST_TAG)
    if expected is not None and sha256 != expected:
        message = (
            f"the model file of champion {champion.version} of {strategy.name!r} has sha256 {sha256[:12]}…, promoted was "
            f"{expected[:12]}…; it was changed and is not asked"
        )
        raise UnusableModelFile(message)
    # XGBoost aborts the process on a torn file. UBJSON is one object from brace to brace.
    if not (content.startswith(b"{") and content.endswith(b"}")):
        message = f"the model file of champion {champion.version} is torn, or not in XGBoost's UBJSON format"
        raise UnusableModelFile(message)
    booster = xgb.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(content))
    except xgb.core.XGBoostError as exc:
        message = f"the model file of champion {champion.version} cannot be read: {str(exc).splitlines()[0]}"
        raise UnusableModelFile(message) from exc
    # the file keeps no number of threads
    booster.set_param({"nthread": 1})
    features = feature_names(booster)
    if not features:
        message = f"champion {champion.version} does not say the names of its features; train it again here"
        raise UnusableModelFile(message)
    return ServedModel(
        strategy=strategy.name,
        version=champion.version,
        sha256=sha256,
        seq=champion.seq,
        features=features,
        predictor=XgboostPredictor(booster),
    )
