"""From a model file to a model that answers: digest, features, and a fast engine that was found to agree.

Called by the router, and by whoever asks a version in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import structlog

from mlops.domain.drift.references.training_profile import NumberProfile, read_profile
from mlops.domain.errors import UnusableModelFile, UnusableProfile
from mlops.domain.live.rows import prepare_rows
from mlops.domain.training.feature_names import feature_names
from mlops.registry.model_file import classifier_of
from mlops.serving.engines import OnnxPredictor, Predictor, XgboostPredictor
from mlops.serving.model import EngineCheck, ServedModel
from mlops.serving.trees import UnconvertibleModel, onnx_graph, read_trees

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops.domain.live.rows import Floats
    from mlops.serving.trees import Trees

log = structlog.get_logger(__name__)

CHECKED_ROWS = 1000
"""Rows of each kind on which the fast engine is compared."""
LARGEST_DIFFERENCE = 1e-6
"""Two roundings of a float32 near 1; a wrong threshold or direction differs by far more."""
_MISSING_SHARE = 0.05
_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model's bytes, with what they are known by."""

    strategy: str
    version: str
    seq: int
    sha256: str
    content: bytes
    profile: bytes | None = None
    """Drift profile of its training; None where there is none"""


def serve(file: ModelFile, *, n_jobs: int = 1, for_few_rows: bool = True) -> ServedModel:
    """Make the model answer. Raises UnusableModelFile: damaged, of another digest, or not a binary classifier.

    for_few_rows: look for a fast engine, which takes a third of a second; False: XGBoost answers
    """
    name = f"{file.strategy} version {file.version}"
    classifier = classifier_of(file.content, name=f"of {name}", expected_sha256=file.sha256, n_jobs=n_jobs)
    booster = _asked_part(classifier.get_booster())
    booster.set_param({"nthread": n_jobs})
    features = feature_names(booster)
    if not features:
        message = f"model file of {name} does not say the names of its features; train it again here"
        raise UnusableModelFile(message)
    plain = XgboostPredictor(booster)
    _refuse_other_outputs(plain, len(features), name)
    model = ServedModel(
        strategy=file.strategy,
        version=file.version,
        sha256=file.sha256,
        seq=file.seq,
        features=features,
        predictor=plain,
    )
    if not for_few_rows:
        return model
    predictor, check = _fastest(booster, plain, features, file)
    return replace(model, predictor=predictor, check=check)


def _asked_part(booster: xgb.Booster) -> xgb.Booster:
    """The trees that a classifier's own prediction uses: up to the best round, where it stopped early."""
    best = booster.attr("best_iteration")
    wanted = booster.num_boosted_rounds() if best is None else int(best) + 1
    return booster if wanted >= booster.num_boosted_rounds() else booster[:wanted]


def _refuse_other_outputs(plain: XgboostPredictor, n_features: int, name: str) -> None:
    found = plain.probabilities(np.full((1, n_features), np.nan, dtype=np.float32))
    if found.shape != (1,) or not 0.0 <= float(found[0]) <= 1.0:
        message = f"model file of {name} gives no probability of a class; train it with objective binary:logistic"
        raise UnusableModelFile(message)


def _fastest(
    booster: xgb.Booster, plain: XgboostPredictor, features: tuple[str, ...], file: ModelFile
) -> tuple[Predictor, EngineCheck]:
    """The fast engine where it agrees with XGBoost on rows of the training, else XGBoost, and what was found."""
    try:
        trees = read_trees(booster)
        fast = OnnxPredictor(onnx_graph(trees), plain, n_features=len(features))
        rows, drawn_from = checked_rows(trees, features, file.profile)
        check = _compared(fast, plain, rows, drawn_from)
    except UnconvertibleModel as exc:
        return plain, EngineCheck(reason=f"XGBoost answers: the model has {exc}")
    except Exception as exc:  # noqa: BLE001 -- whatever the fast engine's library finds, XGBoost answers
        return plain, EngineCheck(reason=f"XGBoost answers: onnxruntime failed with {type(exc).__name__}: {exc}")
    if check.n_flipped or not check.largest_difference <= LARGEST_DIFFERENCE:
        log.warning(
            "serving.engine_differs",
            strategy=file.strategy,
            version=file.version,
            largest_difference=check.largest_difference,
            decisions_flipped=check.n_flipped,
            action="none: XGBoost answers",
        )
        return plain, check
    return fast, check


def _compared(fast: OnnxPredictor, plain: XgboostPredictor, rows: Floats, drawn_from: str) -> EngineCheck:
    exact, found = plain.probabilities(rows), fast.few(rows)
    slot = fast.take()
    one_by_one = np.empty_like(found)
    for place in range(len(rows)):
        slot.row[0] = rows[place]
        one_by_one[place] = slot.ask()
    fast.give(slot)
    largest = max(float(np.abs(part - exact).max()) for part in (found, one_by_one))
    flipped = max(int(np.count_nonzero((part >= _THRESHOLD) != (exact >= _THRESHOLD))) for part in (found, one_by_one))
    words = (
        f"onnxruntime differs from XGBoost by at most {largest:.1e} on {len(rows):,} rows {drawn_from}, "
        f"with {flipped or 'no'} {'decision' if flipped == 1 else 'decisions'} flipped"
    )
    return EngineCheck(n_rows=len(rows), largest_difference=largest, n_flipped=flipped, reason=words)


def checked_rows(trees: Trees, features: tuple[str, ...], profile: bytes | None) -> tuple[Floats, str]:
    """(2000, f) rows with missing values on which engines are compared, and in words what they were drawn from.

    Half of them have each feature drawn from its quantiles in the training, missing as often as there (at least 5 %).
    The other half stand at the trees' own thresholds, or one float32 beside. Without a profile all do.
    """
    random = np.random.default_rng(0)  # the same rows for the same model
    near = _at_thresholds(trees, random, CHECKED_ROWS)
    trained, why_not = _of_profile(features, profile, random)
    if trained is None:
        rows = np.concatenate([near, _at_thresholds(trees, random, CHECKED_ROWS)])
        return prepare_rows(rows), f"at the model's own thresholds ({why_not})"
    return prepare_rows(np.concatenate([trained, near])), "of the training profile and at the model's thresholds"


def _at_thresholds(trees: Trees, random: np.random.Generator, n: int) -> Floats:
    rows = np.empty((n, trees.n_features), dtype=np.float32)
    for place in range(trees.n_features):
        values = trees.thresholds(place)
        if not len(values):
            values = np.zeros(1, dtype=np.float32)
        sides = np.concatenate([values, np.nextafter(values, -np.inf), np.nextafter(values, np.inf)])
        rows[:, place] = random.choice(sides, size=n)
    rows[random.random(rows.shape) < _MISSING_SHARE] = np.nan
    return rows


def _of_profile(
    features: tuple[str, ...], content: bytes | None, random: np.random.Generator
) -> tuple[Floats | None, str]:
    """Rows of the profile, or None with the reason."""
    if content is None:
        return None, "the version has no training profile here"
    try:
        profile = read_profile(content)
    except UnusableProfile as exc:
        return None, str(exc)
    rows = np.full((CHECKED_ROWS, len(features)), np.nan, dtype=np.float32)
    for place, name in enumerate(features):
        feature = profile.features.get(name)
        if not isinstance(feature, NumberProfile):
            return None, f"the training profile has no numbers of {name}"
        if not len(feature.grid):
            continue  # always missing
        with np.errstate(over="ignore"):
            rows[:, place] = random.choice(feature.grid, size=CHECKED_ROWS)
        share = max(_MISSING_SHARE, float(feature.counts[-1] / max(1, feature.counts.sum())))
        rows[random.random(CHECKED_ROWS) < share, place] = np.nan
    return rows, ""
