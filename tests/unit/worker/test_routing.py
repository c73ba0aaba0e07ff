"""Queues and roles, and where a message without a queue goes."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.domain.records import Stage
from tasks.publish import queue_of
from worker.routing import QUEUES, ROLES, UNROUTED, route_task


@pytest.mark.parametrize("name", ["drift.check", "model.train", "model.promote"])
def test_a_start_by_name_goes_to_control(name: str) -> None:
    assert route_task(name, (), {"strategy": "growth"}, {}) == {"queue": "control"}


@pytest.mark.parametrize("kwargs", [{"run_id": "r", "publish_no": 1}, {}, None])
def test_a_bell_without_its_queue_is_a_dead_letter(kwargs: dict[str, Any] | None) -> None:
    assert route_task("model.train", (), kwargs, {}) == {"queue": UNROUTED}


def test_what_is_no_stage_runs_on_control() -> None:
    assert route_task("stage.lost", (), {"run_id": "r"}, {}) == {"queue": "control"}


def test_every_queue_has_a_role_but_the_dead_letters() -> None:
    assert {queue.name for queue in QUEUES} == {role.queue for role in ROLES.values()} | {UNROUTED}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("device", ["auto", "cpu", "gpu"])
@pytest.mark.parametrize("gpu_alive", [True, False])
def test_every_bell_has_a_queue_that_a_role_serves(stage: Stage, device: str, *, gpu_alive: bool) -> None:
    assert queue_of(stage, device, gpu_alive=gpu_alive) in {role.queue for role in ROLES.values()}


def test_what_touches_openmp_or_cuda_runs_in_spawned_children() -> None:
    spawned = {name for name, role in ROLES.items() if role.start_method == "spawn"}
    assert spawned == {"train.cpu", "train.gpu", "promote"}  # promotion loads models


def test_a_gpu_training_gives_its_memory_back() -> None:
    assert ROLES["train.gpu"].max_tasks_per_child == 1


def test_no_two_queues_share_a_routing_key() -> None:
    # Celery gives a queue without one the default queue's: a message to that key would reach them all.
    assert [queue.routing_key for queue in QUEUES] == [queue.name for queue in QUEUES]
