"""A drift profile as bytes: an Arrow file with a row per feature, what is common to all in its metadata; pure.

Nothing in it can be executed, and any Arrow reader shows it (`pyarrow.ipc.open_file`). Its SHA-256 is a tag of the
version that it belongs to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.domain.drift.cells import CELLS
from mlops.domain.drift.description import Description
from mlops.domain.drift.drift_profile import CategoryProfile, DriftProfile, NumberProfile
from mlops.domain.errors import UnusableProfile
from mlops.domain.ports import Window

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


def write_profile(profile: DriftProfile) -> bytes:
    """The file's content; equal profiles give equal bytes."""
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
    """The profile. Raises UnusableProfile: another digest, torn, or of another version of the format."""
    if expected_sha256 is not None and digest_of(content) != expected_sha256:
        raise UnusableProfile(
            f"the drift profile has digest {digest_of(content)[:12]}…, logged was {expected_sha256[:12]}…; "
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


def digest_of(content: bytes) -> str:
    """SHA-256 in hex."""
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
