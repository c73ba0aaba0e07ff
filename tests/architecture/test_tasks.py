"""Tasks are on the wire: each has its name in the source, an end in time, and a queue that somebody serves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from celery import Celery
from pydantic import SecretStr

from config.settings import Settings
from mlops.domain.policies import Strategy
from mlops.domain.records import FIRST_STAGE, Kind, Stage
from mlops.strategies.file import load_strategies
from tasks.payloads import LostMessage
from tasks.publish import TASK_OF_STAGE, queue_of
from tests.architecture.sources import PACKAGES, ROOT, modules, parsed
from worker.app import celery_config
from worker.routing import QUEUES, ROLES, UNROUTED, route_task
from worker.timetable import entries_of

STRATEGY_FILES = ("config/strategies.toml", "config/strategies_sample.toml")
SERVED = {role.queue for role in ROLES.values()}


def decorations() -> Iterator[tuple[Path, ast.expr]]:
    """Every decorator in our packages that makes a task."""
    for path in modules(*PACKAGES):
        for node in ast.walk(parsed(path)):
            for decorator in getattr(node, "decorator_list", ()):
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if ast.unparse(called).rpartition(".")[2] in {"task", "shared_task"}:
                    yield path, decorator


def literals(decorator: ast.expr) -> dict[str, Any]:
    assert isinstance(decorator, ast.Call), f"{ast.unparse(decorator)} is used without arguments"
    return {
        str(keyword.arg): keyword.value.value
        for keyword in decorator.keywords
        if isinstance(keyword.value, ast.Constant)
    }


@pytest.fixture(scope="module")
def registered() -> Iterator[dict[str, Any]]:
    """Our tasks as a worker has them."""
    settings = Settings(celery_broker_url=SecretStr("redis://nobody:1/0"))
    with Celery("architecture", set_as_current=False) as app:
        app.conf.update(celery_config(settings, None))
        app.loader.import_default_modules()
        yield {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}


def test_every_task_is_made_by_our_own_decorator() -> None:
    assert {ast.unparse(d.func if isinstance(d, ast.Call) else d) for _, d in decorations()} == {"task"}


def test_every_task_has_its_name_written_out() -> None:
    names = [literals(decorator).get("name") for _, decorator in decorations()]
    assert len(names) == len(set(names)) >= len(Stage)
    assert [name for name in names if not re.fullmatch(r"[a-z]+\.[a-z]+", str(name))] == []


def test_a_worker_registers_the_tasks_of_the_source_and_no_others(registered: dict[str, Any]) -> None:
    assert set(registered) == {literals(decorator)["name"] for _, decorator in decorations()}


def test_every_task_has_time_limits(registered: dict[str, Any]) -> None:
    for name, task in registered.items():
        assert 0 < task.soft_time_limit < task.time_limit, name


def test_every_stage_ends_by_its_lease_before_celery_kills_it(registered: dict[str, Any]) -> None:
    policy = Strategy(name="any").execution
    deadlines = {
        "drift.check": policy.drift_deadline_s,
        "model.train": policy.train_deadline_s,
        "model.promote": policy.promote_deadline_s,
        "predict.batch": policy.predict_deadline_s,
        "live.score": policy.score_deadline_s,
    }
    for name, deadline_s in deadlines.items():
        assert deadline_s < registered[name].soft_time_limit, name


def test_every_task_has_a_queue_that_a_role_serves(registered: dict[str, Any]) -> None:
    for name in registered:
        assert route_task(name, (), {"strategy": "growth"}, {})["queue"] in SERVED, name
    bells = {
        queue_of(stage, device, gpu_alive=alive)
        for stage in Stage
        for device in ("auto", "cpu", "gpu")
        for alive in (True, False)
    }
    assert bells == {"drift", "train.cpu", "train.gpu", "promote"} <= SERVED


def test_the_queues_are_those_of_the_roles_and_the_dead_letters() -> None:
    assert {queue.name for queue in QUEUES} == SERVED | {UNROUTED}


def test_every_stage_has_a_task_and_every_kind_begins_with_a_stage(registered: dict[str, Any]) -> None:
    assert set(TASK_OF_STAGE) == set(Stage)
    assert set(TASK_OF_STAGE.values()) <= set(registered)
    assert set(get_args(LostMessage.model_fields["task"].annotation)) == set(TASK_OF_STAGE.values())
    assert set(FIRST_STAGE) == set(Kind)


@pytest.mark.parametrize("file", STRATEGY_FILES)
def test_every_line_of_the_timetable_leads_to_a_task(file: str, registered: dict[str, Any]) -> None:
    strategies = load_strategies(ROOT / file)
    entries = [entry for name in strategies for entry in entries_of(strategies[name])]
    assert len(entries) == 2 * len(strategies)  # a check and a forced retraining each
    assert len({entry.key for entry in entries}) == len(entries)
    for entry in entries:
        assert TASK_OF_STAGE[FIRST_STAGE[entry.kind]] in registered
        assert entry.strategy in strategies
