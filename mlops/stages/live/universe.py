"""A date's universe as a model reads it, and what a model says of it as the prediction log takes it.

Called by the predict stage, for the champion and the versions beside it, and by the report.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops.domain.errors import EmptyWindow, MissingColumn, UnusableFeatures
from mlops.domain.live.rows import prepare_rows
from mlops.domain.ports import Window
from mlops.ledger.live.predictions import prediction_schema
from mlops.stages.labelled_rows import rows_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.sampling import RowSample
    from mlops.serving.model import Probabilities, ServedModel
    from mlops.stages.table import StageServices

ORIGIN = "run"
"""Of the batches that runs write"""
_DAY = timedelta(days=1)


def read_universe(source: FeatureSource, strategy: Strategy, features: Sequence[str], day: date) -> pa.Table:
    """A date's rows with ticker, one of each: `ticker`, `date` and the features, by ticker.

    Raises EmptyWindow; MissingColumn and UnusableFeatures for what the model reads and the view has not as numbers,
    and where a ticker repeats.
    """
    kinds = {column.name: column.kind for column in source.columns()}
    refuse_columns(kinds, features)
    rows = source.read(strategy.name, Window(start=day - _DAY, end=day), ["ticker", "date", *features])
    rows = rows_once(rows.filter(rows.column("ticker").is_valid()), strategy)
    if not rows.num_rows:
        newest = source.latest_date(strategy.name, until=day)
        message = (
            f"strategy {strategy.name!r} has no rows of {day}; its newest before are of {newest or 'no date'}: load "
            "its features, or give another --date"
        )
        raise EmptyWindow(message)
    return rows


def rows_between(
    source: FeatureSource,
    strategy: Strategy,
    features: Sequence[str],
    first: date,
    last: date,
    *,
    sample: RowSample | None = None,
) -> pa.Table:
    """Rows of the dates, both included, one of each ticker and date."""
    refuse_columns({column.name: column.kind for column in source.columns()}, features)
    window = Window(start=first - _DAY, end=last)
    return rows_once(source.read(strategy.name, window, ["ticker", "date", *features], sample=sample), strategy)


def refuse_columns(kinds: dict[str, str], features: Sequence[str]) -> None:
    """Raises MissingColumn, UnusableFeatures for what a model reads and the view has not as numbers."""
    missing = [name for name in features if name not in kinds]
    if missing:
        message = f"the model reads {', '.join(missing)}, which the feature view lacks; put it back, or retrain"
        raise MissingColumn(message)
    texts = [f"{name} ({kinds[name]})" for name in features if kinds[name] != "number"]
    if texts:
        message = f"the model reads {', '.join(texts)} as numbers; cast it in the view, or retrain"
        raise UnusableFeatures(message)


def matrix_of(rows: pa.Table, features: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, f) the rows as a model reads them."""
    x = np.empty((rows.num_rows, len(features)), dtype=np.float64)
    for place, name in enumerate(features):
        x[:, place] = rows.column(name).to_numpy(zero_copy_only=False)
    return prepare_rows(x)


def predictions_of(
    services: StageServices,
    model: ServedModel,
    rows: pa.Table,
    as_of: date,
    probability: Probabilities,
    digests: list[bytes],
    *,
    variant: str = "champion",
) -> pa.Table:
    """What a model says of a date's rows, as the log takes it."""
    n = rows.num_rows
    same: dict[str, Any] = {
        "strategy": model.strategy,
        "version": model.version,
        "model_sha256": model.sha256,
        "variant": variant,
        "as_of": as_of,
        "predicted_at": services.ledger.now(),
    }
    own = {
        "ticker": rows.column("ticker").combine_chunks(),
        "probability": pa.array(np.asarray(probability, dtype=np.float64)),
        "row_digest": digests,
    }
    schema = prediction_schema()
    arrays = [
        pa.repeat(pa.scalar(same[field.name], field.type), n)
        if field.name in same
        else pa.array(own[field.name], field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
