"""`acis selftest`: false alarms and power of a strategy's drift policy on its own history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import AsJson, DateFormat, Members, Prices, StrategyName, command, show_prices

if TYPE_CHECKING:
    from rich.table import Table

    from lab.placebos import Period, Rate
    from lab.selftest import Selftest
    from mlops.bootstrap import Services
    from mlops.domain.policies import Strategy


@command
def selftest(
    strategy: StrategyName,
    placebos: Annotated[int, typer.Option(min=1, max=100_000, help="Past dates to check, chosen by the seed.")] = 200,
    shifts: Annotated[str, typer.Option(help="Sizes to plant, in reference standard deviations.")] = "0.25,0.5,1,2",
    seed: Annotated[int, typer.Option(min=0, help="Of the dates, and of the features that half and one are.")] = 1,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Rows from this day on.")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM:TO", help="No placebo whose windows touch these dates; repeatable."),
    ] = None,
    prices: Prices = None,
    members: Members = None,
    date_format: DateFormat = None,
    plot: Annotated[Path | None, typer.Option(help="Power over size as a .png, .svg or .html file.")] = None,
    json: AsJson = False,
) -> int:
    """Measure how often the strategy's drift policy fires on its own past, and which shifts it sees.

    Checks past dates as if they were today, as they were and with shifts of known size planted. Writes nothing.
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from lab.placebos import chosen_placebos, eligible_dates
    from lab.selftest import price_history, source_history
    from lab.selftest import selftest as selftest_of
    from mlops.features.price_universes import read_given, require_prices
    from mlops.reporting.terminal import err, out, print_json
    from tasks.services import connect

    def shown_progress(days: Iterable[date]) -> Iterable[date]:
        return track(list(days), description=strategy, transient=True, disable=not err.is_terminal, console=err)

    from lab.power_plot import checked_plot_path, draw_power

    services = connect()
    policy = _measurable(services.strategies[strategy])
    sizes, periods = _sizes(shifts), [_period(text) for text in without or ()]
    picture = checked_plot_path(plot) if plot else None
    begin = since.date() if since else None
    require_prices(prices, members)
    given = read_given(prices, members, date_format=date_format) if prices else None
    coverage = given.coverage if given else None
    show_prices(coverage, json=json)
    past = price_history(policy, given, since=begin) if given else source_history(services.source, policy, since=begin)
    if past.dates is None:
        raise AssertionError("rows are read with their dates")
    eligible = eligible_dates(past.dates, data=policy.data, drift=policy.drift, without=periods)
    rng = np.random.default_rng(seed)
    result = selftest_of(
        policy,
        past,
        chosen_placebos(eligible, placebos, rng),
        sizes=sizes,
        rng=rng,
        weights=_weights(services, policy, [*past.numbers, *past.categories]),
        track=shown_progress,
    )
    if picture is not None:
        draw_power(result, picture)
    if json:
        print_json({"seed": seed, "n_eligible": len(eligible), "selftest": result, "prices": coverage})
        return 0
    # Whole, also where the terminal is narrower: a cut figure is no figure.
    wide = Console(width=max(out.width, 120), highlight=False)
    for line in _words(result, n_eligible=len(eligible), periods=periods):
        wide.print(line, markup=False)
    wide.print(_rates(result))
    wide.print(_smallest(result))
    return 0


def _measurable(strategy: Strategy) -> Strategy:
    from mlops.domain.errors import ConfigurationError

    if strategy.data.reference != "trailing":
        raise ConfigurationError(
            f"strategy {strategy.name!r} compares with its {strategy.data.reference!r} reference; the self-test knows "
            f'the trailing one alone: measure an entry of the strategies file with reference = "trailing"'
        )
    return strategy


def _weights(services: Services, strategy: Strategy, features: Sequence[str]) -> dict[str, float] | None:
    """By the champion's importance where the policy says so; only then are ledger and registry asked."""
    from mlops.stages.champion import ask_champion
    from mlops.stages.drift import settled_weights

    if strategy.drift.weights == "equal":
        return None
    champion = services.ledger.champion(strategy.name)
    weights, _ = settled_weights(ask_champion(services, strategy, champion), strategy, features)
    return weights


def _sizes(text: str) -> list[float]:
    import math

    from mlops.domain.errors import ConfigurationError

    try:
        sizes = sorted({float(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ConfigurationError(f"--shifts {text!r} are no sizes; give numbers above 0, as in 0.25,0.5,1")
    return sizes


def _period(text: str) -> Period:
    from lab.placebos import Period
    from mlops.domain.errors import ConfigurationError

    start, _, end = text.partition(":")
    try:
        period = Period(start=date.fromisoformat(start), end=date.fromisoformat(end))
    except ValueError:
        message = f"--without {text!r} is no period; give two dates, as in 2020-02-20:2020-06-30"
        raise ConfigurationError(message) from None
    if period.start > period.end:
        raise ConfigurationError(f"--without {text!r} runs backwards; give the earlier date first")
    return period


def _words(result: Selftest, *, n_eligible: int, periods: Sequence[Period]) -> list[str]:
    from lab.placebos import CONFIDENCE

    left_out = (
        f", none whose windows touch {', '.join(f'{one.start} to {one.end}' for one in periods)}" if periods else ""
    )
    lines = [
        f"{result.strategy}, rule {result.rule}: {result.n_placebos} of {n_eligible} dates",
        f"from {result.first} to {result.last}{left_out}",
        (
            f"{CONFIDENCE * 100:g} % intervals of {result.n_disjoint} independent looks: "
            "so many of these checks share no date"
        ),
        "the past is taken as it was: its real breaks are alarms too, so the false ones are no more than these",
        "each check alone: persistence and cooldown play no part",
    ]
    if result.n_insufficient:
        lines.append(
            f"{result.n_insufficient} checks were insufficient, the first one since {result.insufficient_reason}"
        )
    return [*lines, ""]


def _rates(result: Selftest) -> Table:
    from lab.power_plot import LABELS

    table = _table(result, "planted", "size")
    table.add_row("nothing", "", _rate(result.calibrated), _rate(result.raw))
    for point in result.points:
        label = LABELS[point.change, point.where]
        table.add_row(label, f"{point.size:g}", _rate(point.calibrated), _rate(point.raw))
    return table


def _smallest(result: Selftest) -> Table:
    from lab.power_plot import LABELS
    from lab.selftest import POWER

    largest = max(point.size for point in result.points)

    def shown(size: float | None) -> str:
        return f"above {largest:g}" if size is None else "fires without" if size == 0 else f"{size:.2f}"

    table = _table(result, f"seen in {POWER:.0%} of the checks", "")
    for one in result.smallest:
        table.add_row(LABELS[one.change, one.where], "", shown(one.calibrated), shown(one.raw))
    return table


def _table(result: Selftest, *headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    rules = [f"{rule} (in force)" if rule == result.rule else rule for rule in ("calibrated", "raw")]
    for place, heading in enumerate((*headings, *rules)):
        table.add_column(heading, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def _rate(rate: Rate) -> str:
    return f"{rate.share:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
