"""Opens the feature source that a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops.errors import ConfigurationError

if TYPE_CHECKING:
    from mlops.ports import FeatureSource


def open_source(url: str, *, relation: str = "ml_training_features", time_zone: str = "UTC") -> FeatureSource:
    """PostgreSQL, SQLite, or a Parquet file or folder. Raises ConfigurationError for anything else.

    time_zone : in which timestamps with a zone have their day

    Nothing is connected yet: a server that is down shows at the first read.
    """
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in ("postgresql", "postgres"):
        from mlops.features.postgres import PostgresFeatures  # noqa: PLC0415 -- each adapter's library on use

        return PostgresFeatures(url, relation=relation, time_zone=time_zone)
    if scheme == "sqlite":
        from mlops.features.sqlite import SqliteFeatures  # noqa: PLC0415

        return SqliteFeatures(url, relation=relation, time_zone=time_zone)
    if scheme == "file" or "://" not in url:
        from mlops.features.parquet import ParquetFeatures  # noqa: PLC0415

        return ParquetFeatures(Path(url.removeprefix("file://")), time_zone=time_zone)
    raise ConfigurationError(
        f"features cannot be read from {scheme}://…; give postgresql://, sqlite:///, "
        f"or the path of a Parquet file or folder"
    )
