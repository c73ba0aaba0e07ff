"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from mlops.domain.policies import Reference

if TYPE_CHECKING:
    from mlops.strategies.file import Strategies

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
OnWorkers = Annotated[bool, typer.Option("--queue", help="Let the workers do it, and follow with progress.")]
AsOf = Annotated[
    datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="Decide as of this day (default: by policy).")
]
MinAccuracy = Annotated[float | None, typer.Option(min=0, max=1, help="Gate in place of the policy's.")]
DriftThreshold = Annotated[float | None, typer.Option(min=0, max=1, help="Alert share in place of the policy's.")]
RunId = Annotated[str, typer.Argument(help="A run's id, or the beginning of it that `acis runs` shows.")]
StrategyNames = Annotated[list[str] | None, typer.Argument(metavar="[STRATEGY]...", help="Strategies by name.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="Those with this tag, too; may be given several times.")
]
EveryStrategy = Annotated[bool, typer.Option("--all", help="Every strategy of the strategies file.")]
StrategyName = Annotated[str, typer.Argument(help="A strategy of the strategies file.")]

Prices = Annotated[
    Path | None,
    typer.Option(help="Parquet or CSV with date, ticker (or Name), close or adj_close, in place of the data."),
]
Members = Annotated[
    Path | None,
    typer.Option(
        help="With --prices, a file of date, ticker, strategy: members from the day after. Default: by price, or all."
    ),
]
DateFormat = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help="Of the files' dates, as in %d/%m/%Y; asked for where it is in doubt."),
]


def chosen(
    strategies: Strategies, names: Sequence[str] | None, tags: Sequence[str] | None, *, everything: bool
) -> list[str]:
    """The strategies of those options. Raises ConfigurationError where they name none, UnknownStrategy."""
    from mlops.domain.errors import ConfigurationError

    if names or tags:
        return strategies.chosen(names or (), tags or ())
    if not everything:
        raise ConfigurationError("no strategy is named; name some, or give --tag TAG, or --all for all of them")
    return list(strategies)


def day(as_of: datetime | None) -> date | None:
    """The date of an option."""
    return as_of.date() if as_of else None


def chosen_reference(name: str) -> Reference:
    """The reference of an option's value. Raises typer.BadParameter."""
    for known in get_args(Reference):
        if name == known:
            return cast("Reference", known)
    raise typer.BadParameter(f"{name!r} is no reference; one of: {', '.join(get_args(Reference))}")
