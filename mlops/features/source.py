"""Opens the feature source that a URL names."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from mlops.domain.errors import AcisError, ConfigurationError
from mlops.domain.ports import FeatureSource

#: `package.module:function`; a path has a slash or no colon.
_OWN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def open_source(url: str, *, relation: str = "ml_training_features", time_zone: str = "UTC") -> FeatureSource:
    """PostgreSQL, a Parquet file or folder, or what a `package.module:function` returns.

    time_zone : in which timestamps with a zone have their day
    Raises ConfigurationError for anything else, and for a function that gives no feature source.

    Nothing is connected yet: a server that is down shows at the first read.
    """
    if _OWN.fullmatch(url):
        return _own_source(url, relation=relation, time_zone=time_zone)
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in ("postgresql", "postgres"):
        from mlops.features.postgres import PostgresFeatures  # noqa: PLC0415 -- each adapter's library on use

        return PostgresFeatures(url, relation=relation, time_zone=time_zone)
    if scheme == "file" or "://" not in url:
        from mlops.features.parquet import ParquetFeatures  # noqa: PLC0415

        return ParquetFeatures(Path(url.removeprefix("file://")), time_zone=time_zone)
    raise ConfigurationError(
        f"features cannot be read from {scheme}://…; give postgresql:// (`make run` starts a server), the path of a "
        f"Parquet file or folder, or package.module:function of a source of your own"
    )


def _own_source(name: str, *, relation: str, time_zone: str) -> FeatureSource:
    """What the function returns. Raises ConfigurationError, and what the function raises of our errors."""
    module_name, _, function = name.partition(":")
    try:
        source = getattr(importlib.import_module(module_name), function)(relation=relation, time_zone=time_zone)
    except AcisError:
        raise
    except Exception as exc:  # a module and its function may raise anything
        message = (
            f"feature source {name} cannot be opened ({type(exc).__name__}: {exc}); it must be importable, and take "
            f"the keywords relation and time_zone"
        )
        raise ConfigurationError(message) from exc
    asked = [method for method in vars(FeatureSource) if not method.startswith("_")]
    lacking = [method for method in asked if not callable(getattr(source, method, None))]
    if lacking:
        message = (
            f"feature source {name} gave a {type(source).__name__} without {', '.join(lacking)}; see mlops.domain.ports"
        )
        raise ConfigurationError(message)
    return source  # type: ignore[no-any-return]  # checked by its methods
