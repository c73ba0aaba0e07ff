"""A model version's own reference: what its training rows looked like, frozen with the version; pure.

    … calibration history … | dates that were trained on | held-out and later dates | as-of of the training
                                    the reference                                     the last date

Made by the train stage and kept with the version. A check against it reads the current rows alone (`frozen`). Of the
trained dates it holds all that the statistics need: the bin edges and counts of PSI, a grid of quantiles for KS and
Wasserstein, the descriptions, the categories. Of every date it holds how many rows fell in each of 64 quantile cells,
at most 48 rows a date, for the calibrated verdict.

As bytes it is an Arrow file with a row per feature, and what is common to all in its metadata. Nothing in it can be
executed, and any Arrow reader shows it (`pyarrow.ipc.open_file`). Its SHA-256 is a tag of the version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops.domain.drift.cells import CELLS, cell_of, quantile_cells
from mlops.domain.drift.data_quality import Description, describe
from mlops.domain.drift.ordered import ordered_column
from mlops.domain.drift.placements import MISSING, Singles, rows_kept
from mlops.domain.drift.psi import bin_counts, quantile_bins
from mlops.domain.errors import EmptyWindow, UnusableFeatures, UnusableProfile
from mlops.domain.frame import FeatureFrame, Floats, Texts
from mlops.domain.ports import Window

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

#: Values of the quantile grid: D against it is off by less than 1 / 4096 (half a step), 0 where all values fit.
GRID = 2048
#: Changes with the meaning of a field; a reader refuses what it does not know.
FORMAT = 1
_KEY = b"acis.drift_profile"
_FLOATS = ("grid", "edges", "cell_edges", "middles")
_SCHEMA = {
    "name": pa.string(),
    "kind": pa.string(),
    "description": pa.string(),
    **{name: pa.list_(pa.float64()) for name in _FLOATS},
    "counts": pa.list_(pa.int64()),
    "categories": pa.list_(pa.string()),
    "daily": pa.large_binary(),
}


@dataclass(frozen=True, kw_only=True)
class NumberProfile:
    """A numeric feature over the trained dates."""

    description: Description
    grid: Floats
    """(at most GRID,) values at the middles of as many equal shares, ascending, infinities too; all values where
    they fit; empty where all are missing"""
    edges: Floats
    """(b - 1,) of PSI's bins"""
    counts: Integers
    """(b + 1,) rows of each bin, the missing ones last"""
    cell_edges: Floats
    """(c - 1,) of the daily cells"""
    middles: Floats
    """(c,) from 0 to 1; 0, 1, 2 for below, at and above the only value"""
    kind: Literal["number"] = "number"


@dataclass(frozen=True, kw_only=True)
class CategoryProfile:
    """A categorical feature over the trained dates."""

    categories: tuple[str, ...]
    """Most frequent first; the first ones, up to 63, are the daily cells, and all others share the last"""
    counts: Integers
    """(c + 1,) rows of each, the missing ones last"""
    kind: Literal["category"] = "category"


@dataclass(frozen=True, kw_only=True)
class DriftProfile:
    """Everything that a check needs of the reference that a model version was trained on."""

    strategy: str
    as_of: date
    """Date of the training: nothing later is in it"""
    trained: Window
    n_rows: int
    """Of the trained dates"""
    dates: npt.NDArray[np.datetime64]
    """(t,) datetime64[D], ascending: calibration history, trained dates, later dates"""
    first_trained: int
    """Index in `dates`"""
    n_trained: int
    """Dates of the reference"""
    bins: int
    """Quantile bins that were asked for"""
    features: dict[str, NumberProfile | CategoryProfile]
    daily: Bytes
    """(features, t, CELLS + 1) rows of each date: up to and including each cell (numbers), or in it (categories);
    the last column are the missing ones"""

    @property
    def schema_hash(self) -> str:
        """Hash of the feature names and kinds, whatever their order."""
        return schema_hash({name: feature.kind for name, feature in self.features.items()})

    @cached_property
    def upto(self) -> Singles:
        """(features, CELLS + 1, t + 1) `daily` added up before each date; whole numbers below 2**24 are exact."""
        added = np.zeros((len(self.daily), CELLS + 1, len(self.dates) + 1), dtype=np.float32)
        for counts, out in zip(self.daily, added, strict=True):
            np.cumsum(counts.T, axis=1, dtype=np.float32, out=out[:, 1:])
        return added


def schema_hash(kinds: dict[str, str]) -> str:
    """SHA-256 of feature names and kinds."""
    listed = "\n".join(f"{name}\t{kind}" for name, kind in sorted(kinds.items()))
    return hashlib.sha256(listed.encode()).hexdigest()


def make_profile(
    before: FeatureFrame,
    trained: FeatureFrame,
    after: FeatureFrame,
    *,
    strategy: str,
    as_of: date,
    trained_window: Window,
    bins: int,
) -> DriftProfile:
    """Make the profile of a training.

    `before`, `after`: rows of the dates before and after the trained ones; they may be thinned (`rows_kept`).
    Raises EmptyWindow without trained rows, UnusableFeatures without features.
    """
    if trained.n_rows == 0 or trained.dates is None:
        raise EmptyWindow(f"strategy {strategy!r} has no rows with dates from {trained_window.start} on to profile")
    frames = [frame for frame in (before, trained, after) if frame.n_rows and frame.dates is not None]
    all_dates = [np.asarray(frame.dates, dtype="datetime64[D]") for frame in frames]
    days = np.unique(np.concatenate(all_dates))
    kept = [rows_kept(dates, tickers=frame.tickers) for frame, dates in zip(frames, all_dates, strict=True)]
    day_of_row = np.concatenate(
        [np.searchsorted(days, dates[rows]) for dates, rows in zip(all_dates, kept, strict=True)]
    )
    features: dict[str, NumberProfile | CategoryProfile] = {}
    daily = []
    for name, values in trained.numbers.items():
        if any(name not in frame.numbers for frame in frames):
            continue
        thinned = np.concatenate([frame.numbers[name][rows] for frame, rows in zip(frames, kept, strict=True)])
        number = _number(values, thinned, bins=bins)
        features[name] = number
        daily.append(_counted(day_of_row, number_cells(thinned, number), len(days), cumulative=True))
    for name, texts in trained.categories.items():
        if any(name not in frame.categories for frame in frames):
            continue
        category = _category(texts)
        features[name] = category
        all_texts = np.concatenate([frame.categories[name][rows] for frame, rows in zip(frames, kept, strict=True)])
        daily.append(_counted(day_of_row, category_cells(all_texts, category), len(days), cumulative=False))
    if not features:
        raise UnusableFeatures(f"strategy {strategy!r} has no feature that is in all of its dates; nothing to profile")
    trained_days = np.unique(np.asarray(trained.dates, dtype="datetime64[D]"))
    return DriftProfile(
        strategy=strategy,
        as_of=as_of,
        trained=trained_window,
        n_rows=trained.n_rows,
        dates=days,
        first_trained=int(np.searchsorted(days, trained_days[0])),
        n_trained=len(trained_days),
        bins=bins,
        features=features,
        daily=np.stack(daily),
    )


def number_cells(values: Floats, feature: NumberProfile) -> Integers:
    """(n,) the daily cell of each value; infinities count as the outermost cells."""
    cells = cell_of(values, feature.cell_edges)
    cells[np.isnan(values)] = MISSING
    return cells


def category_cells(values: Texts, feature: CategoryProfile) -> Integers:
    """(n,) the daily cell of each text; rare and unseen ones share the last before the missing ones."""
    place: dict[str | None, int] = {text: i for i, text in enumerate(feature.categories[: CELLS - 1])}
    place[None] = MISSING
    return np.array([place.get(text, CELLS - 1) for text in values.tolist()], dtype=np.int64)


def quantile_grid(ordered: Floats) -> Floats:
    """(at most GRID,) of n ascending values, those at the middles of GRID equal shares."""
    n = len(ordered)
    if n <= GRID:
        return ordered.copy()
    return np.asarray(ordered[(2 * np.arange(GRID, dtype=np.int64) + 1) * n // (2 * GRID)])


def _number(values: Floats, thinned: Floats, *, bins: int) -> NumberProfile:
    column = ordered_column(values)
    edges = quantile_bins(column.values, bins=bins) if len(column.values) else None
    cell_edges, middles = _cells(thinned[~np.isnan(thinned)])
    return NumberProfile(
        description=describe(column),
        grid=quantile_grid(column.values),
        edges=edges.edges if edges else np.empty(0),
        counts=bin_counts(column.values, column.n_missing, edges) if edges else np.array([0, column.n_missing]),
        cell_edges=cell_edges,
        middles=middles,
    )


def _cells(values: Floats) -> tuple[Floats, Floats]:
    """Quantile cells; where all is one value, one for it and one on either side, a unit apart."""
    edges, middles = quantile_cells(values)
    if middles[-1] > 0 or not len(values):
        return edges, middles
    return np.array([np.nextafter(values[0], -np.inf), values[0]]), np.arange(3.0)


def _category(texts: Texts) -> CategoryProfile:
    present = np.array([text for text in texts.tolist() if text is not None], dtype=object)
    names, counts = np.unique(present.astype(str), return_counts=True) if len(present) else ((), np.empty(0, int))
    order = np.argsort(-counts, kind="stable")
    return CategoryProfile(
        categories=tuple(str(names[i]) for i in order),
        counts=np.append(counts[order], len(texts) - len(present)).astype(np.int64),
    )


def _counted(day_of_row: Integers, cells: Integers, n_days: int, *, cumulative: bool) -> Bytes:
    """(days, CELLS + 1) rows; at most 48 of a date, so a byte holds them."""
    flat = np.bincount(day_of_row * (CELLS + 1) + cells, minlength=n_days * (CELLS + 1))
    counts = flat.reshape(n_days, CELLS + 1)
    if cumulative:
        counts[:, :MISSING] = np.cumsum(counts[:, :MISSING], axis=1)
    return counts.astype(np.uint8)


def write_profile(profile: DriftProfile) -> bytes:
    """Return the file's content; equal profiles give equal bytes."""
    rows = [
        {
            "name": name,
            "kind": feature.kind,
            "description": json.dumps(asdict(feature.description)) if isinstance(feature, NumberProfile) else None,
            **{key: getattr(feature, key, None) for key in _FLOATS},
            "counts": feature.counts,
            "categories": feature.categories if isinstance(feature, CategoryProfile) else None,
            "daily": daily.tobytes(),
        }
        for (name, feature), daily in zip(profile.features.items(), profile.daily, strict=True)
    ]
    common = {
        "format": FORMAT,
        "strategy": profile.strategy,
        "as_of": profile.as_of.isoformat(),
        "trained": {"after": profile.trained.start.isoformat(), "to": profile.trained.end.isoformat()},
        "n_rows": profile.n_rows,
        "dates": profile.dates.astype(np.int64).tolist(),
        "first_trained": profile.first_trained,
        "n_trained": profile.n_trained,
        "bins": profile.bins,
        "cells": CELLS,
        "schema_hash": profile.schema_hash,
    }
    schema = pa.schema(list(_SCHEMA.items()), metadata={_KEY: json.dumps(common).encode()})
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def read_profile(content: bytes, *, expected_sha256: str | None = None) -> DriftProfile:
    """Read a profile. Raises UnusableProfile: another digest, torn, or of another version of the format."""
    if expected_sha256 is not None and profile_digest(content) != expected_sha256:
        raise UnusableProfile(
            f"the drift profile has digest {profile_digest(content)[:12]}…, logged was {expected_sha256[:12]}…; "
            f"it was changed after it was logged and is not used"
        )
    try:
        with pa.ipc.open_file(pa.BufferReader(content)) as reader:
            common = json.loads(reader.schema.metadata[_KEY])
            if (common["format"], common["cells"]) != (FORMAT, CELLS):
                raise UnusableProfile(
                    f"the drift profile has format {common['format']} with {common['cells']} cells; this version reads "
                    f"{FORMAT} with {CELLS}: retrain to have a new one"
                )
            table = reader.read_all()
        return _profile(common, table)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as exc:
        message = f"the drift profile is torn or no drift profile ({len(content)} bytes): {str(exc).splitlines()[0]}"
        raise UnusableProfile(message) from exc


def profile_digest(content: bytes) -> str:
    """SHA-256 of the content in hex."""
    return hashlib.sha256(content).hexdigest()


def _profile(common: dict[str, Any], table: pa.Table) -> DriftProfile:
    dates = np.array(common["dates"], dtype="datetime64[D]")
    daily = [
        np.frombuffer(content.as_buffer(), dtype=np.uint8).reshape(len(dates), CELLS + 1)
        for content in table.column("daily")
    ]
    return DriftProfile(
        strategy=common["strategy"],
        as_of=date.fromisoformat(common["as_of"]),
        trained=Window(
            start=date.fromisoformat(common["trained"]["after"]), end=date.fromisoformat(common["trained"]["to"])
        ),
        n_rows=common["n_rows"],
        dates=dates,
        first_trained=common["first_trained"],
        n_trained=common["n_trained"],
        bins=common["bins"],
        features={name.as_py(): _feature(table, i) for i, name in enumerate(table.column("name"))},
        daily=np.stack(daily),
    )


def _feature(table: pa.Table, row: int) -> NumberProfile | CategoryProfile:
    counts = np.array(table.column("counts")[row].values.to_numpy(), dtype=np.int64)
    if table.column("kind")[row].as_py() == "category":
        return CategoryProfile(categories=tuple(table.column("categories")[row].as_py()), counts=counts)
    described = json.loads(table.column("description")[row].as_py())
    grid, edges, cell_edges, middles = (
        np.asarray(table.column(key)[row].values.to_numpy(), dtype=np.float64) for key in _FLOATS
    )
    description = Description(**{**described, "quantiles": tuple(described["quantiles"])})
    return NumberProfile(
        description=description, counts=counts, grid=grid, edges=edges, cell_edges=cell_edges, middles=middles
    )
