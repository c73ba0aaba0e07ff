"""`acis evaluate-drift`: false alarms and detection of the drift verdict on a history of prices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mlops.domain.policies import Reference
from mlops.runs.command_line import AsJson, DateFormat, Members, Prices, command

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from lab.drift_evaluation import AlarmEvaluation, VerdictEvaluation

Item = TypeVar("Item")

#: Days on which these prices moved as they rarely do.
BREAKS = ("2015-08-24", "2016-01-08", "2018-02-02", "2020-03-02")


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
    every: Annotated[int, typer.Option(min=1, help="Trading days from one check to the next.")] = 5,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Rows from this day on.")] = None,
    breaks: Annotated[
        list[str] | None, typer.Option("--break", help="A day on which the data broke; repeatable.")
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
    """Replay the drift check over a history: how often it fires on calm days, how soon after a break."""
    from functools import partial

    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from lab.drift_evaluation import (
        calm_days,
        dated_rows,
        evaluate,
        evaluate_alarms,
    )
    from mlops.domain.policies import DataPolicy, DriftPolicy
    from mlops.features.price_universes import drawn_panels, feature_rows, price_universes
    from mlops.features.prices import read_close, read_members
    from mlops.features.sample import read_prices
    from mlops.reporting.terminal import err, out, print_json

    def shown_progress(name: str, days: Iterable[Item]) -> Iterable[Item]:
        return track(list(days), description=name, transient=True, disable=json, console=err)

    def show(results: Sequence[Item], table: Callable[[Sequence[Item]], Table]) -> None:
        if json:
            print_json(results)
        else:
            # Whole, also where the terminal is narrower: a cut figure is no figure.
            Console(width=max(out.width, 180), highlight=False).print(table(results))

    close = read_close(prices, date_format=date_format) if prices else read_prices()
    rng = np.random.default_rng(seed)
    if names:
        drawn = [drawn_panels(close, size=size, n=panels, rng=rng) for size in names]
        tables = feature_rows(close, {name: member for one in drawn for name, member in one.items()})
    elif prices or members:
        named = read_members(members, close, date_format=date_format) if members else price_universes(close)
        tables = feature_rows(close, named)
    else:
        tables = _sample_tables(close)
    days = current_days or (7 if prices or names else 30)
    data = DataPolicy(current_days=days, reference=reference)
    calm = calm_days(close)
    drift = DriftPolicy(calibration_days=calibration_days)
    rows = {name: dated_rows(table[table["date"] >= since] if since else table) for name, table in tables.items()}
    if alarms:
        measured = [
            evaluate_alarms(
                name,
                dated,
                calm,
                data=data,
                drift=drift,
                n_weeks=alarms,
                size=shift,
                rng=rng,
                track=partial(shown_progress, name),
            )
            for name, dated in rows.items()
        ]
        show(measured, _alarms)
        return 0
    results = [
        evaluate(
            name,
            dated,
            calm,
            data=data,
            drift=drift,
            breaks=[date.fromisoformat(day) for day in breaks or BREAKS],
            every=every,
            track=partial(shown_progress, name),
        )
        for name, dated in rows.items()
    ]
    if not json:
        words = f"{data.reference_days}/{data.current_days} days, reference {reference}, every {every} trading days"
        out.print(words)
    show(results, _verdicts)
    if not json:
        out.print("fires: share of the checks of calm days, or of all others; insufficient: share of all checks.")
        out.print("A break's column: trading days until the first check that fires, 0 on its own day.")
    return 0


def _sample_tables(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    import pandas as pd

    from mlops.features.sample import compute_sample

    rows = compute_sample(close).to_pandas()
    rows["date"] = pd.to_datetime(rows["date"])
    # `direction` holds all names, so it is the panel of the others rather than one more strategy.
    return {str(name): part.drop(columns="strategy") for name, part in rows.groupby("strategy") if name != "direction"}


def _verdicts(results: Sequence[VerdictEvaluation]) -> Table:
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    moments = list(dict.fromkeys(moment for result in results for moment in result.days_to_detection))
    for heading in (
        "strategy",
        "checks",
        "calm",
        "fires, calm",
        "raw, calm",
        "fires, other",
        "insufficient",
        *moments,
    ):
        shown.add_column(heading, justify="left" if heading == "strategy" else "right", no_wrap=True)
    for result in results:
        rates = (result.calm_rate, result.calm_rate_raw, result.turbulent_rate, result.insufficient_rate)
        found = [result.days_to_detection.get(moment, "no history") for moment in moments]
        shown.add_row(
            result.strategy,
            str(result.n_checks),
            str(result.n_calm),
            *("" if rate is None else f"{rate:.1%}" for rate in rates),
            *("not seen" if after is None else str(after) for after in found),
        )
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
