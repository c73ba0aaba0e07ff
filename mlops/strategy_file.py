"""Strategies from TOML, and a strategy as the JSON snapshot that every run keeps.

    [defaults.training]                 any policy of `mlops.strategies`, for all strategies
    holdout_dates = 60
    [strategies.growth]                 one table per strategy
    description = "…"
    [strategies.growth.training]        overrides the defaults, key by key (`params` too)
    label = "target_return > 0"

TOML has no null: a gate is taken out with the string "none".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from mlops.errors import InvalidStrategyFile, UnknownStrategy
from mlops.strategies import Strategy

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_POLICIES = ("data", "drift", "training", "promotion", "schedule", "execution")
_adapter: TypeAdapter[Strategy] = TypeAdapter(with_config(ConfigDict(extra="forbid"))(Strategy))


class Strategies(Mapping[str, Strategy]):
    """The strategies of a file, by name; an unknown name raises UnknownStrategy."""

    def __init__(self, strategies: Mapping[str, Strategy]) -> None:
        self._by_name = dict(strategies)

    def __getitem__(self, name: str) -> Strategy:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownStrategy(name, tuple(self._by_name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def load_strategies(path: Path) -> Strategies:
    """Read and check a strategies file. Raises InvalidStrategyFile with the place and the mend."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        message = f"strategies file {path} does not exist; set ACIS_STRATEGIES_FILE"
        raise InvalidStrategyFile(message) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        message = f"strategies file {path} is not TOML: {exc}"
        raise InvalidStrategyFile(message) from exc
    unknown = set(content) - {"defaults", "strategies"}
    if unknown:
        message = f"strategies file {path}: unknown table {min(unknown)!r}; only defaults and strategies are allowed"
        raise InvalidStrategyFile(message)
    defaults = content.get("defaults", {})
    strategies = {name: _strategy(path, name, defaults, table) for name, table in content.get("strategies", {}).items()}
    if not strategies:
        message = f"strategies file {path} names no strategy; add a table [strategies.NAME]"
        raise InvalidStrategyFile(message)
    return Strategies(strategies)


def snapshot(strategy: Strategy) -> dict[str, Any]:
    """The strategy as JSON."""
    return _adapter.dump_python(strategy, mode="json")  # type: ignore[no-any-return]


def restore(policy: Mapping[str, Any]) -> Strategy:
    """The strategy of a snapshot. Raises InvalidStrategyFile when it was written by another version."""
    try:
        return _adapter.validate_python(dict(policy))
    except ValidationError as exc:
        message = f"policy snapshot is not readable: {_first(exc)}"
        raise InvalidStrategyFile(message) from exc


def _strategy(path: Path, name: str, defaults: dict[str, Any], table: dict[str, Any]) -> Strategy:
    if not _NAME.fullmatch(name):
        message = f"strategies file {path}: {name!r} is no strategy name; use lower-case letters, digits, underscores"
        raise InvalidStrategyFile(message)
    merged: dict[str, Any] = {key: value for key, value in table.items() if key not in _POLICIES}
    for policy in _POLICIES:
        merged[policy] = _merge(defaults.get(policy, {}), table.get(policy, {}))
    for policy in set(defaults) - set(_POLICIES):
        merged[policy] = defaults[policy]
    try:
        return _adapter.validate_python({"name": name, **_without_none_words(merged)})
    except ValidationError as exc:
        message = f"strategies file {path}, strategy {name!r}: {_first(exc)}"
        raise InvalidStrategyFile(message) from exc


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **over}
    if "params" in base and "params" in over:
        merged["params"] = {**base["params"], **over["params"]}
    return merged


def _without_none_words(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none_words(value) if isinstance(value, dict) else (None if value == "none" else value)
        for key, value in table.items()
    }


def _first(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']} (found {error['input']!r})"
