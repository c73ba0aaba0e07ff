"""`acis evaluate-drift`: how often the drift check fires on the past, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mlops.domain.policies import Reference
from mlops.runs.command_line import AsJson, DateFormat, Members, Prices, command, day, show_prices

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from rich.table import Table

    from lab.drift_evaluation import AlarmEvaluation, DatedRows, VerdictEvaluation
    from mlops.features.price_coverage import PriceCoverage

Item = TypeVar("Item")

#: Days on which these prices moved as they rarely do.
_BREAKS = ("2015-08-24", "2016-01-08", "2018-02-02", "2020-03-02")


@command
def evaluate_drift(
    prices: Prices = None,
    members: Members = None,
    date_format: DateFormat = None,
    current_days: Annotated[int | None, typer.Option(min=1, help="Default: 7; for the sample's strategies 30.")] = None,
    calibration_days: Annotated[int, typer.Option(min=365, help="Length of the calibration history.")] = 730,
    reference: Annotated[
        Reference,
        typer.Option(help="trailing; champion: profiles of a quarterly retraining; season: of earlier years."),
    ] = "trailing",
    alone: Annotated[
        bool, typer.Option("--alone", help="The trailing window without the champion's dates beside it.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Trading days from one check to the next.")] = 5,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Rows from this day on.")] = None,
    breaks: Annotated[
        list[str] | None,
        typer.Option("--break", metavar="DATE", help="A day on which the data broke; repeatable."),
    ] = None,
    names: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Panels of so many names, drawn from all, in place of the strategies; repeatable."),
    ] = None,
    panels: Annotated[int, typer.Option(min=1, help="Of each number of --names.")] = 3,
    alarms: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="WEEKS", help="Measure the alarms about features in so many weeks, not the verdict."
        ),
    ] = None,
    shift: Annotated[float, typer.Option(min=0.0, help="Planted in one feature, in standard deviations.")] = 3.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 1,
    json: AsJson = False,
) -> int:
    """Replay the drift check over a history: how often it fires on all days and on calm ones, how soon after a break.

    With --every 1 also the retrainings a year that follow from the checks.
    """
    from functools import partial

    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from lab.drift_evaluation import calm_days, evaluate, evaluate_alarms
    from mlops.domain.policies import DataPolicy, DriftPolicy
    from mlops.reporting.terminal import as_json, err, out, print_json

    def shown_progress(name: str, days: Iterable[Item]) -> Iterable[Item]:
        return track(list(days), description=name, transient=True, disable=not err.is_terminal, console=err)

    def show(results: Sequence[Item], table: Callable[[Sequence[Item]], Table]) -> None:
        if json:
            print_json([{**as_json(one), "prices": history.coverage} for one in results])
        else:
            # Whole, also where the terminal is narrower: a cut figure is no figure.
            Console(width=max(out.width, 180), highlight=False).print(table(results))

    moments, rng = [day(text) for text in breaks or _BREAKS], np.random.default_rng(seed)
    drawn = dict.fromkeys(names or (), panels)
    history = _history(prices, members, date_format=date_format, drawn=drawn, rng=rng, since=since)
    show_prices(history.coverage, json=json)
    data = DataPolicy(
        current_days=current_days or (7 if prices or names else 30), reference=reference, champion_beside=not alone
    )
    calm = calm_days(history.close)
    drift = DriftPolicy(calibration_days=calibration_days)
    note = (err if json else out).print
    if alarms:
        weekly = partial(evaluate_alarms, calm=calm, data=data, drift=drift, n_weeks=alarms, size=shift, rng=rng)
        of_weeks = _of_each(
            history, lambda name, rows: weekly(name, rows, track=partial(shown_progress, name)), note=note
        )
        show(of_weeks, _alarms)
        return 0
    daily = partial(evaluate, calm=calm, data=data, drift=drift, breaks=moments, every=every)
    results = _of_each(history, lambda name, rows: daily(name, rows, track=partial(shown_progress, name)), note=note)
    if not json:
        beside = " with the champion's beside it" if reference == "trailing" and not alone else ""
        out.print(
            f"{data.reference_days}/{data.current_days} days, reference {reference}{beside}, every {every} trading days"
        )
    show(results, _verdicts)
    if not json:
        for line in _without_verdict(results):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        out.print(
            "fires: share of all checks, of those of calm days, of all others; insufficient: share of all checks."
        )
        out.print("A break's column: trading days until the first check that fires, 0 on its own day.\n")
        if every == 1:  # each drifted check is one; of fewer checks fewer are
            show(results, _retrainings)
            out.print(
                "Retrainings a year: of each drifted check; by the plan of an episode; by that beside 52 forced ones."
            )
    return 0


@dataclass(frozen=True, kw_only=True)
class _History:
    """Rows of each strategy, the prices of which they are made, and what a user's file of them gives."""

    rows: dict[str, DatedRows]
    close: pd.DataFrame
    coverage: PriceCoverage | None


def _history(
    prices: Path | None,
    members: Path | None,
    *,
    date_format: str | None,
    drawn: dict[int, int],
    rng: np.random.Generator,
    since: datetime | None,
) -> _History:
    """Read prices and members. drawn : number of panels by their number of names, in place of the strategies."""
    from lab.drift_evaluation import dated_rows
    from mlops.domain.errors import ConfigurationError
    from mlops.features.price_universes import (
        drawn_panels,
        feature_rows,
        price_universes,
        read_given,
        require_prices,
    )
    from mlops.features.sample import read_prices

    require_prices(prices, members)
    if drawn and members:
        raise ConfigurationError("--names draws panels in place of strategies; leave it out, or --members")
    given = read_given(prices, members, date_format=date_format) if prices else None
    close = given.close if given else read_prices()
    if drawn:
        each = [drawn_panels(close, size=size, n=n, rng=rng) for size, n in drawn.items()]
        tables = feature_rows(close, {name: member for one in each for name, member in one.items()})
    elif given:
        tables = feature_rows(close, price_universes(close) if given.universes is None else given.universes)
    else:
        tables = _sample_tables(close)
    rows = {name: dated_rows(table[table["date"] >= since] if since else table) for name, table in tables.items()}
    return _History(rows=rows, close=close, coverage=given.coverage if given else None)


def _of_each(history: _History, measured: Callable[[str, DatedRows], Item], *, note: Callable[..., None]) -> list[Item]:
    """Results of the strategies that have history enough; the others are named. Raises InsufficientData without any."""
    from mlops.domain.errors import InsufficientData

    results, reasons = [], []
    for name, rows in history.rows.items():
        try:
            results.append(measured(name, rows))
        except InsufficientData as exc:
            reasons.append(str(exc))
    if not results:
        raise InsufficientData(f"{'; '.join(reasons)}; load a longer history")
    for reason in reasons:
        note(f"Left out: {reason}", markup=False, highlight=False, soft_wrap=True)
    return results


def _sample_tables(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    import pandas as pd

    from mlops.features.sample import compute_sample

    rows = compute_sample(close).to_pandas()
    rows["date"] = pd.to_datetime(rows["date"])
    # `direction` holds all names, so it is the panel of the others rather than one more strategy.
    return {str(name): part.drop(columns="strategy") for name, part in rows.groupby("strategy") if name != "direction"}


def _without_verdict(results: Sequence[VerdictEvaluation]) -> list[str]:
    """Why the newest check without a verdict has none, for the strategies of which that is true."""
    whose: dict[str, list[str]] = {}
    for result in results:
        reasons = [check.reason for check in result.verdicts if check.verdict == "insufficient"]
        for reason in reasons[-1:]:
            whose.setdefault(reason, []).append(result.strategy)
    return [f"insufficient, {', '.join(names)}: {reason}" for reason, names in whose.items()]


def _verdicts(results: Sequence[VerdictEvaluation]) -> Table:
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    moments = list(dict.fromkeys(moment for result in results for moment in result.days_to_detection))
    for heading in (
        "strategy",
        "checks",
        "calm",
        "fires",
        "fires, calm",
        "raw, calm",
        "fires, other",
        "insufficient",
        *moments,
    ):
        shown.add_column(heading, justify="left" if heading == "strategy" else "right", no_wrap=True)
    for result in results:
        rates = (result.rate, result.calm_rate, result.calm_rate_raw, result.turbulent_rate, result.insufficient_rate)
        found = [result.days_to_detection.get(moment, "no history") for moment in moments]
        shown.add_row(
            result.strategy,
            str(result.n_checks),
            str(result.n_calm),
            *("" if rate is None else f"{rate:.1%}" for rate in rates),
            *("not seen" if after is None else str(after) for after in found),
        )
    return shown


def _retrainings(results: Sequence[VerdictEvaluation]) -> Table:
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("strategy", "years", "episodes a year", "each drifted check", "plan", "plan beside forced ones"):
        shown.add_column(heading, justify="left" if heading == "strategy" else "right", no_wrap=True)
    for result in results:
        one = result.retrainings
        if one is None:
            continue
        figures = (one.n_years, one.n_episodes, one.per_check, one.per_episode, one.beside_forced)
        shown.add_row(result.strategy, *(f"{figure:.1f}" for figure in figures))
    return shown


def _alarms(measured: Sequence[AlarmEvaluation]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    shifted = f"one feature + {measured[0].size:g} sd: named"
    headings = ("weeks", "alarm", "calm weeks", "alarm", shifted, "correlation alarm", "0.0 to 0.7: seen")
    table.add_column("strategy", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in measured:
        rates = [
            "" if rate is None else f"{rate.share:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
            for rate in (
                one.false_rate,
                one.false_rate_calm,
                one.seen_rate,
                one.false_correlation_rate,
                one.seen_correlation_rate,
            )
        ]
        table.add_row(one.strategy, str(one.n_weeks), rates[0], str(one.n_calm), *rates[1:])
    return table
