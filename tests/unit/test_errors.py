"""Errors say something, and say the same after their way through Celery's JSON, which keeps their arguments alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlops.domain.errors import AcisError, PermanentError, TemporaryError, UnknownStrategy


def all_errors(base: type[AcisError] = AcisError) -> Iterator[type[AcisError]]:
    yield base
    for error in base.__subclasses__():
        if error.__module__ == "mlops.domain.errors":
            yield from all_errors(error)


@pytest.mark.parametrize("error", list(all_errors()))
def test_an_error_made_again_from_its_arguments_says_the_same(error: type[AcisError]) -> None:
    said = error("what was asked, found, and to do")
    assert str(error(*said.args)) == str(said) == "what was asked, found, and to do"


@pytest.mark.parametrize("error", list(all_errors()))
def test_an_error_without_a_message_says_what_it_is(error: type[AcisError]) -> None:
    assert str(error()) == (error.__doc__ or "").strip().splitlines()[0]


@pytest.mark.parametrize("error", list(all_errors())[1:])
def test_every_error_is_either_temporary_or_permanent(error: type[AcisError]) -> None:
    assert issubclass(error, TemporaryError) is not issubclass(error, PermanentError)


def test_an_unknown_strategy_is_shown_with_those_that_are_known() -> None:
    said = UnknownStrategy.named("growht", ["momentum", "growth"])
    assert str(UnknownStrategy(*said.args)) == "strategy 'growht' is not known; one of: growth, momentum"
