"""A Celery task of the user's that is asked before a switch, on a real broker, as the role that asks."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from pydantic import SecretStr

from config.settings import Settings
from mlops.bootstrap import Services
from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.runs.switching import SwitchAnswer, may_switch
from tasks.broker import HOOK_QUEUE
from tasks.services import connect
from tests.support.servers import as_redis_user

TASK = "positions.may_switch"


@pytest.fixture
def services(redis_url: str, ledger_postgres_url: str) -> Services:
    """Of the role that scores: its user of Redis may send there, and read the result."""
    url = SecretStr(as_redis_user(redis_url, "drift"))
    return connect(
        Settings(celery_broker_url=url, celery_result_backend=url, database_url=SecretStr(ledger_postgres_url))
    )


def ask(services: Services, *, timeout_s: float) -> SwitchAnswer:
    policy = ExperimentPolicy(switch_hook=f"task:{TASK}", switch_timeout_s=timeout_s)
    return may_switch("growth", "3", "2", policy=policy, ask_task=services.ask_task)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's own, in this process
def test_a_worker_of_the_users_answers_and_one_that_fails_is_no_answer(services: Services, redis_url: str) -> None:
    theirs = Celery("theirs", broker=redis_url, backend=redis_url, set_as_current=False)
    asked: list[dict[str, Any]] = []

    @theirs.task(name=TASK, shared=False)  # of this app alone
    def may_switch_now(**arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        if len(asked) > 1:
            raise RuntimeError("the positions' database is away")
        return {"may_switch": False, "reason": "2 positions are open"}

    with start_worker(theirs, pool="solo", perform_ping_check=False, queues=[HOOK_QUEUE], shutdown_timeout=30):
        said = ask(services, timeout_s=30)
        failed = ask(services, timeout_s=30)
    assert (said.allowed, said.was_answered) == (False, True), said.words
    assert "2 positions are open" in said.words
    assert asked[0] == {"strategy": "growth", "from_version": "3", "to_version": "2"}
    assert not failed.was_answered
    assert "the task ended as FAILURE" in failed.words
    assert "database" not in failed.words


def test_where_no_worker_takes_it_the_default_holds_in_time(services: Services) -> None:
    found: list[SwitchAnswer] = []
    thread = threading.Thread(target=lambda: found.append(ask(services, timeout_s=0.2)))
    thread.start()
    thread.join(20)
    assert [one.was_answered for one in found] == [False]
    assert "a worker of yours takes it from queue 'hooks'" in found[0].words
