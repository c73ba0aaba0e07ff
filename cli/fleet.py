"""`acis strategies`, `pause`, `resume`, `run`, `policy` and `users`: who and what the system works for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops.domain.policies import ScheduledJob
from mlops.invocation import command_line_actor
from mlops.runs.command_line import AsJson, EveryStrategy, StrategyName, StrategyNames, Tags, chosen, command

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.bootstrap import Services
    from mlops.runs.bulk import Outcome
    from mlops.strategies.file import Settled

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


# ---- `acis policy`: a strategy's policy with each value's origin, and edits of it

_DEFAULT = "default"


@command
def policy(
    strategy: StrategyName,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="drift.alert_share=0.4; VALUE is JSON.")
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(metavar="PATH", help="The file's value holds again.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the edit.")] = "",
    json: AsJson = False,
) -> int:
    """Show what a strategy's next run will be judged by, and where each value is from; or edit it."""
    from mlops.domain.errors import ConfigurationError
    from mlops.invocation import command_line_actor
    from mlops.reporting.terminal import out, print_json
    from mlops.strategies.overlay import was_and_is
    from tasks.services import connect

    services = connect()
    book = services.policies
    if set_ or unset:
        if not reason.strip():
            raise ConfigurationError("an edit is kept with its reason; give --reason")
        values = {**_values(set_ or ()), **dict.fromkeys(unset or ())}
        before = book.settled(strategy).strategy
        settled = book.edit(strategy, values, actor=command_line_actor(), reason=reason)
        told = was_and_is(before, settled.strategy, values)
        services.ledger.audit(command_line_actor(), "policy.edit", strategy, reason=reason, **told)
    else:
        settled = book.settled(strategy)
    if json:
        print_json({"strategy": strategy, "values": dict(_policy_lines(settled))})
        return 0
    for path, line in _policy_lines(settled):
        out.print(f"{path} = {line['value']}   ({line['origin']})", markup=False)
    return 0


def _values(pairs: Sequence[str]) -> Mapping[str, Any]:
    import json

    from mlops.domain.errors import ConfigurationError

    found = {}
    for pair in pairs:
        path, sign, text = pair.partition("=")
        if not sign:
            raise ConfigurationError(f"{pair!r} sets nothing; write PATH=VALUE, as drift.alert_share=0.4")
        try:
            found[path] = json.loads(text)
        except ValueError:
            # A bare word, as `raw`; or a number of thousands of digits.
            found[path] = text
    return found


def _policy_lines(settled: Settled) -> list[tuple[str, dict[str, Any]]]:
    from mlops.strategies.file import POLICIES, snapshot

    values = snapshot(settled.strategy)
    return [
        (f"{name}.{key}", {"value": value, "origin": settled.origins.get(f"{name}.{key}", _DEFAULT)})
        for name in POLICIES
        for key, value in values[name].items()
    ]


# ---- `acis users`: who may use the admin page, for whoever has the database and cannot, or may not yet, sign in


@command
def users(
    add: Annotated[str, typer.Option(metavar="NAME", help="Make a user; the password is printed once.")] = "",
    role: Annotated[str, typer.Option(help="Of the new user: viewer or operator.")] = "viewer",
    new_password: Annotated[
        str, typer.Option("--new-password", metavar="NAME", help="Make another password; open sessions end.")
    ] = "",
    disable: Annotated[
        str, typer.Option(metavar="NAME", help="May not sign in any more; sessions and tokens end.")
    ] = "",
    unlock: Annotated[
        str, typer.Option(metavar="NAME", help="Forget the wrong passwords for a name, which hold up its sign-in.")
    ] = "",
    json: AsJson = False,
) -> int:
    """List the admin page's users, or make, disable, unlock, or give another password to one."""
    from mlops.passwords import made_password
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    ledger, actor, password = connect().ledger, command_line_actor(), made_password()
    if add:
        ledger.add_user(add, password, role=role, created_by=actor)
        ledger.audit(actor, "user.add", add, role=role)
    elif new_password:
        ledger.set_password(new_password, password)
        ledger.audit(actor, "user.password", new_password)
    elif disable:
        ledger.change_user(disable, is_disabled=True)
        ledger.audit(actor, "user.disable", disable)
    elif unlock:
        ledger.unlock(unlock)
        ledger.audit(actor, "user.unlock", unlock)
    if add or new_password:
        name = add or new_password
        if json:
            print_json({"name": name, "password": password})
        else:
            out.print(f"{name}: the password, shown once: {password}", markup=False)
        return 0
    found = ledger.users()
    if json:
        print_json({"users": found})
        return 0
    for user in found:
        ended = f", disabled {user.disabled_at:%Y-%m-%d}" if user.disabled_at else ""
        out.print(
            f"{user.name}   {user.role}, made {user.created_at:%Y-%m-%d} by {user.created_by}{ended}", markup=False
        )
    return 0
