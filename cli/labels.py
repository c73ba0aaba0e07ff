"""`acis evaluate-labels`: what the label watch says without a change and with one, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.training_display import ShownTraining, print_lines, training_bars
from mlops.runs.command_line import AsJson, DateFormat, Members, Prices, command, show_prices

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress as Bars

    from config.settings import Settings
    from lab.label_evaluation import PriceResult, Rates
    from lab.label_replacement import Replacement, StreamResult
    from mlops.domain.policies import Strategy


class Part(StrEnum):
    """A part of an evaluation of labels."""

    STREAMS = "streams"
    PRICES = "prices"


_COINS = (0.5, 0.8)
"""Shares of a stream's labels that a coin draws: an AUC of about 0.73 and 0.59"""
_HORIZONS = (1, 5, 20)


@command
def evaluate_labels(
    prices: Prices = None,
    members: Members = None,
    date_format: DateFormat = None,
    seeds: Annotated[int, typer.Option(min=1, help="Champions of each stream.")] = 10,
    names: Annotated[int, typer.Option(min=2, help="Rows of a date of a stream.")] = 50,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Gate of what replaces a champion. Default: none.")
    ] = None,
    years: Annotated[int, typer.Option(min=1, help="Years without a change, of each champion of a stream.")] = 4,
    horizons: Annotated[
        list[int] | None,
        typer.Option("--looks-ahead", min=1, metavar="DATES", help="Of the labels; repeatable. Default: 1, 5 and 20."),
    ] = None,
    holdout_dates: Annotated[int, typer.Option(min=1, help="Held out of the judged model.")] = 60,
    step: Annotated[int, typer.Option(min=1, help="Dates between two champions of the prices.")] = 252,
    only: Annotated[Part | None, typer.Option(help="One of the parts.")] = None,
    quick: Annotated[
        bool, typer.Option(help="Two champions and years of each stream, a champion in five years.")
    ] = False,
    json: AsJson = False,
) -> int:
    """Watch newly known labels: alarms without a change, turned-around labels found, and the champion replaced.

    On streams whose labels are turned around on a known date, and on a history of prices with two labels; with the
    sample's parameters, and no gate but the floor and --min-accuracy. Default prices: the sample.
    """
    from dataclasses import replace

    from config.settings import ROOT, load_settings
    from mlops.domain.errors import ConfigurationError, InsufficientData
    from mlops.domain.training.trading import TRADING_DAYS
    from mlops.features.price_universes import price_view
    from mlops.reporting.terminal import OK, err, print_json
    from mlops.strategies.file import load_strategies

    sample = load_strategies(ROOT / "config" / "strategies_sample.toml")["growth"]
    gated = replace(sample.promotion, min_accuracy=min_accuracy, min_roc_auc=None, min_lift_over_majority=None)
    training = replace(sample.training, holdout_dates=holdout_dates)
    each = [
        replace(sample, training=replace(training, horizon_dates=horizon), promotion=gated)
        for horizon in dict.fromkeys(horizons or _HORIZONS)
    ]
    # The panels are small: more threads would only wait for each other.
    settings = load_settings().model_copy(update={"train_n_jobs": 1})
    if quick:
        seeds, years, step = min(seeds, 2), min(years, 2), 5 * TRADING_DAYS
    if only == Part.STREAMS and (prices or members or date_format):
        message = "--only streams draws its rows; leave out --prices, --members and --date-format, or --only"
        raise ConfigurationError(message)
    # Before the streams, which take minutes: a file that cannot be read is said at once.
    given = None if only == Part.STREAMS else price_view(prices, members, date_format=date_format)
    coverage = given[2] if given else None
    show_prices(coverage, json=json)
    streams: list[StreamResult] = []
    champions: list[PriceResult] = []
    left_out: list[str] = []
    with training_bars() as bars:
        if only != Part.PRICES:
            streams = _stream_results(each, bars, settings, seeds=seeds, years=years, names=names)
        if given:
            champions, left_out = _price_results(given[0], given[1].to_pandas(), each, bars, settings, step=step)
    if left_out and not champions and not streams:
        raise InsufficientData("; ".join(left_out))
    for reason in left_out:
        err.print(f"Left out: {reason}", markup=False, highlight=False, soft_wrap=True)
    if json:
        print_json({"streams": streams, "champions": champions, "left_out": left_out, "prices": coverage})
        return OK
    if streams:
        _print_streams(streams)
    if champions:
        _print_prices(champions)
    return OK


def _stream_results(
    strategies: Sequence[Strategy], bars: Bars, settings: Settings, *, seeds: int, years: int, names: int
) -> list[StreamResult]:
    from itertools import product

    from lab.label_replacement import StreamDesign, evaluate_stream
    from lab.label_streams import STREAMS

    found = []
    for stream, coin, strategy in product(STREAMS, _COINS, strategies):
        horizon = strategy.training.horizon_dates
        line = bars.add_task(f"{stream}, {coin:.0%} by a coin, {horizon} dates", total=None)
        design = StreamDesign(name=stream, coin=coin, horizon_dates=horizon, n_rows=names)
        control = ShownTraining(bars, line)
        found.append(evaluate_stream(design, strategy, seeds=seeds, years=years, settings=settings, control=control))
        bars.remove_task(line)
    return found


def _price_results(
    close: pd.DataFrame,
    table: pd.DataFrame,
    strategies: Sequence[Strategy],
    bars: Bars,
    settings: Settings,
    *,
    step: int,
) -> tuple[list[PriceResult], list[str]]:
    """Results of the panels that can be watched, and why the others cannot."""
    from lab.label_evaluation import evaluate_prices, price_panels
    from mlops.domain.errors import DataError

    found, left_out = [], []
    for strategy in strategies:
        horizon = strategy.training.horizon_dates
        for name, label, panel in price_panels(close, table, horizon_dates=horizon):
            line = bars.add_task(f"{name}: {label} of {horizon} dates", total=None)
            control = ShownTraining(bars, line)
            try:
                found.append(
                    evaluate_prices(name, label, panel, strategy, step=step, settings=settings, control=control)
                )
            except DataError as exc:
                left_out.append(f"{name}, {label} of {horizon} dates: {exc}")
            bars.remove_task(line)
    return found, left_out


def _print_streams(results: Sequence[StreamResult]) -> None:
    from lab.label_evaluation import METHODS

    lines, summary = [], []
    for one in results:
        by_change = {change: {rate.method: rate for rate in found} for change, found in one.rates.items()}
        for method in METHODS:
            calm, market, turned, gradual = (
                by_change[name][method] for name in ("turned", "market", "turned", "gradual")
            )
            shown = [method, f"{calm.false:.1%} of {calm.n_years}", f"{market.found:.0%}"]
            shown += [text for rate in (turned, gradual) for text in (f"{rate.found:.0%}", _delay(rate))]
            lines.append([*_design(one), *shown, _error(turned)])
        for change in ("turned", "gradual"):
            found = [each for each in one.replacements if each.change == change]
            summary.append([*_design(one), change, *_replaced(found)])
    design = ["stream", "AUC", "label looks ahead"]
    print_lines(
        "Streams: years with an alarm; dates from the first changed label that is known to the alarm (median, 90 %)",
        [*design, "method", "no change", "market", "turned", "after", "gradual", "after", "located (10, 50, 90 %)"],
        lines,
    )
    print_lines(
        "Streams: what followed, in dates from the change on (median, most)",
        [*design, "change", "alarm", "trainings", "replaced within 60", "within a year", "after", "AUC old, new"],
        summary,
    )


def _design(one: StreamResult) -> list[str]:
    return [one.design.name, f"{one.roc_auc:.2f}", str(one.design.horizon_dates)]


def _delay(rate: Rates) -> str:
    return "-" if rate.delay is None else f"{rate.delay[0]:.0f}, {rate.delay[1]:.0f}"


def _error(rate: Rates) -> str:
    return "" if rate.error is None else ", ".join(f"{value:+.0f}" for value in rate.error)


def _replaced(found: Sequence[Replacement]) -> list[str]:
    import numpy as np

    def middle(values: Sequence[float | None]) -> str:
        there = [value for value in values if value is not None]
        return f"{np.median(there):.0f}, {max(there):.0f}" if there else "-"

    better = [one for one in found if one.replaced is not None and (one.new_auc or 0.0) > (one.old_auc or 0.0)]
    soon = sum(one.replaced is not None and one.replaced <= 60 for one in better)
    areas = [f"{np.mean([getattr(one, name) for one in better]):.2f}" for name in ("old_auc", "new_auc") if better]
    return [
        middle([one.alarm for one in found]),
        middle([one.n_trainings for one in found]),
        f"{soon} of {len(found)}",
        f"{len(better)} of {len(found)}",
        middle([one.replaced for one in better]),
        ", ".join(areas) or "-",
    ]


def _print_prices(results: Sequence[PriceResult]) -> None:
    from lab.label_evaluation import METHODS, WATCH

    lines = []
    for one in results:
        of = {rate.method: rate for rate in one.rates}
        watch = of[WATCH]
        lines.append(
            [one.strategy, one.label, str(one.horizon_dates), f"{one.first} to {one.last}", str(one.n_champions)]
            + ["-" if value is None else f"{value:.2f}" for value in (one.roc_auc, one.own_spread)]
            + [f"{of[method].false:.1%}" for method in METHODS]
            + [f"{watch.found:.0%}", _delay(watch), _error(watch)]
        )
    described = ["strategy", "label", "looks ahead", "dates", "years", "AUC of a date", "spread"]
    found = ["turned, found", "after", "located (10, 50, 90 %)"]
    print_lines("Prices: years with an alarm, and the same years turned around", [*described, *METHODS, *found], lines)
    n = sum(one.n_champions for one in results)
    false = {
        method: sum(one.n_champions * rate.false for one in results for rate in one.rates if rate.method == method) / n
        for method in METHODS
    }
    typer.echo(f"All {n} years: {', '.join(f'{method} {share:.1%}' for method, share in false.items())}\n")
    for one in results:
        if one.n_unwatched:
            typer.echo(
                f"{one.strategy}, {one.label} of {one.horizon_dates} dates: {one.n_unwatched} of {one.n_champions} "
                f"champions cannot be watched; fewer than half of their held-out dates have names of both labels"
            )
