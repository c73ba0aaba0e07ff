"""Reads what a person types to start an experiment, on the command line, in a form or over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlops.domain.errors import ConfigurationError
from mlops.runs.experiments import ExperimentOptions

_LISTS = ("steps", "keys")
_SHARES = ("share", "steps")


def options_of(typed: Mapping[str, str | None]) -> ExperimentOptions:
    """Give the options of what was typed, by their names; an empty text is as the strategy's policy has it.

    A share is `0.05`, `5%` or `5 %`; several are apart by commas, keys by commas or spaces.
    Raises ConfigurationError, which names the option.
    """
    given = {name: text.strip() for name, text in typed.items() if text and text.strip()}
    return ExperimentOptions.model_validate({name: _value(name, text) for name, text in given.items()})


def _value(name: str, text: str) -> object:
    if name in _SHARES:
        # A space before the sign is no separator.
        parts = re.split(r"[,;\s]+", re.sub(r"\s+%", "%", text)) if name in _LISTS else [text]
        shares = tuple(_share(name, part) for part in parts if part)
        return shares if name in _LISTS else shares[0]
    return tuple(dict.fromkeys(re.findall(r"[^,;\s]+", text))) if name in _LISTS else text


def _share(name: str, text: str) -> float:
    number, is_percent = re.sub(r"\s*%$", "", text), text.endswith("%")
    try:
        value = float(number)
    except ValueError as exc:
        raise ConfigurationError(f"{name}: {text!r} is no share; write 0.05 or 5%") from exc
    if value > 1 and not is_percent:
        raise ConfigurationError(f"{name}: {text!r} is more than everything; write {number}% or a share of 1 at most")
    return value / 100 if is_percent else value
