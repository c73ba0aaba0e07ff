"""A backend that keeps the system busy: it asks for runs by every way there is, and remembers what was accepted."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from mlops.domain.errors import AcisError, InvalidTransition
from mlops.domain.records import Kind, RunState
from mlops.runs.request import run_request
from tests.chaos.system import CANARY, LOADED, ChaosSystem
from tests.support.waiting import wait_for
from worker.routing import QUEUES

log = structlog.get_logger(__name__)

KINDS = (Kind.PIPELINE, Kind.RETRAIN, Kind.CHECK, Kind.TRAIN)
#: Of a kind, the task that starts it, and what it is asked with.
BY_NAME: dict[Kind, tuple[str, dict[str, object]]] = {
    Kind.PIPELINE: ("drift.check", {}),
    Kind.CHECK: ("drift.check", {"check_only": True}),
    Kind.RETRAIN: ("model.train", {}),
    Kind.TRAIN: ("model.train", {"promote": False}),
}
#: So many runs at once are asked for: both training workers have one, and one waits.
AT_ONCE = 4
PAUSE_S = 0.1


class Load:
    """Asks from a thread of its own until the block ends. `accepted` are runs whose acceptance was confirmed."""

    def __init__(
        self, system: ChaosSystem, rng: random.Random, *, at_once: int = AT_ONCE, cancels: bool = True
    ) -> None:
        self._system, self._rng, self._at_once, self._cancels = system, rng, at_once, cancels
        self.accepted: set[str] = set()
        self.cancelled: set[str] = set()
        self.forgotten: list[tuple[datetime, datetime]] = []
        """Times that the ledger was set back over: what was accepted then may be lost, which is stated."""
        self._paused = threading.Lock()
        self.since: datetime | None = None
        """From when on each minute has a slot: the timetable has begun."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="load", daemon=True)
        self._caller = Celery("a-backend", broker=system.servers.redis_url, set_as_current=False)
        self._caller.conf.update(
            broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 2, "max_retries": 1},
            broker_connection_retry=False,
            task_ignore_result=True,
        )
        self._program = _tasks_of_ours(system.servers.redis_url)

    def __enter__(self) -> Self:
        ledger = self._system.services.ledger
        wait_for(lambda: all(line.last_slot for line in ledger.schedule()), "the timetable begins", within_s=60.0)
        self.since = ledger.now()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._caller.close()
        self._program.close()

    def stop(self) -> None:
        """Ask for nothing more."""
        self._closing.set()
        self._thread.join()

    def ask(self, strategy: str, kind: Kind, **asked: Any) -> str | None:
        """Straight at the ledger, as a backend with this code base does; the run's id where it was accepted."""
        services = self._system.services
        request = run_request(services.strategies, strategy, kind, reason="chaos", requested_by="load", **asked)
        accepted = services.ledger.accept(request)
        self.accepted.add(accepted.run_id)
        if accepted.publication is not None:
            services.dispatcher.publish(accepted.publication)
        return accepted.run_id

    def ask_by_name(self, number: int) -> Callable[[], bool]:
        """Starts by every task's name; whether each has become a run, or was told of the run that was in its way."""
        ids = [self._send(self._rng.choice(LOADED), kind) for kind in self._rng.choices(KINDS, k=number)]

        def are_runs() -> bool:
            with self._system.redis_client() as client:
                return all(self._is_a_run(task_id, client.get(f"celery-task-meta-{task_id}")) for task_id in ids)

        return are_runs

    def _is_a_run(self, task_id: str, stored: object) -> bool:
        if self._system.rows("SELECT 1 FROM mlops_run WHERE run_id = :r", r=task_id):
            return True
        told = json.loads(str(stored)) if stored else {}
        assert told.get("status") != "FAILURE", f"start {task_id} was lost: {told['result']}"
        return told.get("status") == "SUCCESS" and told["result"]["created"] is False

    def _send(self, strategy: str, kind: Kind) -> str:
        """By a task's name, in either of the two ways; the id that its run will have."""
        task_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        name, asked = BY_NAME[kind]
        arguments = {"strategy": strategy, "reason": "by name", **asked}
        if self._rng.random() < 0.5:
            self._caller.send_task(name, kwargs=arguments, queue="control", task_id=task_id)
        else:
            self._program.tasks[name].apply_async(kwargs=arguments, task_id=task_id)
        return task_id

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is asked for meanwhile."""
        with self._paused:
            yield

    def forget(self, *, since: datetime, until: datetime) -> None:
        """The ledger was set back to `since`: what it does not know any more was accepted in vain."""
        ledger = self._system.services.ledger
        self.accepted -= ledger.unknown_runs(sorted(self.accepted))
        self.forgotten.append((since, until))

    def canary(self) -> Callable[[], bool]:
        """Whether a check that was asked for from now on has come to its end."""
        asked: list[str] = []

        def sang() -> bool:
            try:
                if not asked:
                    asked.append(self.ask(CANARY, Kind.CHECK) or "")
                view = self._system.services.ledger.run(asked[0])
            except AcisError:
                return False
            return view.state is RunState.SUCCEEDED

        return sang

    def _ask(self) -> None:
        while not self._closing.wait(PAUSE_S):
            try:
                with self._paused:
                    self._ask_once()
            except AcisError as exc:
                log.info("load.refused", error=str(exc))
            except (OperationalError, OSError) as exc:
                log.info("load.not_sent", error=str(exc))

    def _ask_once(self) -> None:
        ledger = self._system.services.ledger
        active = ledger.runs(states=[RunState.QUEUED, RunState.RUNNING], limit=100)
        busy = [view for view in active if view.strategy in LOADED]
        if self._cancels and busy and self._rng.random() < 0.02:
            chosen = self._rng.choice(busy)
            try:
                ledger.cancel(chosen.run_id, actor="load")
            except InvalidTransition:
                return
            self.cancelled.add(chosen.run_id)
        if len(busy) >= self._at_once:
            return
        strategy, kind = self._rng.choice(LOADED), self._rng.choice(KINDS)
        if self._rng.random() < 0.3:
            # Accepted once the ledger has it: what Redis loses before that was never promised.
            self._send(strategy, kind)
        else:
            self.ask(strategy, kind)


def _tasks_of_ours(redis_url: str) -> Celery:
    """A program with this code base, whose tasks have `.delay`."""
    app = Celery("a-program", broker=redis_url, backend="disabled://", set_as_current=False)
    app.conf.update(
        imports=("tasks.drift", "tasks.training", "tasks.promotion"),
        task_queues=QUEUES,
        task_routes="worker.routing.route_task",
        task_publish_retry=False,
        broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 2, "max_retries": 1},
        broker_connection_retry=False,
    )
    app.loader.import_default_modules()
    app.finalize()
    return app
