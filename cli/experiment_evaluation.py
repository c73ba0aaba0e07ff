"""`acis evaluate-experiments`: how often experiments err and how long they take, drawn and on a history of prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.training_display import ShownTraining, print_lines, training_bars
from mlops.runs.command_line import AsJson, command

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from lab.experiment_replay import Ended, Summary
    from lab.experiment_simulation import Simulation


class Part(StrEnum):
    """A part of an evaluation of experiments."""

    SIMULATION = "simulation"
    REPLAY = "replay"


_QUICK, _MANY_YEARS = 100, 100
_BESIDE = 100
"""Names of the panels on which the other tests are shown"""


@command
def evaluate_experiments(
    strategies: Annotated[
        list[str] | None, typer.Argument(help="Of the sample's, to replay; default: all five.")
    ] = None,
    experiments: Annotated[int, typer.Option(min=20, help="Drawn of each kind.")] = 1_000,
    only: Annotated[Part | None, typer.Option(help="One of the parts.")] = None,
    quick: Annotated[bool, typer.Option(help="100 drawn of each kind; one start a year of the replay.")] = False,
    json: AsJson = False,
) -> int:
    """Look daily at two versions side by side: wrong decisions, days to a decision, and rollbacks.

    Simulation: panels whose truth is known. Replay: experiments and rollbacks on the sample from 2007 to 2009 and from
    2019 to 2021, by models that were trained on what was known then, with each strategy's own label and the return's.
    """
    from mlops.reporting.terminal import OK, print_json

    simulated: Simulation | None = None
    replayed: list[tuple[Summary, list[Ended]]] = []
    with training_bars() as bars:
        if only != Part.REPLAY:
            simulated = _simulated(bars, _QUICK if quick else experiments)
        if only != Part.SIMULATION:
            replayed = _replayed(bars, strategies, every=4 if quick else 2)
    if json:
        print_json({
            "simulation": simulated,
            "replay": [{"summary": summary, "experiments": each} for summary, each in replayed],
        })  # fmt: skip
        return OK
    if simulated is not None:
        print_simulation(simulated)
    if replayed:
        _print_replay([summary for summary, _ in replayed])
    return OK


def _simulated(bars: Bars, experiments: int) -> Simulation:
    from lab.experiment_simulation import simulate

    line = bars.add_task(f"{experiments} experiments of each kind", total=None)
    found = simulate(experiments, report=lambda done, total: bars.update(line, completed=done, total=total))
    bars.remove_task(line)
    return found


def _replayed(bars: Bars, strategies: list[str] | None, *, every: int) -> list[tuple[Summary, list[Ended]]]:
    from config.settings import ROOT, load_settings
    from lab.experiment_history import History
    from lab.experiment_replay import CASES, PERIODS, replay, starts_of, summarise, with_label
    from lab.live_evaluation import strategy_rows
    from mlops.features.price_universes import price_source
    from mlops.features.sample import compute_sample, read_prices
    from mlops.strategies.file import load_strategies

    policies = load_strategies(ROOT / "config" / "strategies_sample.toml")
    names = strategies or list(policies)
    close = read_prices()
    view = compute_sample(close)
    labels = sorted({one.training.label for one in policies.values()}, reverse=True)
    # Seven names give few rows: more threads would only wait for each other.
    settings = load_settings().model_copy(update={"train_n_jobs": 1})
    ends: dict[tuple[str, str, tuple[int, int]], list[Ended]] = {}
    n_starts = sum(len(starts_of(period, every=every)) for period in PERIODS)
    line = bars.add_task("", total=len(labels) * len(names) * len(CASES) * n_starts)
    with price_source(None, None) as made:
        for label in labels:
            for name in names:
                bars.update(line, description=f"{name}: {label}")
                trained = bars.add_task("training", total=None)
                history = History(
                    made.source,
                    with_label(policies[name], label),
                    strategy_rows(view, name),
                    close,
                    settings=settings,
                    control=ShownTraining(bars, trained),
                )
                for period in PERIODS:
                    for case in CASES:
                        found = replay(
                            history,
                            case,
                            starts_of(period, every=every),
                            policy=history.strategy.experiments,
                            advance=lambda: bars.advance(line),
                        )
                        ends.setdefault((label, case.name, period), []).extend(found)
                bars.remove_task(trained)
    bars.remove_task(line)
    alpha = policies[names[0]].experiments.alpha
    return [
        (summarise(case, label, period, each, alpha=alpha), each)
        for label in labels
        for case in CASES
        for period in PERIODS
        if (each := ends[label, case.name, period])
    ]


def print_simulation(found: Simulation) -> None:
    """Print its tables."""
    from lab.experiment_simulation import BETTER, HORIZON, NAMES, RATIOS, SKILL

    print_lines(
        "No difference, 2 years of daily looks: share of the experiments that were decided",
        ["test", "daily numbers", "experiments", "promoted or rolled back", "decided for either"],
        [
            [
                one.test,
                one.series,
                str(one.n),
                "" if one.promoted is None else f"{one.promoted:.1%}",
                f"{one.decided:.1%}",
            ]
            for one in found.wrong
        ],
    )
    by = {(one.sharpe, one.n_names): one for one in found.waits}
    wrong = {(one.test, one.series): f"{one.decided:.1%} wrong" for one in found.wrong}
    marks, losses = "marks", "losses of overlapping labels"
    beside = ["t-test peeked at, marks", "asymptotic sequence, overlapping losses", f"sequence, each {HORIZON}th loss"]
    of_equals = [text for n in NAMES for text in (wrong["sequence", marks] if n == _BESIDE else "", "")]
    lines = [
        [
            *("none, in 2 years", *of_equals),
            *(wrong["t-test for a fixed end", marks], wrong["asymptotic sequence", losses]),
            wrong["sequence", f"losses of each {HORIZON}th day"],
        ]
    ]
    for ratio in RATIOS:
        cells = []
        for n_names in NAMES:
            one = by[ratio, n_names]
            cells += [f"{_days(one.median)} ({one.within_year:.0%})", _days(one.said)]
        at = by[ratio, _BESIDE]
        lines.append([f"{ratio:g}", *cells, _days(at.peeked), _days(at.asymptotic), _days(at.apart)])
    headings = [text for n in NAMES for text in (f"{n} names: days (in a year)", "said beforehand")]
    print_lines(
        "Trading days to a decision, the median, by the annual Sharpe ratio of the difference of the daily numbers",
        ["Sharpe ratio", *headings, *beside],
        lines,
    )
    low, high = found.said_over_median
    typer.echo(f"Said beforehand over what came: {low:.2f} to {high:.2f}\n")
    print_lines(
        f"The same two versions on more names; they see the return with a correlation of {BETTER} and {SKILL}",
        ["names", "Sharpe ratio of marks", "of increments", "days by marks", "by increments"],
        [
            [
                str(one.n_names),
                f"{one.mark_sharpe:.2f}",
                f"{one.increment_sharpe:.2f}",
                _days(one.mark_days),
                _days(one.increment_days),
            ]
            for one in found.pairs
        ],
    )


def _days(days: float) -> str:
    return f"{days:.0f}" if math.isfinite(days) else "> 2 years"


def _print_replay(found: Sequence[Summary]) -> None:
    lines = []
    for one in found:
        ends = ", ".join(f"{n} {end}" for end, n in sorted(one.ends.items(), key=lambda each: -each[1]))
        days = "" if one.days is None else f"{one.days[1]:.0f} ({one.days[0]:.0f} to {one.days[2]:.0f})"
        years = f"{one.years:.1f}" if one.years < _MANY_YEARS else f"> {_MANY_YEARS}"
        label = "volatility" if "volatility" in one.label else "return"
        lines.append(
            [
                *(one.case, label, one.period, str(one.n), ends, days, str(one.in_first_step), str(one.by_guardrail)),
                *(f"{one.sharpe:+.1f}", years, *(", ".join(f"{value:.2f}" for value in of) for of in one.apart)),
            ]
        )
    print_lines(
        "Experiments and rollbacks on the sample; days: median (least to most) of those that were decided",
        [
            *("case", "label", "starts", "n", "ended", "days", "on the first step", "by a guardrail", "Sharpe ratio"),
            *("years that such a difference takes", "largest positive share (5, 50, 95 %)", "largest calibration"),
        ],
        lines,
    )
