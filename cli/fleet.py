"""`acis strategies`, and what is done to many at once: `acis pause`, `acis resume`, `acis run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops.domain.policies import ScheduledJob
from mlops.runs.command_line import AsJson, EveryStrategy, StrategyNames, Tags, chosen, command

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.bootstrap import Services
    from mlops.runs.bulk import Outcome

_JOBS: tuple[ScheduledJob, ...] = ("drift_check", "retrain")


@command
def strategies(
    names: StrategyNames = None,
    tag: Tags = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those whose last run failed or is dead.")] = False,
    json: AsJson = False,
) -> int:
    """List strategies with their tags, champion, last check and last run."""
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    lines = _lines(services, chosen(services.strategies, names, tag, everything=True), failed=failed)
    if json:
        print_json({"strategies": lines})
    else:
        out.print(_table(lines) if lines else "No strategy is like that.")
    return 0


def pausing(*, paused: bool) -> Callable[..., None]:
    """The command `acis pause` or `acis resume`."""

    @command
    def pause_or_resume(
        reason: Annotated[str, typer.Option(help="Why; kept with each strategy's policy and in the audit.")],
        names: StrategyNames = None,
        tag: Tags = None,
        everything: EveryStrategy = False,
        job: Annotated[ScheduledJob | None, typer.Option(help="Default: both.")] = None,
        json: AsJson = False,
    ) -> int:
        from mlops.runs.bulk import Asker, set_paused

        if not reason.strip():
            raise typer.BadParameter("an edit is kept with its reason; say why, in a few words", param_hint="--reason")

        def act(services: Services, found: Sequence[str], by: Asker) -> list[Outcome]:
            return set_paused(services, found, (job,) if job else _JOBS, paused=paused, by=by, reason=reason)

        return _done(names, tag, everything, act, "Paused" if paused else "Resumed", json=json)

    return pause_or_resume


@command
def run(
    names: StrategyNames = None,
    tag: Tags = None,
    everything: EveryStrategy = False,
    job: Annotated[ScheduledJob, typer.Option(help="What to open.")] = "drift_check",
    reason: Annotated[str, typer.Option(help="Why; kept with the runs.")] = "a scheduled job, run now",
    json: AsJson = False,
) -> int:
    """Open what a scheduled job opens, now, on the workers; `acis runs` follows them.

    Exit code 1 where any strategy failed.
    """
    from mlops.domain.records import Kind
    from mlops.runs.bulk import Asker, open_runs

    def act(services: Services, found: Sequence[str], by: Asker) -> list[Outcome]:
        kind = Kind.PIPELINE if job == "drift_check" else Kind.RETRAIN
        return open_runs(services, found, kind, by=by, reason=reason)

    return _done(names, tag, everything, act, "Runs opened", json=json)


def _done(
    names: list[str] | None,
    tag: list[str] | None,
    everything: bool,
    act: Callable[..., list[Outcome]],
    done: str,
    *,
    json: bool,
) -> int:
    from mlops.invocation import command_line_actor
    from mlops.reporting.terminal import FINDING, OK, out, print_json
    from mlops.runs.bulk import Asker, summed_up
    from tasks.services import connect

    services = connect()
    found = chosen(services.strategies, names, tag, everything=everything)
    outcomes = act(services, found, Asker(actor=command_line_actor()))
    if json:
        print_json({"strategies": outcomes})
    else:
        out.print("\n".join(summed_up(outcomes, done)), markup=False)
    return FINDING if any(one.error for one in outcomes) else OK


def _lines(services: Services, names: Sequence[str], *, failed: bool) -> list[dict[str, Any]]:
    from mlops.domain.run_states import FAILURES
    from mlops.strategies.book import Unfit

    standings = services.ledger.standings(names)
    policies = services.policies.all_settled()
    waiting = {one.strategy: one.version for one in services.ledger.awaiting()}
    lines = []
    for name in names:
        standing, settled = standings[name], policies[name]
        if failed and (standing.run is None or standing.run.state not in FAILURES):
            continue
        lines.append(
            {
                "strategy": name,
                "tags": services.strategies[name].tags,
                "champion": standing.champion.version if standing.champion else None,
                "verdict": standing.check.verdict if standing.check else None,
                "checked_as_of": standing.check.as_of if standing.check else None,
                "run": standing.run,
                "awaits_approval": waiting.get(name),
                "paused": [] if isinstance(settled, Unfit) else settled.strategy.schedule.paused,
                "policy_fault": str(settled.error) if isinstance(settled, Unfit) else None,
            }
        )
    return lines


def _table(lines: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table

    from mlops.reporting.terminal import short_run_id

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("strategy", "champion", "last check", "last run"):
        table.add_column(column, no_wrap=True)
    table.add_column("tags, and what to know", min_width=16)
    for line in lines:
        run = line["run"]
        notes = [
            *line["tags"],
            *([f"{' and '.join(line['paused'])} paused"] if line["paused"] else []),
            *([f"v{line['awaits_approval']} awaits approval"] if line["awaits_approval"] else []),
            *(["policy does not fit"] if line["policy_fault"] else []),
        ]
        table.add_row(
            line["strategy"],
            f"v{line['champion']}" if line["champion"] else "none",
            f"{line['verdict']} {line['checked_as_of']:%m-%d}" if line["checked_as_of"] else "never",
            f"{short_run_id(run.run_id)} {run.state}" if run else "never",
            ", ".join(notes),
        )
    return table
