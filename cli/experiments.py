"""`acis experiment`: start a challenger beside the champion, see what has been shown, and steer it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlops.invocation import command_line_actor
from mlops.runs.command_line import AsJson, StrategyName, command

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.bootstrap import Services
    from mlops.domain.experiments.records import Experiment, Look
    from mlops.runs.experiments import Preview

app = typer.Typer(no_args_is_help=True, help="Two versions that answer side by side, compared day by day.")

_LOOKS = 10
"""Newest looks that `show` prints."""
_Why = Annotated[str, typer.Option("--reason", help="Why; kept with the experiment.")]
_Which = Annotated[str, typer.Argument(metavar="ID|STRATEGY", help="An experiment's id, or a strategy's running one.")]


@app.command("start")
@command
def start(
    strategy: StrategyName,
    version: Annotated[str, typer.Argument(help="The version that is tried beside the champion.")],
    reason: _Why,
    mode: Annotated[
        str, typer.Option(help="shadow: nobody is answered by it; ab: a fixed share; canary: a share that grows.")
    ] = "shadow",
    share: Annotated[str | None, typer.Option(help="Of A/B, e.g. 0.5 or 50%.")] = None,
    steps: Annotated[str | None, typer.Option(metavar="SHARES", help="Of a canary, e.g. 1%,5%,25%,100%.")] = None,
    keys: Annotated[str | None, typer.Option(metavar="KEYS", help="That it answers always, e.g. AAPL,MSFT.")] = None,
    alpha: Annotated[str | None, typer.Option(help="Probability of ever deciding between equals.")] = None,
    sharpe: Annotated[str | None, typer.Option(help="Annual Sharpe ratio of the difference to find.")] = None,
    deadline_days: Annotated[str | None, typer.Option(help="Trading days after which it ends undecided.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start without asking.")] = False,
    json: AsJson = False,
) -> int:
    """Say how long an experiment will take, then start it. Exit code 1 where the answer is no."""
    from mlops.reporting.terminal import FINDING, OK, err, out, print_json
    from mlops.runs import experiments
    from mlops.runs.experiment_options import options_of
    from tasks.services import connect

    services = connect()
    options = options_of(
        {
            "mode": mode,
            "share": share,
            "steps": steps,
            "keys": keys,
            "alpha": alpha,
            "sharpe": sharpe,
            "deadline_days": deadline_days,
        }
    )
    said = experiments.preview(services, strategy, version, options)
    for line in _preview_lines(said):
        (err if json else out).print(line, markup=False)
    if not yes and not _is_confirmed():
        return FINDING
    begun = experiments.start(services, strategy, version, options, by=command_line_actor(), reason=reason)
    if json:
        print_json({"experiment": begun, "preview": said})
    else:
        out.print(f"Experiment {begun.id} has begun. `acis experiment show {strategy}` says how it goes.")
    return OK


def _preview_lines(said: Preview) -> list[str]:
    head = f"v{said.challenger_version} beside v{said.champion_version} of {said.strategy}, {said.plan.mode}:"
    return [head, *(f"  {one}" for one in said.words)]


def _is_confirmed() -> bool:
    """A person at a terminal is asked. Raises ConfigurationError where there is none."""
    from mlops.domain.errors import ConfigurationError

    if not _is_terminal():
        raise ConfigurationError("nothing was started: nobody can be asked here; give --yes to start it")
    return typer.confirm("Start it?", default=False, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


@app.command("list")
@command
def list_(
    strategy: Annotated[str | None, typer.Argument(help="Default: all strategies.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    json: AsJson = False,
) -> int:
    """List experiments, newest first."""
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    found = services.ledger.experiments(services.strategies[strategy].name if strategy else None, limit=limit)
    if json:
        print_json({"experiments": found})
    else:
        out.print(_table_of(services, found) if found else "No experiments.")
    return 0


def _table_of(services: Services, found: Sequence[Experiment]) -> Table:
    from mlops.reporting import experiments as wording

    table = _table("id", "strategy", "versions", "state", "gain a day", "days", "started (UTC)")
    newest = services.ledger.newest_looks([one.id for one in found])
    for one in found:
        look = newest.get(one.id)
        table.add_row(
            f"{one.id}",
            one.strategy,
            f"v{one.challenger_version} beside v{one.champion_version}",
            wording.standing(one),
            wording.in_unit(look.mean, one.plan.measure) if look else "",
            f"{look.n_days if look else 0}",
            f"{one.started_at:%Y-%m-%d %H:%M}",
        )
    return table


@app.command("show")
@command
def show(which: _Which, json: AsJson = False) -> int:
    """Show an experiment: its interval look by look, its guardrails, when it will end, and what happens next."""
    from mlops.reporting import experiments as wording
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    found = _found(services, which)
    looks = services.ledger.looks(found.id)
    if json:
        end = wording.expected_end(found)
        print_json({"experiment": found, "looks": looks, "expected_end": end, "next": wording.next_words(found, looks)})
        return 0
    for part in _shown(found, looks):
        out.print(part, markup=False)
    return 0


def _found(services: Services, which: str) -> Experiment:
    """The experiment of an id, or a strategy's running or newest one. Raises UnknownStrategy, ExperimentNotFound."""
    from mlops.domain.errors import ExperimentNotFound

    if which.isdecimal():
        return services.ledger.experiment(int(which))
    strategy = services.strategies[which].name
    newest = services.ledger.experiments(strategy, limit=1)
    found = services.ledger.running_experiment(strategy) or (newest[0] if newest else None)
    if found is None:
        raise ExperimentNotFound(f"{strategy} has had no experiment; `acis experiment start {strategy} VERSION`")
    return found


def _shown(one: Experiment, looks: Sequence[Look]) -> list[str | Table]:
    from mlops.reporting import experiments as wording

    plan = one.plan
    parts: list[str | Table] = [
        f"Experiment {one.id} of {one.strategy}: v{one.challenger_version} beside v{one.champion_version}",
        f"  {wording.standing(one)}",
        f"  started {one.started_at:%Y-%m-%d %H:%M} UTC by {one.started_by}: {one.reason}",
        f"  said before: {(plan.expected or {}).get('words') or 'nothing'}",
    ]
    if one.is_running:
        parts.append(f"  expected end: {wording.expected_end(one).words}")
    parts.append(f"  {wording.next_words(one, looks)}")
    if looks:
        parts += ["", _looks(one, looks)]
        if looks[-1].guardrails:
            parts += ["", _guardrails(looks[-1])]
    return parts


def _looks(one: Experiment, looks: Sequence[Look]) -> Table:
    from mlops.reporting import experiments as wording

    shown = looks[-_LOOKS:]
    reach = wording.reach_of(shown)
    table = _table("as of", "days", "gain a day", "interval", f"to ±{wording.in_unit(reach, one.plan.measure)[1:]}",
                   "share", "what followed")  # fmt: skip
    for look in shown:
        table.add_row(
            f"{look.as_of}",
            f"{look.n_days}",
            wording.in_unit(look.mean, one.plan.measure),
            wording.interval(look, one.plan.measure),
            wording.bar(look, reach=reach),
            wording.percent(look.share),
            look.action,
        )
    return table


def _guardrails(look: Look) -> Table:
    from mlops.reporting import experiments as wording

    table = _table("guardrail", "value", "may be", "answers", "state")
    for one in look.guardrails:
        answers = f"{one.n:,}" if one.is_known else f"{one.n:,} of {one.min_n:,}"
        value = f"{one.value:.3g}" if one.is_known else ""
        table.add_row(one.name.replace("_", " "), value, f"{one.bound:.3g}", answers, wording.guardrail_state(one))
    return table


def _steering(act: Literal["advance", "hold", "release", "abort"], help_: str) -> Callable[..., None]:
    """The command that does this with a running experiment."""

    @app.command(act, help=help_)
    @command
    def steer(which: _Which, reason: _Why, json: AsJson = False) -> int:
        from mlops.reporting import experiments as wording
        from mlops.reporting.terminal import out, print_json
        from tasks.services import connect

        services = connect()
        found = _found(services, which)
        changed = services.ledger.steer_experiment(
            found.id, act, by=command_line_actor(), reason=reason, from_step=found.step
        )
        if json:
            print_json({"experiment": changed})
        else:
            out.print(f"Experiment {changed.id} of {changed.strategy}: {wording.standing(changed)}", markup=False)
        return 0

    return steer


advance = _steering("advance", "Let a canary's challenger answer the next step's share of the keys now.")
hold = _steering("hold", "Keep an experiment where it is and promote nothing until it is released; looks go on.")
release = _steering("release", "Let an experiment that is held go on by its rules.")
abort = _steering("abort", "End an experiment; the champion answers every key.")


@app.command("route")
@command
def route(
    strategy: StrategyName,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="For example tickers.")],
    json: AsJson = False,
) -> int:
    """Say which version answers each key now, and why."""
    from mlops.reporting import experiments as wording
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    state = services.ledger.serving_state(services.strategies[strategy].name)
    found = [wording.routed(state, key) for key in keys]
    if json:
        print_json({"strategy": strategy, "keys": found})
        return 0
    for one in found:
        out.print(f"{one.key}: v{one.version} ({one.variant}): {one.reason}", markup=False)
    return 0


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    numbers = {"days", "gain a day", "value", "may be", "answers", "share"}
    folded = {"versions", "state", "what followed"}
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=name not in folded)
    return table
