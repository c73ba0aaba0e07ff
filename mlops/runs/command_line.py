"""Options that several commands share, and the way in which a documented script takes those of a command.

Imported by every `acis --help`, so what takes time is imported on use.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from mlops.invocation import command_log
from mlops.runs.options import option_help

if TYPE_CHECKING:
    from mlops.features.price_coverage import PriceCoverage
    from mlops.strategies.file import Strategies


Given = ParamSpec("Given")


def run_option(name: str, *flags: str, **shown: Any) -> Any:  # noqa: ANN401 -- typer's own, as `typer.Option`
    """The command-line option of a run's option, with its help text."""
    return typer.Option(*flags, help=option_help(name), **shown)


def day(text: str) -> date:
    """The date that an option names. Raises typer.BadParameter."""
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is no date; write it as 2026-03-02") from exc


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
OnWorkers = Annotated[bool, typer.Option("--queue", help="Let the workers do it, and follow with progress.")]
AsOf = Annotated[date | None, run_option("as_of", parser=day, metavar="DATE")]
MinAccuracy = Annotated[float | None, run_option("min_accuracy")]
DriftThreshold = Annotated[float | None, run_option("drift_threshold")]
RunId = Annotated[str, typer.Argument(help="A run's id, or the beginning of it that `acis runs` shows.")]
StrategyNames = Annotated[list[str] | None, typer.Argument(metavar="[STRATEGY]...", help="Strategies by name.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="Those with this tag, too; may be given several times.")
]
EveryStrategy = Annotated[bool, typer.Option("--all", help="Every strategy of the strategies file.")]
StrategyName = Annotated[str, typer.Argument(help="A strategy of the strategies file.")]
StrategyOption = Annotated[str, typer.Option(help="A strategy of the strategies file.")]

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


def show_prices(coverage: PriceCoverage | None, *, json: bool) -> None:
    """Say what a file of prices gives, before what is computed of it; beside a JSON document on standard error."""
    from mlops.reporting.terminal import err, out

    for line in coverage.lines if coverage else ():
        (err if json else out).print(line, markup=False, highlight=False, soft_wrap=True)


def command(body: Callable[Given, int]) -> Callable[Given, None]:
    """Make a command of a function that returns its exit code: an expected error is one line and exit code 2."""

    @wraps(body)
    def run(*args: Given.args, **options: Given.kwargs) -> None:
        from mlops.reporting.terminal import guarded

        raise typer.Exit(guarded(lambda: body(*args, **options)))

    return run


def run_script(
    command: Callable[..., None],
    arguments: Sequence[str] | None,
    *,
    several: Collection[str] = (),
    **options: Any,  # noqa: ANN401 -- annotations
) -> int:
    """Run a command as a documented script; its exit code.

    several : options that take all values that follow them, as in `--strategies growth momentum`
    options : by parameter of the command, the annotation that the script has in place of the command's
    """

    def script(**given: Any) -> None:  # noqa: ANN401 -- the command's own
        command_log()
        command(**given)

    signature = inspect.signature(command, eval_str=True)
    parameters = [
        one.replace(annotation=options.get(name, one.annotation)) for name, one in signature.parameters.items()
    ]
    script.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    script.__doc__ = command.__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(script)
    try:
        app(list(_one_value_each(sys.argv[1:] if arguments is None else arguments, several)))
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("unreachable: typer exits")


def _one_value_each(arguments: Sequence[str], several: Collection[str]) -> Iterator[str]:
    """`--tags a b` as `--tags a --tags b`."""
    option, has_value = "", False
    for word in arguments:
        if word.startswith("-"):
            option, has_value = word if word in several else "", False
        elif option and has_value:
            yield option
        else:
            has_value = True
        yield word
