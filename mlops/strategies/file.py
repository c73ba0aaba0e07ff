"""Strategies from TOML, and a strategy as the JSON snapshot that every run keeps.

    [defaults.training]                 any policy of `mlops.domain.policies`, for all strategies
    holdout_dates = 60
    [strategies.growth]                 one table per strategy
    description = "…"
    tags = ["us", "large-cap"]          words to find and choose strategies by
    [strategies.growth.training]        overrides the defaults, key by key (`params`, `metrics` and `gates` too)
    label = "target_return > 0"

TOML has no null: a gate is taken out with the string "none". `python -m mlops.strategies.file` prints the file's JSON
Schema, which editors read (`make schema`).
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic.json_schema import GenerateJsonSchema

from mlops.domain.cron import cron_fault
from mlops.domain.errors import ConfigurationError, InvalidStrategyFile, UnknownStrategy
from mlops.domain.labels import parse_label
from mlops.domain.policies import Strategy
from mlops.domain.promotion.findings import code_fault
from mlops.domain.training.metric_names import form_fault
from mlops.domain.training.parameters import params_faults, search_fault, search_faults

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails, core_schema

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: Tables of a strategy.
POLICIES = (
    "data", "drift", "training", "findings", "promotion", "live", "experiments", "guardrails", "schedule", "execution",
)  # fmt: skip
#: Tables that the release before does not know, left out of a run's snapshot where every value is its default.
_NEW_POLICIES = ("live", "experiments", "guardrails")
#: Values of other tables, likewise.
_NEW_VALUES = {
    "data": ("max_current_days", "champion_beside"),
    "drift": ("correlation_alpha", "feature_alpha", "label_alpha", "cooldown_days", "plan"),
    "training": ("refit",),
    "findings": ("refit_distance",),
    "promotion": ("floor", "yearly_error"),
    "execution": ("predict_deadline_s", "score_deadline_s"),
}
_adapter: TypeAdapter[Strategy] = TypeAdapter(with_config(ConfigDict(extra="forbid"))(Strategy))


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A strategy's policy as a run gets it."""

    strategy: Strategy
    origins: Mapping[str, str]
    """`drift.alert_share` → in words, where the value is from; one that is not there is the program's default."""


class Strategies(Mapping[str, Strategy]):
    """The strategies of a file, by name; an unknown name raises UnknownStrategy."""

    def __init__(
        self, strategies: Mapping[str, Strategy], *, origins: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """By strategy, `origins` has the table of the file that a value is from; one left out is a default."""
        self._by_name = dict(strategies)
        self._origins = origins or {}

    def settled(self, name: str) -> Settled:
        """A strategy with the tables that its values are from. Raises UnknownStrategy."""
        return Settled(strategy=self[name], origins=dict(self._origins.get(name, {})))

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag that a strategy has, sorted."""
        return tuple(sorted({tag for strategy in self._by_name.values() for tag in strategy.tags}))

    def chosen(self, names: Iterable[str] = (), tags: Iterable[str] = ()) -> list[str]:
        """The named strategies and those with any of the tags, each once. Raises UnknownStrategy, ConfigurationError.

        A tag that no strategy has is refused: what was meant is not known.
        """
        found = [self[name].name for name in names]
        for tag in tags:
            tagged = [name for name, strategy in self._by_name.items() if tag in strategy.tags]
            if not tagged:
                known = f"tags: {', '.join(self.tags)}" if self.tags else "the strategies file gives none a tag"
                raise ConfigurationError(f"no strategy has the tag {tag!r}; {known}")
            found += tagged
        return list(dict.fromkeys(found))

    def __getitem__(self, name: str) -> Strategy:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownStrategy.named(name, self._by_name) from None

    def __contains__(self, name: object) -> bool:
        # Mapping's own asks for the value, whose error is no KeyError.
        return name in self._by_name

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
    except ValueError as exc:  # not TOML, not UTF-8, or a number of thousands of digits
        message = f"strategies file {path} is not TOML: {exc}"
        raise InvalidStrategyFile(message) from exc
    unknown = set(content) - {"defaults", "strategies"}
    if unknown:
        message = f"strategies file {path}: unknown table {min(unknown)!r}; only defaults and strategies are allowed"
        raise InvalidStrategyFile(message)
    defaults = _table(path, content, "defaults")
    for policy in POLICIES:
        _table(path, defaults, policy, "defaults.")
    tables = _table(path, content, "strategies")
    strategies = {name: _strategy(path, name, defaults, _table(path, tables, name, "strategies.")) for name in tables}
    if not strategies:
        message = f"strategies file {path} names no strategy; add a table [strategies.NAME]"
        raise InvalidStrategyFile(message)
    return Strategies(strategies, origins={name: _origins(name, defaults, tables[name]) for name in tables})


def snapshot(strategy: Strategy) -> dict[str, Any]:
    """The strategy as JSON."""
    return _adapter.dump_python(strategy, mode="json")  # type: ignore[no-any-return]


def run_policy(settled: Settled) -> dict[str, Any]:
    """The snapshot that a run keeps: every value, and under `origins` where each that is no default is from.

    Values of this release that are their default are left out, so that a worker of the release before can restore it,
    and tags, by which nothing is judged.
    """
    kept = snapshot(settled.strategy)
    del kept["tags"]
    default = snapshot(Strategy(name=settled.strategy.name))
    for policy, names in _NEW_VALUES.items():
        for name in names:
            if kept[policy][name] == default[policy][name]:
                del kept[policy][name]
    for policy in _NEW_POLICIES:
        if kept[policy] == default[policy]:
            del kept[policy]
    return {**kept, "origins": dict(settled.origins)}


def restore(policy: Mapping[str, Any]) -> Strategy:
    """The strategy of a snapshot. Raises InvalidStrategyFile when it was written by another version."""
    try:
        return _adapter.validate_python({key: value for key, value in policy.items() if key != "origins"})
    except ValidationError as exc:
        message = f"policy snapshot is not readable: {_words(exc)}"
        raise InvalidStrategyFile(message) from exc


def _strategy(path: Path, name: str, defaults: dict[str, Any], table: dict[str, Any]) -> Strategy:
    for policy in POLICIES:
        _table(path, table, policy, f"strategies.{name}.")
    if "name" in defaults or "name" in table:
        message = f"strategies file {path}, strategy {name!r}: its name is its table's; take out the key 'name'"
        raise InvalidStrategyFile(message)
    if not _NAME.fullmatch(name):
        message = f"strategies file {path}: {name!r} is no strategy name; use lower-case letters, digits, underscores"
        raise InvalidStrategyFile(message)
    merged: dict[str, Any] = {key: value for key, value in table.items() if key not in POLICIES}
    for policy in POLICIES:
        merged[policy] = _merge(defaults.get(policy, {}), table.get(policy, {}))
    merged = {**{key: value for key, value in defaults.items() if key not in POLICIES}, **merged}
    try:
        return checked({"name": name, **merged})
    except InvalidStrategyFile as exc:
        message = f"strategies file {path}, strategy {name!r}: {exc}"
        raise InvalidStrategyFile(message) from exc


def checked(values: Mapping[str, Any]) -> Strategy:
    """The strategy of values as the file has them, types and meaning checked. Raises InvalidStrategyFile."""
    try:
        strategy = _adapter.validate_python(_without_none_words(dict(values)))
    except ValidationError as exc:
        raise InvalidStrategyFile(_words(exc)) from exc
    _check_meaning(strategy)
    return strategy


def _origins(name: str, defaults: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, str]:
    """The table of each value that the file sets."""
    found: dict[str, str] = {}
    for policy in POLICIES:
        for where, values in ((f"defaults.{policy}", defaults), (f"strategies.{name}.{policy}", table)):
            found |= {f"{policy}.{key}": f"strategies file, [{where}]" for key in values.get(policy, {})}
    return found


def _check_meaning(strategy: Strategy) -> None:
    """Refuse words and free tables that mean nothing, before a run finds out; numbers have their bounds already."""
    parse_label(strategy.training.label)
    training = strategy.training
    wrong = list(filter(None, (form_fault(name, function) for name, function in training.metrics.items())))
    wrong += params_faults(training.trainer, training.params)
    unsearchable = list(filter(None, (search_fault(name, values) for name, values in training.search.items())))
    wrong += unsearchable or search_faults(training.trainer, training.search)
    wrong += filter(None, map(code_fault, strategy.promotion.accepted_findings))
    for name, cron in (("drift_check", strategy.schedule.drift_check), ("retrain", strategy.schedule.retrain)):
        fault = cron_fault(cron) if cron else None
        if fault:
            wrong.append(f"schedule.{name} = {cron!r} is no cron expression: {fault}; an empty one schedules nothing")
    if wrong:
        raise InvalidStrategyFile("; ".join(wrong))


def _table(path: Path, content: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        message = f"strategies file {path}: {where}{key} must be a table, found {table!r}; write [{where}{key}]"
        raise InvalidStrategyFile(message)
    return table


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **over}
    for table in ("params", "metrics", "gates", "search"):
        if isinstance(base.get(table), dict) and isinstance(over.get(table), dict):
            merged[table] = {**base[table], **over[table]}
    return merged


def _without_none_words(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none_words(value) if isinstance(value, dict) else (None if value == "none" else value)
        for key, value in table.items()
    }


def _words(exc: ValidationError) -> str:
    """Each value that is wrong, with its bounds."""
    # A value of several types has an error for each of them, named by the type.
    found: dict[tuple[str | int, ...], ErrorDetails] = {}
    for error in exc.errors(include_url=False):
        error["loc"] = _without_types(error["loc"])
        found.setdefault(error["loc"][:3], error)
    return "; ".join(_fault(error) for error in found.values())


def _without_types(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The place of a number or word without the type that it was tried as."""
    return tuple(part for part in loc if not str(part).startswith(("constrained-int", "literal[")))


def _fault(error: ErrorDetails) -> str:
    *table, key = ("", *error["loc"])
    path, value = ".".join(map(str, error["loc"])), error["input"]
    match error["type"].replace("int_parsing_size", "less_than"):
        case "value_error":
            return f"{path}{'.' if path else ''}{error['ctx']['error']}"
        case "unexpected_keyword_argument":
            near = get_close_matches(str(key), _described(tuple(table[1:]))["properties"], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return f"{path}: there is no such value{hint} (found {value!r})"
        case "string_pattern_mismatch":
            return f"tag {value!r} is not 1 to 32 lower-case letters, digits, dots, dashes and underscores"
        case (
            "finite_number"
            | "int_parsing_size"
            | "greater_than"
            | "greater_than_equal"
            | "less_than"
            | "less_than_equal"
        ):
            bounds = _range(_described(error["loc"]))
            return f"{path} is {bounds} (found {value!r})" if bounds else f"{path} is a finite number (found {value!r})"
        case _:
            return f"{path}: {error['msg']} (found {value!r})"


def value_schema(path: str) -> Mapping[str, Any]:
    """What `drift.alert_share` may be, as JSON Schema: `description`, `default`, `minimum`, `exclusiveMaximum`, …"""
    return _described(tuple(path.split(".")))


def _described(path: Sequence[str | int]) -> dict[str, Any]:
    schema = file_schema()
    found: dict[str, Any] = schema["$defs"]["Strategy"]
    for part in path:
        if isinstance(part, int):
            found = found["prefixItems"][part] if "prefixItems" in found else found["items"]
        else:
            found = found.get("properties", {}).get(part) or found["additionalProperties"]
        if "$ref" in found:
            found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    return found


def _range(schema: Mapping[str, Any]) -> str:
    """`0 to 20`, `above 0 and at most 1`; empty where it is not bounded."""
    word = f', or "{schema["anyOf"][1]["const"]}"' if "anyOf" in schema else ""
    bounded: Mapping[str, Any] = schema["anyOf"][0] if word else schema
    low, high = bounded.get("minimum"), bounded.get("maximum")
    if low is not None and high is not None:
        return f"{_plain(low)} to {_plain(high)}{word}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return " and ".join(f"{said} {_plain(bounded[key])}" for key, said in words.items() if key in bounded) + word


def _plain(bound: float) -> str:
    return f"{int(bound) if bound == int(bound) else bound:,}"


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        return {"anyOf": [self.generate_inner(schema["schema"]), {"const": "none"}]}

    def encode_default(self, dft: object) -> Any:  # noqa: ANN401 -- any JSON value
        return "none" if dft is None else super().encode_default(dft)

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 -- pydantic's
        return False


@cache
def file_schema() -> dict[str, Any]:
    """JSON Schema of a strategies file: every value with what it means, its default and its bounds."""
    # The docstrings under the fields are read from the source, which a worker does not wait for.
    documented = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    table = TypeAdapter(with_config(documented)(Strategy)).json_schema(schema_generator=_TomlSchema)
    definitions = table.pop("$defs")
    del table["properties"]["name"], table["required"]
    strategy = {"$ref": "#/$defs/Strategy"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Strategies and the rules that decide about them",
        "type": "object",
        "additionalProperties": False,
        "required": ["strategies"],
        "properties": {
            "defaults": strategy,
            "strategies": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{_NAME.pattern}$"},
                "additionalProperties": strategy,
            },
        },
        "$defs": definitions | {"Strategy": table},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(file_schema(), indent=1, ensure_ascii=False) + "\n")
