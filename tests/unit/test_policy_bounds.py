"""Every number of a policy has a bound on both sides, whichever door it comes in by: file, edit or page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from pydantic.fields import FieldInfo

from admin.policy_values import with_values
from admin.responses import NotValid
from mlops.domain.errors import InvalidPolicyEdit, InvalidStrategyFile
from mlops.domain.policies import Strategy
from mlops.ledger.people.policy_edits import PolicyEdit
from mlops.strategies.book import PolicyBook
from mlops.strategies.file import Strategies, load_strategies

Bounds = tuple[float, float]
STRATEGY = Strategy(name="growth")
TRAINERS_OWN = {"training.params", "training.search"}
"""Their numbers' bounds are the parameter's own; those of a custom trainer have the common ones."""


def numbers(hint: Any, metadata: Sequence[Any] = ()) -> Iterator[tuple[type, Sequence[Any]]]:
    """Every int and float of a type, with what is said about it."""
    if get_origin(hint) is Annotated:
        inner, *said = get_args(hint)
        yield from numbers(inner, said)
    elif hint in (int, float):
        yield hint, metadata
    else:
        for part in get_args(hint):
            if not isinstance(part, str | int):  # a Literal's values
                yield from numbers(part)


def bounds(metadata: Sequence[Any]) -> Bounds | None:
    """Least and most; None where one of them is not there, or nan is a value."""
    said = {}
    for one in metadata:
        for rule in one.metadata if isinstance(one, FieldInfo) else ():
            said |= {name: getattr(rule, name) for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)}
            said |= {"finite": True} if getattr(rule, "allow_inf_nan", True) is False else {}
    low, high = said.get("ge", said.get("gt")), said.get("le", said.get("lt"))
    return None if low is None or high is None else (low, high)


def declared() -> Iterator[tuple[str, type, Sequence[Any]]]:
    """Path, type and metadata of every number that a strategy declares."""
    for policy in fields(Strategy):
        part = getattr(STRATEGY, policy.name)
        if not is_dataclass(part):
            continue
        for name, hint in get_type_hints(type(part), include_extras=True).items():
            path = f"{policy.name}.{name}"
            if path not in TRAINERS_OWN:
                for kind, metadata in numbers(hint):
                    yield path, kind, metadata


DECLARED = list(declared())
SINGLE = [
    (path, found)
    for path, _, metadata in DECLARED
    if (found := bounds(metadata)) is not None
    and path not in ("data.return_bounds", "promotion.gates", "experiments.steps")
]


def test_every_number_that_a_policy_declares_has_both_bounds() -> None:
    assert len(SINGLE) > 50
    assert [path for path, _, metadata in DECLARED if bounds(metadata) is None] == []


def test_a_number_without_a_bound_would_be_found() -> None:
    def found(hint: Any) -> list[Bounds | None]:
        return [bounds(metadata) for _, metadata in numbers(hint)]

    from pydantic import Field

    assert found(Annotated[int, Field(ge=1)]) == [None]
    assert found(dict[str, float | None]) == [None]
    assert found(Annotated[int, Field(ge=1, lt=5)] | None) == [(1.0, 5.0)]


class NoEdits:
    """A ledger in which nobody has edited anything, or ever does."""

    def policy_edits(self, strategy: str | None = None) -> Sequence[PolicyEdit]:
        return []

    def edit_policy(self, strategy: str, path: str, value: Any, *, actor: str, reason: str) -> None:
        pytest.fail(f"{path} = {value} was written")


def beyond(found: Bounds) -> list[float]:
    low, high = found
    return [low - 1, high + max(1.0, abs(high)), 10**23, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(("path", "found"), SINGLE)
def test_what_lies_beyond_is_refused_in_words_by_the_file_an_edit_and_the_page(
    path: str, found: Bounds, tmp_path: Any
) -> None:
    policy, _, name = path.partition(".")
    book = PolicyBook(Strategies({"growth": STRATEGY}), NoEdits())
    file = tmp_path / "strategies.toml"
    for value in beyond(found):
        file.write_text(f"[strategies.growth.{policy}]\n{name} = {value}\n")
        with pytest.raises(InvalidStrategyFile, match=rf"{name} is .*found"):
            load_strategies(file)
        with pytest.raises(InvalidPolicyEdit, match=rf"{name} is .*found"):
            book.edit("growth", {path: value}, actor="ada", reason="a slip of a finger")
        with pytest.raises(NotValid, match=rf"{name} is .*found"):
            with_values(STRATEGY, {path: value})


@pytest.mark.parametrize("steps", ["[]", "[0.0, 0.5]", "[0.5, 1.1]", "[0.25, 0.05]", "[0.5, 0.5]", "[nan]"])
def test_steps_of_a_canary_are_ascending_shares(tmp_path: Any, steps: str) -> None:
    file = tmp_path / "strategies.toml"
    file.write_text(f"[strategies.growth.experiments]\nsteps = {steps}\n")
    with pytest.raises(InvalidStrategyFile, match=r"steps.*found"):
        load_strategies(file)


@pytest.mark.parametrize("hook", ["http://desk:port/ask", "http://desk:70000/ask", "https://[desk/ask"])
def test_a_switch_hook_that_is_no_address_is_refused_in_words(tmp_path: Any, hook: str) -> None:
    file = tmp_path / "strategies.toml"
    file.write_text(f'[strategies.growth.experiments]\nswitch_hook = "{hook}"\n')
    with pytest.raises(InvalidStrategyFile, match=r"switch_hook is no address.*give http\(s\)://HOST:PORT/PATH"):
        load_strategies(file)


@pytest.mark.parametrize("text", ["1e300", "-1e300", "inf", "nan", "1" * 400])
@pytest.mark.parametrize("place", ["params = {{ leaves = {} }}", "search = {{ leaves = [1, {}] }}"])
def test_a_number_of_a_custom_trainer_has_the_common_bounds(tmp_path: Any, place: str, text: str) -> None:
    file = tmp_path / "strategies.toml"
    file.write_text(f'[strategies.growth.training]\ntrainer = "desk:Own"\n{place.format(text)}\n')
    with pytest.raises(InvalidStrategyFile, match="leaves"):
        load_strategies(file)


def test_a_number_of_thousands_of_digits_is_refused_in_words(tmp_path: Any) -> None:
    file = tmp_path / "strategies.toml"
    file.write_text(f"[strategies.growth.drift]\nbins = {'1' * 5000}\n")
    with pytest.raises(InvalidStrategyFile, match=r"strategies\.toml is not TOML"):
        load_strategies(file)
