"""`acis policy`: a strategy's policy with each value's origin, and edits of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops.runs.command_line import AsJson, StrategyName, command

if TYPE_CHECKING:
    from mlops.strategies.file import Settled

_DEFAULT = "default"


@command
def policy(
    strategy: StrategyName,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="drift.alert_share=0.4; VALUE is JSON.")
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(metavar="PATH", help="The file's value holds again.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the edit.")] = "",
    json: AsJson = False,
) -> int:
    """Show what a strategy's next run will be judged by, and where each value is from; or edit it."""
    from mlops.domain.errors import ConfigurationError
    from mlops.invocation import command_line_actor
    from mlops.reporting.terminal import out, print_json
    from mlops.strategies.overlay import was_and_is
    from tasks.services import connect

    services = connect()
    book = services.policies
    if set_ or unset:
        if not reason.strip():
            raise ConfigurationError("an edit is kept with its reason; give --reason")
        values = {**_values(set_ or ()), **dict.fromkeys(unset or ())}
        before = book.settled(strategy).strategy
        settled = book.edit(strategy, values, actor=command_line_actor(), reason=reason)
        told = was_and_is(before, settled.strategy, values)
        services.ledger.audit(command_line_actor(), "policy.edit", strategy, reason=reason, **told)
    else:
        settled = book.settled(strategy)
    if json:
        print_json({"strategy": strategy, "values": dict(_lines(settled))})
        return 0
    for path, line in _lines(settled):
        out.print(f"{path} = {line['value']}   ({line['origin']})", markup=False)
    return 0


def _values(pairs: Sequence[str]) -> Mapping[str, Any]:
    import json

    from mlops.domain.errors import ConfigurationError

    found = {}
    for pair in pairs:
        path, sign, text = pair.partition("=")
        if not sign:
            raise ConfigurationError(f"{pair!r} sets nothing; write PATH=VALUE, as drift.alert_share=0.4")
        try:
            found[path] = json.loads(text)
        except json.JSONDecodeError:
            # A bare word, as `raw`.
            found[path] = text
    return found


def _lines(settled: Settled) -> list[tuple[str, dict[str, Any]]]:
    from mlops.strategies.file import POLICIES, snapshot

    values = snapshot(settled.strategy)
    return [
        (f"{name}.{key}", {"value": value, "origin": settled.origins.get(f"{name}.{key}", _DEFAULT)})
        for name in POLICIES
        for key, value in values[name].items()
    ]
