"""`acis leak-check`, `evaluate-training`, `evaluate-refit`, `evaluate-live`: what is said of a model, and what later
dates keep of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.training_display import ShownTraining, print_lines, training_bars
from mlops.runs.command_line import AsJson, AsOf, DateFormat, Members, Prices, command, show_prices

if TYPE_CHECKING:
    from datetime import date

    from rich.progress import Progress as Bars

    from config.settings import Settings
    from lab.leak_check import LeakCheck
    from lab.live_evaluation import LiveEvaluation
    from lab.placebos import Rate
    from lab.refit_evaluation import Difference, NextDates
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.features.price_coverage import PriceCoverage

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

    with opened() as (source, known, coverage), training_bars() as bars:
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
    with price_source(prices, members, date_format=date_format) as made, training_bars() as bars:
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
    with price_source(prices, members, date_format=date_format) as made, training_bars() as bars:
        show_prices(made.coverage, json=json)
        # `direction` has all names of the sample: the panel of the others, not one more strategy.
        names = [name for name in made.strategies if name != "direction"]
        always = Window(start=date.min, end=date.max)
        calendar = sorted({day for name in names for day in made.source.dates(name, always)})
        for name, policy in product(names, found):
            training = replace(policies[policy].training, holdout_dates=holdout_dates)
            strategy = replace(policies[policy], name=name, training=training)
            line = bars.add_task(f"{name}: {training.label}", total=None)
            control = ShownTraining(bars, line)
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
    print_lines(
        f"The next {NEXT_DATES} dates after a training, by the judged model and by its refit; differences with 90 %",
        ["label", "dates", "dates since the last learnt", "metric", "stretches", "judged", "refit", "difference"],
        lines,
    )
    print_lines(
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
    with price_source(None, None) as made, training_bars() as bars:
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
                    control=ShownTraining(bars, line),
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

    print_lines(
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
    print_lines(
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
    print_lines(
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
    print_lines(
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
    print_lines(
        "Alarms in first years up to 2018",
        ["strategy", "label", "fired"],
        [[*_of(one), ", ".join(one.all_years.fired) or "none"] for one in results],
    )


def _of(one: LiveEvaluation) -> tuple[str, str]:
    return one.strategy, "volatility" if "volatility" in one.label else "return"


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
            source, strategy, as_of=as_of, today=today, settings=settings, control=ShownTraining(bars, line)
        )
    finally:
        bars.remove_task(line)


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
