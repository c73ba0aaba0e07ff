"""What must hold when everything has come to rest, read from the ledger, the registry, the result backend, the disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from celery import Celery
from sqlalchemy import text

from mlops.domain.ports import DIGEST_TAG
from mlops.domain.records import RunState
from mlops.domain.run_states import SUCCESSES, TERMINAL
from mlops.housekeeping import tidy
from mlops.registry.gateway import Gateway
from mlops.registry.maintenance import SecondLogs
from mlops.registry.registry import CHAMPION, EXPERIMENT, PARENT_TAG, RUN_TAG
from mlops.registry.report_runs import experiment_of_checks
from tasks.broker import lists_of
from tests.chaos.load import Load
from tests.chaos.system import BEATEN, CANARY, LOADED, PICKY, ChaosSystem
from tests.support.waiting import wait_for
from worker.replies import let_replies_expire

STRATEGIES = (*LOADED, *BEATEN, CANARY, PICKY)
#: A run of the load may wait for others, for a lease, for a server's back-off of half a minute.
REST_S = 240.0
#: A slot is opened so soon while one beat lives, and every minute has one in the suite's timetable.
SLOT_WITHIN_S = 30.0
EVERY = timedelta(minutes=1)
#: Of a thousand runs each, in MLflow: more than a part of the suite makes.
_PAGES = 20
#: What a run says whose version was lost with the registry.
GONE = ("in the registry", "in this registry", "has no version")
#: Ends that nobody asked for: with a hundred attempts nothing may fail or die of faults that pass.
UNWANTED = (RunState.FAILED, RunState.DEAD)

#: For each grant of a stage that had come back to its queue, in the namespaces that begin so: how long it waited there,
#: and how many younger runs got their first turn meanwhile. Workers have taken some messages already, so that as many
#: as there are pool processes are no wonder.
OVERTAKEN = """
WITH grants AS (
    SELECT run_id, stage, queued_at, claimed_at, token FROM mlops_attempt
    UNION ALL SELECT run_id, stage, queued_at, claimed_at, token FROM mlops_stage WHERE claimed_at IS NOT NULL
), aged AS (SELECT g.*, r.created_at, r.namespace FROM grants g JOIN mlops_run r USING (run_id))
SELECT back.run_id, extract(epoch FROM back.claimed_at - back.queued_at) AS waited_s,
       (SELECT count(*) FROM aged other WHERE other.token = 1 AND other.stage = back.stage
        AND other.created_at > back.created_at
        AND other.claimed_at > back.queued_at AND other.claimed_at < back.claimed_at) AS n_before
FROM aged back WHERE back.token > 1 AND back.namespace LIKE :phase || '%' ORDER BY n_before DESC
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was wrong, in words; all empty is what is promised."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    wrong: tuple[str, ...]
    """Promoted although the ledger had refused it, or never judged it"""
    other: tuple[str, ...]
    n_accepted: int

    def __str__(self) -> str:
        return "\n".join(
            [
                *(f"lost: {one}" for one in self.lost),
                *(f"doubled: {one}" for one in self.doubled),
                *(f"wrongly promoted: {one}" for one in self.wrong),
                *self.other,
            ]
        )


def rest(system: ChaosSystem, *, within_s: float = REST_S) -> datetime:
    """Wait until nothing is active, nothing waits in an outbox, and the registry has been told everything.

    Gives the moment from which on no more slots were opened.
    """
    stopped_at = system.services.ledger.now()
    with system.engine.begin() as connection:
        # No new slots. A beat that starts now would take this back; none does any more.
        connection.execute(text("UPDATE mlops_schedule SET enabled = false"))

    def rests() -> bool:
        active = system.rows("SELECT count(*) FROM mlops_run WHERE state IN ('queued', 'running')")[0][0]
        waiting = system.rows("SELECT count(*) FROM mlops_outbox WHERE delivered_at IS NULL")[0][0]
        unlogged = system.rows("SELECT count(*) FROM mlops_drift_report WHERE logged_at IS NULL")[0][0]
        unshown = system.services.ledger.unprojected() or system.services.registry.open_runs()
        with system.redis_client() as client:
            # A start that a dead worker held comes back after a minute.
            queues = ("control", "drift", "train.cpu", "promote")
            held = client.exists("unacked", *(one for queue in queues for one in lists_of(queue)))
        return not active and not waiting and not unlogged and not unshown and not held

    in_a_row = 0

    def stays() -> bool:
        # A message is nowhere while it is handed over: popped from its queue, and not among the unacknowledged yet.
        nonlocal in_a_row
        in_a_row = in_a_row + 1 if rests() else 0
        return in_a_row >= 4

    try:
        wait_for(stays, "everything comes to rest", within_s=within_s, every_s=0.5)
    except AssertionError:
        states = system.rows(
            "SELECT s.run_id, s.stage, s.state, s.attempt, s.token, s.worker, s.queue, s.not_before, s.published_at,"
            " s.error FROM mlops_stage s JOIN mlops_run r USING (run_id) WHERE r.state IN ('queued', 'running')"
        )
        left_open = system.services.registry.open_runs()
        raise AssertionError("\n".join(["not at rest:", *map(str, states), *map(str, left_open)])) from None
    return stopped_at


def overtaken(system: ChaosSystem) -> dict[str, int]:
    """Of each run that had a stage come back to its queue: younger ones that were claimed while it waited, at most."""
    found: Counter[str] = Counter()
    for row in system.rows(OVERTAKEN, phase="live"):
        found[row.run_id] = max(found[row.run_id], int(row.n_before))
    return found


def look(system: ChaosSystem, load: Load, *, until: datetime) -> Found:
    """All invariants; `until`: what `rest` gave."""
    assert load.since is not None
    return Found(
        lost=(*_lost(system, load), *_missing_slots(system, since=load.since, until=until)),
        doubled=tuple(_doubled(system)),
        wrong=tuple(_wrongly_promoted(system)),
        other=(
            *_champions(system),
            *_strangers(system),
            *_late_slots(system, load),
            *_left_running(system),
            *_outcomes(system),
            *_left_over(system),
        ),
        n_accepted=int(system.rows("SELECT count(*) FROM mlops_run")[0][0]),
    )


def _lost(system: ChaosSystem, load: Load) -> Iterator[str]:
    states = {row.run_id: (RunState(row.state), row.error) for row in system.rows(
        "SELECT r.run_id, r.state, r.outcome ->> 'error' AS error FROM mlops_run r"
    )}  # fmt: skip
    for run_id in sorted(load.accepted - states.keys()):
        yield f"run {run_id} was accepted and is not in the ledger"
    for run_id, (state, error) in states.items():
        if state not in TERMINAL:
            yield f"run {run_id} is {state}"
        is_explained = bool(system.emptied) and any(words in str(error) for words in GONE)
        if state in UNWANTED and not is_explained:
            yield f"run {run_id} ended {state}: {error}"
        if state is RunState.CANCELLED and run_id not in load.cancelled:
            yield f"run {run_id} was cancelled by nobody: {error}"


def _doubled(system: ChaosSystem) -> Iterator[str]:
    yield from _not_named(system)
    yield from _logged_twice(system)
    registry = system.services.registry
    made: Counter[str] = Counter()
    for strategy in STRATEGIES:
        for version in registry.versions(f"acis_{strategy}_classifier"):
            made[version.tags.get("run_id", f"version {version.version} of {strategy}")] += 1
    for run_id, n_versions in made.items():
        if n_versions > 1:
            yield f"run {run_id} registered {n_versions} versions"
    since = max(system.emptied, default=datetime.min.replace(tzinfo=UTC))  # what was registered before may be lost
    trained = {row.run_id for row in system.rows(
        "SELECT run_id FROM mlops_stage WHERE stage = 'train' AND state = 'succeeded' AND started_at > :since",
        since=since,
    )}  # fmt: skip
    for run_id in trained - made.keys():
        yield f"run {run_id} trained, and its version is not in the registry"
    for row in system.rows(
        "SELECT strategy, seq, count(*) AS n FROM mlops_promotion WHERE target_stage = 'Production'"
        " GROUP BY strategy, seq HAVING count(*) > 1"
    ):
        yield f"{row.n} promotions of {row.strategy} have seq {row.seq}"
    for row in system.rows(
        "SELECT strategy, kind, slot, count(*) AS n FROM mlops_run WHERE slot IS NOT NULL"
        " GROUP BY strategy, kind, slot HAVING count(*) > 1"
    ):
        yield f"slot {row.slot} of {row.strategy} has {row.n} runs"


def _logged_twice(system: ChaosSystem) -> Iterator[str]:
    """More than one finished run in MLflow for a training, or for a drift check."""
    gateway = Gateway(system.servers.mlflow_url)
    for name in _experiments():
        finished = gateway.runs([gateway.experiment_id(name)], "attributes.status = 'FINISHED'")
        logged = Counter(run.tags[RUN_TAG] for run in finished if PARENT_TAG not in run.tags)
        for run_id, n_runs in logged.items():
            if n_runs > 1:
                yield f"run {run_id} is logged {n_runs} times in {name}"


def _not_named(system: ChaosSystem) -> Iterator[str]:
    """What MLflow has of our runs and the ledger does not name; the reconciler sweeps it away, by and by."""
    registry, ledger = system.services.registry, system.services.ledger
    sweep = SecondLogs(safe_age=timedelta(0))
    for _ in range(_PAGES):
        sweep.step(system.services)
    for listed in (registry.logged_runs, registry.logged_versions):
        logged, page = listed()
        while page is not None:
            more, page = listed(page=page)
            logged += more
        run_ids = [one.ledger_run_id for one in logged]
        unknown, named = ledger.unknown_runs(run_ids), ledger.named_in_registry(run_ids)
        put_away = {(one.kind, one.name) for one in ledger.quarantined()}
        for one in logged:
            kept = ("version", f"{one.model_name}/{one.name}") if one.kind == "version" else ("run", one.name)
            if one.ledger_run_id in unknown and kept in put_away:
                continue  # of a time that the ledger forgot: a person decides
            if one.ledger_run_id in unknown:
                yield f"{one.kind} {one.name} in MLflow is of run {one.ledger_run_id}, which is not in the ledger"
            if (name := named.get((one.ledger_run_id, one.kind), one.name)) != one.name:
                yield f"{one.kind} {one.name} in MLflow is of run {one.ledger_run_id}, for which the ledger names {name}"


def _experiments() -> list[str]:
    return [EXPERIMENT, *(experiment_of_checks(strategy) for strategy in STRATEGIES)]


def _slots(system: ChaosSystem, strategy: str) -> list[tuple[datetime, datetime, datetime]]:
    """Of the timetable's runs in order: when each was due, was opened, and came to its end."""
    rows = system.rows(
        "SELECT r.slot, r.created_at, r.finished_at, s.offset_s FROM mlops_run r"
        " JOIN mlops_schedule s ON s.strategy = r.strategy AND s.kind = r.kind"
        " WHERE r.strategy = :s AND r.slot IS NOT NULL AND r.state <> 'skipped' ORDER BY r.slot",
        s=strategy,
    )
    return [
        (datetime.fromisoformat(row.slot) + timedelta(seconds=row.offset_s), row.created_at, row.finished_at)
        for row in rows
    ]


def _missing_slots(system: ChaosSystem, *, since: datetime, until: datetime) -> Iterator[str]:
    """Every minute has a run, or is on record as skipped because the run before it still ran."""
    lasts_s = timedelta(seconds=SLOT_WITHIN_S)
    for strategy in BEATEN:
        rows = system.rows(
            "SELECT r.slot, r.finished_at, s.offset_s FROM mlops_schedule s LEFT JOIN mlops_run r"
            " ON s.strategy = r.strategy AND s.kind = r.kind AND r.slot IS NOT NULL WHERE s.strategy = :s",
            s=strategy,
        )
        opened = {datetime.fromisoformat(row.slot) for row in rows if row.slot}
        offset = timedelta(seconds=rows[0].offset_s)
        newest = max(opened, default=since)
        # One run of a strategy at a time: a slot waits for the one before, and may wait still when all is stopped.
        waits_on = max((row.finished_at for row in rows if row.slot), default=since) + lasts_s >= until
        slot = (since - offset).replace(second=0, microsecond=0) + EVERY
        while slot + offset + lasts_s < until:
            if slot not in opened and not (waits_on and slot > newest):
                yield f"slot {slot} of {strategy} was never opened"
            slot += EVERY


def _overlap_s(one: tuple[datetime, datetime], other: tuple[datetime, datetime]) -> float:
    return max(0.0, (min(one[1], other[1]) - max(one[0], other[0])).total_seconds())


def _late_slots(system: ChaosSystem, load: Load) -> Iterator[str]:
    lasts = timedelta(seconds=SLOT_WITHIN_S)
    for strategy in BEATEN:
        free = datetime.min.replace(tzinfo=UTC)
        for due, opened, ended in _slots(system, strategy):
            # One run of a strategy at a time: a slot waits for the one before.
            # While the clock is another, nobody knows that it is due.
            wanted = max(due, free)
            away_s = sum(_overlap_s((wanted, opened), window) for window in system.clock_away)
            late_s = (opened - wanted).total_seconds() - away_s
            # What was opened in a time that the ledger forgot is opened again after it.
            is_forgotten = any(since - lasts <= due <= until + lasts for since, until in load.forgotten)
            if late_s > SLOT_WITHIN_S and not is_forgotten:
                yield f"the slot of {strategy} that was due at {due} was opened {late_s:.0f} s late"
            free = ended


def _champions(system: ChaosSystem) -> Iterator[str]:
    registry = system.services.registry
    for strategy in STRATEGIES:
        champion = system.services.ledger.champion(strategy)
        versions = registry.versions(f"acis_{strategy}_classifier")
        shown = [version.version for version in versions if CHAMPION in version.aliases]
        staged = [version.version for version in versions if version.stage == "Production"]
        wanted = [champion.version] if champion.version else []
        if shown != wanted or staged != wanted:
            yield f"champion of {strategy}: ledger {wanted}, alias {shown}, stage Production {staged}"


def _wrongly_promoted(system: ChaosSystem) -> Iterator[str]:
    """The champion is a model, by the digest of its bytes, that the ledger judged and did not refuse; so is what MLflow
    shows in Production.
    """
    registry = system.services.registry
    for strategy in STRATEGIES:
        rows = system.rows(
            "SELECT model_sha256, made_by, decision FROM mlops_promotion WHERE strategy = :s AND decision IN"
            " ('promote', 'refuse', 'keep', 'inconclusive', 'await_approval') ORDER BY id",
            s=strategy,
        )
        if any(row.made_by is None for row in rows):
            continue  # decided by the code of the version before, which does not say about which model
        judged = {(row.model_sha256, row.made_by): row.decision for row in rows}
        champion = system.services.ledger.champion(strategy)
        if champion.version is not None:
            found = judged.get((champion.identity.sha256, champion.identity.made_by))
            if found in (None, "refuse"):
                yield f"champion {champion.version} of {strategy} ({champion.identity}) was {found or 'never judged'}"
        name = f"acis_{strategy}_classifier"
        for version in registry.versions(name):
            if version.stage == "Production" or CHAMPION in version.aliases:
                digest = hashlib.sha256(registry.model_file(name, version.version)).hexdigest()
                found = judged.get((digest, version.identity.made_by))
                if found in (None, "refuse"):
                    yield f"version {version.version} of {strategy} is in Production and was {found or 'never judged'}"


def _strangers(system: ChaosSystem) -> Iterator[str]:
    """Versions of runs that the ledger does not know are in quarantine, in no stage, and were never decided about."""
    ledger = system.services.ledger
    for strategy in STRATEGIES:
        versions = system.services.registry.versions(f"acis_{strategy}_classifier")
        made_by = {version.version: version.tags.get(RUN_TAG, "") for version in versions}
        unknown = ledger.unknown_runs(sorted(made_by.values()))
        for version in versions:
            if made_by[version.version] not in unknown:
                continue
            name = f"{version.name}/{version.version}"
            if not ledger.is_quarantined("version", name):
                yield f"version {name} is of run {made_by[version.version]}, which the ledger does not know"
            if version.aliases or version.stage in ("Production", "Staging"):
                yield f"version {name}, which is in quarantine, is {version.stage} {version.aliases}"
            # By run and bytes: where the registry was emptied, another model had the number before.
            if promoted := system.rows(
                "SELECT id, made_by, model_sha256 FROM mlops_promotion WHERE strategy = :s AND version = :v"
                " AND target_stage = 'Production' AND (made_by = :run OR model_sha256 = :sha256"
                " OR (made_by IS NULL AND model_sha256 IS NULL))",
                s=strategy,
                v=version.version,
                run=made_by[version.version],
                sha256=version.tags.get(DIGEST_TAG, ""),
            ):
                yield f"version {name}, which is in quarantine, was promoted: {promoted[0]}"


def _left_running(system: ChaosSystem) -> Iterator[str]:
    gateway = Gateway(system.servers.mlflow_url)
    experiments = [gateway.experiment_id(name) for name in _experiments()]
    for run in gateway.runs(experiments, "attributes.status = 'RUNNING'"):
        yield f"MLflow run {run.run_id} ({run.run_name}) is still RUNNING"


def _outcomes(system: ChaosSystem) -> Iterator[str]:
    app = Celery("a-reader", backend=system.servers.redis_url, set_as_current=False)
    try:
        for row in system.rows(
            "SELECT run_id, state, outcome FROM mlops_run WHERE state NOT IN ('skipped', 'queued', 'running')"
        ):
            result = app.AsyncResult(row.run_id)
            wanted = "SUCCESS" if RunState(row.state) in SUCCESSES else "FAILURE"
            if result.state != wanted:
                yield f"result of run {row.run_id} is {result.state}, and the run {row.state}"
            elif wanted == "SUCCESS" and result.result != row.outcome:
                yield f"result of run {row.run_id} is not its outcome"
    finally:
        app.close()


def _left_over(system: ChaosSystem) -> Iterator[str]:
    n_trained = system.rows("SELECT count(*) FROM mlops_stage WHERE stage = 'train' AND state = 'succeeded'")[0][0]
    left = system.services.checkpoints.newest()
    # Whoever is killed after the end of its stage leaves them; everybody else takes them away.
    if len(left) * 2 > n_trained + 10:
        yield f"checkpoints of {len(left)} of {n_trained} trainings were left to housekeeping"
    tidy(system.services)  # what a killed worker left is taken away by the hour
    left = system.services.checkpoints.newest()
    quarantined = {one.name for one in system.services.ledger.quarantined() if one.kind == "checkpoint"}
    if left.keys() - quarantined:
        yield f"checkpoints are left of {', '.join(left.keys() - quarantined)}"
    asker = Celery("an-asker", broker=system.servers.redis_url, set_as_current=False)
    let_replies_expire(asker)  # and this too
    asker.close()
    with system.redis_client() as client:
        for key in sorted(client.scan_iter("*")):
            ends = client.ttl(key) >= 0
            if client.type(key) == "list" and not ends and not key.startswith("celery-task-meta-"):
                yield f"{client.llen(key)} messages are left in {key}: {client.lrange(key, 0, 0)}"
            if key in ("unacked", "unacked_index"):
                yield f"{key} is left"
    locks = system.rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0]
    if locks > 1:  # the working reconciler's
        yield f"{locks} advisory locks are held or waited for"
