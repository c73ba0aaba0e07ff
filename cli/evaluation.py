"""`acis leak-check`, `evaluate-training`, `evaluate-refit`, `evaluate-live`, `evaluate-labels`: what is said of a
model, and what later dates keep of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import AsJson, AsOf, DateFormat, Members, Prices, command, show_prices

if TYPE_CHECKING:
    from datetime import date

    import pandas as pd
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from config.settings import Settings
    from lab.label_evaluation import PriceResult, Rates, Replacement, StreamResult
    from lab.leak_check import LeakCheck
    from lab.live_evaluation import LiveEvaluation
    from lab.placebos import Rate
    from lab.refit_evaluation import Difference, NextDates
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, Progress
    from mlops.features.price_coverage import PriceCoverage

# ---- Progress of trainings that a command runs by itself, without a run in the ledger


class _ShownTraining:
    """The `TrainingControl` of one line of a progress display; Ctrl-C stops by itself, and nothing is kept."""

    def __init__(self, bars: Bars, line: TaskID) -> None:
        self._bars, self._line = bars, line

    def report(self, progress: Progress) -> None:
        """Show it."""
        self._bars.update(self._line, completed=progress.done, total=progress.total)

    def check(self) -> None:
        """There is no lease to lose."""

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Nothing is kept."""

    def load_checkpoint(self) -> None:
        """Nothing to resume from."""


ALL = "all"
_SKILL = 0.60
"""AUC from which on the tables count a model as having signal; the sample's gate."""


@command
def leak_check(
    strategies: Annotated[list[str], typer.Argument(help="Strategies, or all.")],
    as_of: AsOf = None,
    prices: Prices = None,
    members: Members = None,
    date_format: DateFormat = None,
    label: Annotated[str | None, typer.Option(help="In place of the policy's: 'target_return > 0'.")] = None,
    json: AsJson = False,
) -> int:
    """Train with the documented random split and with the honest one, and show both beside the majority class.

    Reads and trains, and registers nothing; `acis train --leak-check` keeps the same with a version. Exit code 1
    where a gap is called a leak.
    """
    from dataclasses import replace
    from datetime import UTC, datetime

    from config.settings import load_settings
    from lab.leak_check import summarise_checks
    from mlops.domain.policies import DataPolicy, Strategy
    from mlops.features.price_universes import price_source, require_prices
    from mlops.reporting.terminal import FINDING, OK, as_json, out, print_json
    from mlops.strategies.file import Strategies
    from tasks.services import connect

    @contextmanager
    def opened() -> Iterator[tuple[FeatureSource, Strategies, PriceCoverage | None]]:
        if prices is None:
            require_prices(prices, members)
            services = connect()
            yield services.source, services.strategies, None
            return
        with price_source(prices, members, date_format=date_format) as made:
            names = {name: Strategy(name=name, data=DataPolicy(as_of="latest")) for name in made.strategies}
            yield made.source, Strategies(names), made.coverage

    with opened() as (source, known, coverage), _bars() as bars:
        show_prices(coverage, json=json)
        chosen = [known[name] for name in (known if strategies == [ALL] else dict.fromkeys(strategies))]
        if label is not None:
            chosen = [replace(one, training=replace(one.training, label=label)) for one in chosen]
        settings, today = load_settings(), datetime.now(UTC).date()
        checks = [_checked(source, one, bars, settings, as_of=as_of, today=today) for one in chosen]
    if json:
        print_json([{**as_json(check), "prices": coverage} for check in checks])
    else:
        for check in checks:
            out.print(
                f"{check.strategy}: {check.label}; trained on {check.n_train:,} rows to {check.train_end}, "
                f"held out {check.n_holdout:,} rows from {check.holdout_start} to {check.holdout_end}",
                markup=False,
            )
        _print_table([summarise_checks([check]).row() for check in checks])
        for check in checks:
            out.print(f"{check.strategy}: {check.words}", markup=False)
            for found in check.findings:
                out.print(f"  Finding: {found.words} [{found.code}]", markup=False)
    return FINDING if any(check.is_leak for check in checks) else OK


@command
def evaluate_training(
    prices: Prices = None,
    members: Members = None,
    date_format: DateFormat = None,
    dates: Annotated[int, typer.Option(min=1, help="As-of dates, back from the newest.")] = 4,
    json: AsJson = False,
) -> int:
    """Replay trainings on a history of prices: how often the documented recipe promotes, and how often this system.

    Twice for each strategy: the direction of the return with the documented gate, and volatility with the sample's.
    Default prices: the sample.
    """
    from dataclasses import replace

    from config.settings import ROOT, load_settings
    from lab.leak_check import summarise_checks
    from mlops.features.price_universes import price_source
    from mlops.reporting.terminal import OK, out, print_json
    from mlops.strategies.file import load_strategies

    policies = load_strategies(ROOT / "config" / "strategies_sample.toml")
    titles = {"direction": "The direction of the return", "growth": "Volatility"}
    settings = load_settings()
    found: dict[str, list[list[LeakCheck]]] = {name: [] for name in titles}
    with price_source(prices, members, date_format=date_format) as made, _bars() as bars:
        show_prices(made.coverage, json=json)
        for name in made.strategies:
            if name == "direction":
                continue  # it holds all names of the sample: the panel of the others, not one more strategy
            for policy in titles:
                strategy = replace(policies[policy], name=name)
                days = _days(made.source, strategy, dates)
                found[policy].append(
                    [_checked(made.source, strategy, bars, settings, as_of=one, today=one) for one in days]
                )
    if json:
        print_json(
            {
                name: {
                    "summaries": [summarise_checks(each) for each in checks],
                    "checks": checks,
                    "prices": made.coverage,
                }
                for name, checks in found.items()
            }
        )
        return OK
    for name, title in titles.items():
        checks, training = found[name], policies[name].training
        out.print(f"{title}: {training.label}, judged on {training.holdout_dates} dates", markup=False)
        _print_table([summarise_checks(each).row() for each in checks])
        each = [one for of_strategy in checks for one in of_strategy]
        skilled = sum(one.metrics.get("roc_auc", 0.0) >= _SKILL for one in each)
        out.print(
            f"The random split promotes {sum(one.naive_promotes for one in each)} of {len(each)} (accuracy 0.70), "
            f"this system {sum(one.decision == 'promote' for one in each)}; "
            f"{skilled} of {len(each)} have an AUC of at least {_SKILL:.2f} on the held-out dates.\n"
        )
    return OK


@command
def evaluate_refit(
    prices: Prices = None,
    members: Members = None,
    date_format: DateFormat = None,
    dates: Annotated[int, typer.Option(min=3, help="As-of dates, back from the newest, 60 dates apart.")] = 24,
    holdout_dates: Annotated[int, typer.Option(min=1, help="Held out of the judged model.")] = 60,
    json: AsJson = False,
) -> int:
    """Replay trainings on a history of prices: what a refit gains on the next 60 dates, how far it is from its twin.

    Twice for each strategy: the direction of the return and volatility, with the sample's parameters. Default prices:
    the sample.
    """
    from dataclasses import replace
    from datetime import date
    from itertools import product

    from config.settings import ROOT, load_settings
    from lab.refit_evaluation import differences
    from lab.refit_evaluation import evaluate_refit as evaluated
    from mlops.domain.ports import Window
    from mlops.features.price_universes import price_source
    from mlops.reporting.terminal import OK, err, print_json
    from mlops.strategies.file import load_strategies

    policies = load_strategies(ROOT / "config" / "strategies_sample.toml")
    # The panels are small: more threads would only wait for each other.
    settings = load_settings().model_copy(update={"train_n_jobs": 1})
    found: dict[str, list[NextDates]] = {"direction": [], "growth": []}
    left_out: dict[str, list[str]] = {name: [] for name in found}
    with price_source(prices, members, date_format=date_format) as made, _bars() as bars:
        show_prices(made.coverage, json=json)
        # `direction` has all names of the sample: the panel of the others, not one more strategy.
        names = [name for name in made.strategies if name != "direction"]
        always = Window(start=date.min, end=date.max)
        calendar = sorted({day for name in names for day in made.source.dates(name, always)})
        for name, policy in product(names, found):
            training = replace(policies[policy].training, holdout_dates=holdout_dates)
            strategy = replace(policies[policy], name=name, training=training)
            line = bars.add_task(f"{name}: {training.label}", total=None)
            control = _ShownTraining(bars, line)
            each, without = evaluated(
                made.source, strategy, calendar=calendar, n=dates, settings=settings, control=control
            )
            found[policy] += each
            left_out[policy] += without
            bars.remove_task(line)
    for reason in (reason for of_policy in left_out.values() for reason in of_policy):
        err.print(f"Left out: {reason}", markup=False, soft_wrap=True)
    gains = {name: differences(each) for name, each in found.items()}
    if json:
        print_json(
            {
                name: {
                    "differences": gains[name],
                    "dates": each,
                    "left_out": left_out[name],
                    "prices": made.coverage,
                }
                for name, each in found.items()
            }
        )
        return OK
    _print_refit({policies[name].training.label: (gains[name], each) for name, each in found.items()})
    return OK


def _print_refit(found: dict[str, tuple[list[Difference], list[NextDates]]]) -> None:
    import numpy as np

    from lab.refit_evaluation import NEXT_DATES, PART, RANDOM, REFIT

    lines, distances = [], []
    for label, (gains, each) in found.items():
        ages = (np.median([one.age_single for one in each]), np.median([one.age_refit for one in each]))
        first, last = min(one.as_of for one in each), max(one.last for one in each)
        for one in gains:
            gained = f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
            dated = [label, f"{first} to {last}", f"{ages[0]:.0f}, {ages[1]:.0f}"]
            lines.append([*dated, one.metric, str(one.n_blocks), f"{one.single:.4f}", f"{one.refit:.4f}", gained])
        for name in (REFIT, PART, RANDOM):
            values = np.array([one.distances[name] for one in each])
            shown = (np.min(values), np.median(values), np.quantile(values, 0.99), np.max(values))
            distances.append([label, name, str(len(values)), *(f"{value:.2f}" for value in shown)])
    _print_lines(
        f"The next {NEXT_DATES} dates after a training, by the judged model and by its refit; differences with 90 %",
        ["label", "dates", "dates since the last learnt", "metric", "stretches", "judged", "refit", "difference"],
        lines,
    )
    _print_lines(
        "Distance from the judged model on its training rows, in its spread",
        ["label", "model", "trainings", "least", "median", "99 %", "most"],
        distances,
    )


@command
def evaluate_live(
    strategies: Annotated[list[str] | None, typer.Argument(help="Of the sample's; default: all five.")] = None,
    placebos: Annotated[int, typer.Option(min=1, help="Years without a change, drawn of each champion.")] = 4,
    placebo_dates: Annotated[
        int | None,
        typer.Option(min=40, help="Dates on which they are judged in those years; default: as many as it was."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Champions from 2010 on alone, and one placebo each.")] = False,
    refit: Annotated[bool, typer.Option(help="What predicts is the refit, as in use, or the judged model.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the placebos.")] = 1,
    json: AsJson = False,
) -> int:
    """Replay models in use on the sample: does the estimate cover what comes, and is decay found, falsely and rightly.

    A champion is trained at the end of each year since 1993 and predicts the next year day by day; with each strategy's
    own label, and with the other one. Chosen on 1995-2018, reported on 2019-2021.
    """
    from dataclasses import replace

    from config.settings import ROOT, load_settings
    from lab.live_evaluation import evaluate_live as evaluated
    from lab.live_evaluation import law_of_moves, replay, strategy_rows
    from mlops.features.price_universes import price_source
    from mlops.features.sample import compute_sample, read_prices
    from mlops.reporting.terminal import OK, out, print_json
    from mlops.strategies.file import load_strategies

    policies = load_strategies(ROOT / "config" / "strategies_sample.toml")
    close = read_prices()
    view = compute_sample(close)
    labels = sorted({policies[name].training.label for name in policies})
    # Seven names give few rows: more threads would only wait for each other.
    settings = load_settings().model_copy(update={"train_n_jobs": 1})
    years, results = range(2010 if quick else 1993, 2022), []
    with price_source(None, None) as made, _bars() as bars:
        for name in strategies or list(policies):
            rows = strategy_rows(view, name)
            own = policies[name].training.label
            for label in sorted(labels, key=lambda one: one != own):
                strategy = replace(policies[name], training=replace(policies[name].training, label=label, refit=refit))
                line = bars.add_task(f"{name}: {label}", total=None)
                champions = replay(
                    made.source,
                    strategy,
                    rows,
                    close,
                    years=years,
                    settings=settings,
                    control=_ShownTraining(bars, line),
                )
                results.append(
                    evaluated(
                        strategy, champions, placebos=1 if quick else placebos, placebo_dates=placebo_dates, seed=seed
                    )
                )
                bars.remove_task(line)
    if json:
        print_json({"results": results, "law_of_moves": law_of_moves(results)})
        return OK
    _print_live(results)
    mean, spread = law_of_moves(results)
    out.print(f"Log of the largest 10-day moves of 1995-2018: mean {mean:.3f}, standard deviation {spread:.3f}")
    return OK


def _print_live(results: Sequence[LiveEvaluation]) -> None:
    from lab.live_evaluation import METRICS

    def share(rate: Rate, n: int) -> str:
        return f"{rate.share:.1%} of {n}" if n else "-"

    _print_lines(
        "Months in which what came lay within the estimate's 90 % interval: 1995-2018, then 2019-2021",
        ["strategy", "label", *(f"{metric} {when}" for metric in METRICS for when in ("1995-", "2019-"))],
        [
            [_of(one)[0], _of(one)[1]]
            + [
                text
                for found in one.coverage
                for text in (share(found.chosen, found.n_chosen), share(found.reported, found.n_reported))
            ]
            for one in results
        ],
    )
    _print_lines(
        "Errors of those estimates: standard deviation in 1995-2018, and width of the interval in 2019-2021",
        ["strategy", "label", *(f"{metric} {what}" for metric in METRICS for what in ("sd", "width"))],
        [
            [
                *_of(one),
                *(text for found in one.coverage for text in (f"{found.error_spread:.3f}", f"{found.width:.2f}")),
            ]
            for one in results
        ],
    )
    _print_lines(
        "Years in which a champion is said to decay",
        ["strategy", "label", "calm (2012-2019)", "1995-2018", "placebo", "log_loss, mark, moves", "turned around"],
        [
            [
                *_of(one),
                *(share(found.rate, found.n_years) for found in (one.calm, one.all_years, one.placebo)),
                ", ".join(str(one.placebo.signals.get(name, 0)) for name in ("log_loss", "mark", "moves")),
                share(one.turned.rate, one.turned.n_years),
            ]
            for one in results
        ],
    )
    _print_lines(
        "March 2020",
        ["strategy", "label", "champion of", "decay", "by", "log_loss alone", "accuracy at promotion", "of those days"],
        [
            [
                *_of(one),
                str(found.champion),
                str(found.fired_on or "not seen"),
                found.signal,
                str(found.log_loss_fired_on or "not in 2020"),
                f"{found.accuracy_at_promotion:.2f}",
                "" if found.accuracy_after is None else f"{found.accuracy_after:.2f}",
            ]
            for one in results
            for found in one.breaks
        ],
    )
    _print_lines(
        "Alarms in first years up to 2018",
        ["strategy", "label", "fired"],
        [[*_of(one), ", ".join(one.all_years.fired) or "none"] for one in results],
    )


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
    with _bars() as bars:
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

    from lab.label_evaluation import StreamDesign, evaluate_stream
    from lab.label_streams import STREAMS

    found = []
    for stream, coin, strategy in product(STREAMS, _COINS, strategies):
        horizon = strategy.training.horizon_dates
        line = bars.add_task(f"{stream}, {coin:.0%} by a coin, {horizon} dates", total=None)
        design = StreamDesign(name=stream, coin=coin, horizon_dates=horizon, n_rows=names)
        control = _ShownTraining(bars, line)
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
            control = _ShownTraining(bars, line)
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
    _print_lines(
        "Streams: years with an alarm; dates from the first changed label that is known to the alarm (median, 90 %)",
        [*design, "method", "no change", "market", "turned", "after", "gradual", "after", "located (10, 50, 90 %)"],
        lines,
    )
    _print_lines(
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
    _print_lines("Prices: years with an alarm, and the same years turned around", [*described, *METHODS, *found], lines)
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


def _of(one: LiveEvaluation) -> tuple[str, str]:
    return one.strategy, "volatility" if "volatility" in one.label else "return"


def _print_lines(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown, as the documentation holds it; whole, however wide."""
    lines = [title, "", f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    typer.echo("\n".join([*lines, ""]))


def _days(source: FeatureSource, strategy: Strategy, n: int) -> list[date]:
    """As-of dates, the newest first, so far apart that no date is held out twice."""
    from datetime import date

    from mlops.domain.ports import Window

    policy = strategy.training
    panel = source.dates(strategy.name, Window(start=date.min, end=date.max))
    return panel[:: -(policy.holdout_dates + policy.horizon_dates)][:n]


def _checked(
    source: FeatureSource, strategy: Strategy, bars: Bars, settings: Settings, *, as_of: date | None, today: date
) -> LeakCheck:
    from lab.leak_check import check_leak

    line = bars.add_task(f"{strategy.name} {as_of or ''}", total=None)
    try:
        return check_leak(
            source, strategy, as_of=as_of, today=today, settings=settings, control=_ShownTraining(bars, line)
        )
    finally:
        bars.remove_task(line)


@contextmanager
def _bars() -> Iterator[Bars]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from mlops.reporting.terminal import err

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        yield bars


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from lab.leak_check import HEADINGS
    from mlops.reporting.terminal import out

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "strategy" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # Whole, also where the terminal is narrower: a cut figure is no figure.
    Console(width=max(out.width, 140), highlight=False).print(table)
