"""`acis evaluate-drift`: false alarms and detection of the drift verdict on a history of prices."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated

import typer

from mlops.cli.options import AsJson, DateFormat, Members, Prices, chosen_reference

#: Days on which these prices moved as they rarely do.
BREAKS = ("2015-08-24", "2016-01-08", "2018-02-02", "2020-03-02")


def evaluate_drift(
    prices: Prices = None,
    members: Members = None,
    date_format: DateFormat = None,
    current_days: Annotated[int | None, typer.Option(min=1, help="Default: 7; for the sample's strategies 30.")] = None,
    calibration_days: Annotated[int, typer.Option(min=365, help="Length of the calibration history.")] = 730,
    reference: Annotated[
        str, typer.Option(help="trailing; champion: profiles of a quarterly retraining; season: of earlier years.")
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
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 1,
    json: AsJson = False,
) -> None:
    """Replay the drift check over a history: how often it fires on calm days, how soon after a break."""
    from functools import partial

    import numpy as np
    import pandas as pd
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from mlops.console import err, guarded, out, print_json
    from mlops.drift_detection.evaluation import Evaluation, calm_days, dated_rows, evaluate
    from mlops.features.price_universes import drawn_panels, feature_rows, price_universes
    from mlops.features.prices import read_close, read_members
    from mlops.features.sample import compute_sample, read_prices
    from mlops.strategies import DataPolicy, DriftPolicy

    def shown_progress(name: str, days: Iterable[date]) -> Iterable[date]:
        return track(list(days), description=name, transient=True, disable=json, console=err)

    def body() -> int:
        close = read_close(prices, date_format=date_format) if prices else read_prices()
        if names:
            rng = np.random.default_rng(seed)
            drawn = [drawn_panels(close, size=size, n=panels, rng=rng) for size in names]
            tables = feature_rows(close, {name: member for one in drawn for name, member in one.items()})
        elif prices or members:
            named = read_members(members, close, date_format=date_format) if members else price_universes(close)
            tables = feature_rows(close, named)
        else:
            rows = compute_sample(close).to_pandas()
            rows["date"] = pd.to_datetime(rows["date"])
            tables = {str(name): part.drop(columns="strategy") for name, part in rows.groupby("strategy")}
            # It holds all names, so it is the panel of the others rather than one more strategy.
            tables.pop("direction")
        days = current_days or (7 if prices or names else 30)
        data = DataPolicy(current_days=days, reference=chosen_reference(reference))
        calm = calm_days(close)
        results: list[Evaluation] = []
        for name, table in tables.items():
            kept = table[table["date"] >= since] if since else table
            results.append(
                evaluate(
                    name,
                    dated_rows(kept),
                    calm,
                    data=data,
                    drift=DriftPolicy(calibration_days=calibration_days),
                    breaks=[date.fromisoformat(day) for day in breaks or BREAKS],
                    every=every,
                    track=partial(shown_progress, name),
                )
            )
        if json:
            print_json(results)
            return 0
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
        out.print(f"{data.reference_days}/{data.current_days} days, reference {reference}, every {every} trading days")
        # Whole, also where the terminal is narrower: a cut figure is no figure.
        Console(width=max(out.width, 140), highlight=False).print(shown)
        out.print("A break's column: trading days until the first check that fires, 0 on its own day.")
        return 0

    raise typer.Exit(guarded(body))
