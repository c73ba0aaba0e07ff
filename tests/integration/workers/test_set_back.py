"""A result backend that is ahead of a ledger which was set back in time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from pydantic import SecretStr
from sqlalchemy import text

from config.settings import Settings
from mlops.bootstrap import Services
from mlops.domain.records import RunState, StageOutcome
from mlops.ledger.schema import migrate
from mlops.ledger.set_back import Position
from tasks.outcomes import RunFailed, deliver_outcomes
from tasks.services import connect
from tests.support.ledgers import accepted_and_sent, granted, request_for
from worker.app import celery_config
from worker.set_back import COPY, correct_outcomes, notice_set_back

# Celery's own.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

ENDED = StageOutcome(result={"verdict": "stable"}, run_state=RunState.SUCCEEDED)


@pytest.fixture
def services(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Services]:
    migrate(postgres_url)
    made = connect(
        Settings(database_url=SecretStr(postgres_url), celery_broker_url=SecretStr(redis_url), var_dir=tmp_path)
    )
    yield made
    made.ledger.close()


@pytest.fixture
def app(services: Services) -> Iterator[Celery]:
    made = Celery(set_as_current=False)
    made.conf.update({**celery_config(services.settings, None), "imports": (), "task_routes": None})
    yield made
    made.close()


def ended(services: Services, app: Celery, run_id: str | None = None, strategy: str = "growth") -> str:
    """A run that ended well, with its outcome in the result backend."""
    found = accepted_and_sent(services.ledger, request_for(strategy, run_id=run_id)).run_id
    services.ledger.finish(granted(services.ledger, found), ENDED)
    deliver_outcomes(app, services.ledger)
    assert app.AsyncResult(found).state == "SUCCESS"
    return found


def forget(services: Services, *statements: str) -> None:
    """What a restore does: the ledger is as it was."""
    with services.ledger.database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_ledger_that_goes_on_was_not_set_back(services: Services, app: Celery) -> None:
    for _ in range(3):
        notice_set_back(app, services)
    assert services.ledger.forgotten().registry_since is None
    position = services.ledger.position()
    assert position is not None
    assert position.number == 3


@pytest.mark.parametrize(
    "is_behind",
    [
        "UPDATE mlops_position SET number = number - 1",  # a restore of some passes ago
        "UPDATE mlops_position SET mark = 'another'",  # of as many passes, but others
        "DELETE FROM mlops_position",  # of a time before the first pass
    ],
)
def test_a_ledger_that_is_behind_its_copy_was_set_back(services: Services, app: Celery, is_behind: str) -> None:
    notice_set_back(app, services)
    before = services.ledger.now()
    notice_set_back(app, services)
    forget(services, is_behind)
    notice_set_back(app, services)
    since = services.ledger.forgotten()
    assert since.registry_since is not None
    assert since.registry_since == since.outcomes_since
    assert abs(since.registry_since - before) < timedelta(seconds=60)


def test_a_ledger_that_is_set_back_between_the_comparison_and_the_next_position_is_noticed_by_the_next_pass(
    services: Services, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice_set_back(app, services)
    with services.ledger.database.reading() as connection:
        backup = connection.execute(text("SELECT number, mark FROM mlops_position")).one()
    notice_set_back(app, services)
    position = services.ledger.position

    def read_and_then_set_back() -> Position | None:
        read = position()
        forget(services, f"UPDATE mlops_position SET number = {backup.number}, mark = '{backup.mark}'")
        return read

    monkeypatch.setattr(services.ledger, "position", read_and_then_set_back)
    notice_set_back(app, services)
    assert services.ledger.forgotten().registry_since is None
    monkeypatch.undo()
    notice_set_back(app, services)
    assert services.ledger.forgotten().registry_since is not None


def test_a_promoted_standby_is_noticed_by_its_timeline(services: Services, app: Celery) -> None:
    notice_set_back(app, services)
    copied = json.loads(app.backend.client.get(COPY))
    assert copied["timeline"] == 1
    # As the primary of before left it, which had one timeline less.
    app.backend.client.set(COPY, json.dumps({**copied, "timeline": 0}))
    notice_set_back(app, services)
    assert services.ledger.forgotten().registry_since is not None


def test_a_copy_that_is_gone_says_nothing(services: Services, app: Celery) -> None:
    notice_set_back(app, services)
    app.backend.client.flushall()
    notice_set_back(app, services)
    assert services.ledger.forgotten().registry_since is None


def test_an_outcome_that_the_ledger_contradicts_is_corrected(services: Services, app: Celery) -> None:
    goes_on, gone = ended(services, app), ended(services, app, strategy="value")
    kept = ended(services, app, strategy="momentum")
    app.backend.store_result(kept, {"run_id": kept, "state": "refused"}, "SUCCESS")
    forget(
        services,
        f"UPDATE mlops_run SET state = 'queued', outcome = NULL WHERE run_id = '{goes_on}'",
        f"DELETE FROM mlops_outbox WHERE run_id = '{goes_on}'",
        f"DELETE FROM mlops_run WHERE run_id = '{gone}'",
    )
    services.ledger.was_set_back(to=services.ledger.now() - timedelta(minutes=3))
    correct_outcomes(app, services)
    deliver_outcomes(app, services.ledger)
    assert app.AsyncResult(goes_on).state == "PENDING"
    assert app.AsyncResult(gone).state == "FAILURE"
    with pytest.raises(RunFailed, match=r"set back to .* does not know it any more; ask again"):
        app.AsyncResult(gone).get(timeout=1)
    assert app.AsyncResult(kept).result["state"] == "succeeded"
    assert services.ledger.forgotten().outcomes_since is None


def test_a_start_by_name_whose_run_was_forgotten_and_had_not_ended_comes_again(services: Services, app: Celery) -> None:
    asked = {"strategy": "growth", "reason": "nightly"}
    meta = {"status": "STARTED", "result": None, "name": "drift.check", "kwargs": asked, "task_id": "asked-by-name"}
    key = app.backend.get_key_for_task("asked-by-name")
    app.backend.client.set(key, json.dumps(meta))
    services.ledger.was_set_back(to=services.ledger.now())
    correct_outcomes(app, services)
    assert app.backend.client.llen("control") == 1
    message = json.loads(app.backend.client.lindex("control", 0))
    assert (message["headers"]["task"], message["headers"]["id"]) == ("drift.check", "asked-by-name")


def test_results_of_others_tasks_are_left_alone(services: Services, app: Celery) -> None:
    app.backend.store_result("theirs", {"answer": 42}, "SUCCESS")
    app.backend.store_result("a-stage", {"run_id": "a-run", "stage": "drift"}, "SUCCESS")
    services.ledger.was_set_back(to=services.ledger.now() - timedelta(days=1))
    correct_outcomes(app, services)
    assert app.AsyncResult("theirs").result == {"answer": 42}
    assert app.AsyncResult("a-stage").state == "SUCCESS"
