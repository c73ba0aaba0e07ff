"""Celery's settings are what keeps messages harmless and workers alive; each value is pinned with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from config.settings import Settings
from mlops.domain.errors import NothingConfigured
from tasks.base import StageTask, task
from tasks.drift import check_drift
from tasks.maintenance import return_lease
from tasks.promotion import promote_model
from tasks.training import train_model
from worker.app import celery_config
from worker.routing import ROLES

BROKER = SecretStr("redis://:pw@broker/0")


def config(role: str | None = None, **settings: Any) -> dict[str, Any]:
    return celery_config(Settings(**{"celery_broker_url": BROKER, **settings}), ROLES.get(role or ""))


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("task_serializer", "json", "nothing executable in a message"),
        ("result_serializer", "json", "nothing executable in a result"),
        ("accept_content", ["json"], "a pickle from elsewhere is refused"),
        ("task_acks_late", False, "a reset connection duplicates running late-ack tasks at once"),
        ("worker_prefetch_multiplier", 1, "fair to long tasks"),
        ("worker_disable_prefetch", True, "QoS drift hoards hundreds of messages elsewhere"),
        ("broker_connection_retry_on_startup", True, "workers wait for Redis"),
        ("broker_connection_max_retries", None, "the default gives up at 100"),
        (
            "worker_cancel_long_running_tasks_on_connection_loss",
            False,
            "nothing is redelivered, so nothing need be killed",
        ),
        ("broker_pool_acquire_timeout", 30, "the default blocks for ever"),
        ("task_create_missing_queues", False, "a misspelt queue is an error"),
        ("task_track_started", True, "Flower"),
        ("task_send_sent_event", True, "Flower"),
        ("worker_send_task_events", True, "Flower"),
        ("result_expires", 7 * 86400, "Redis holds a copy of the ledger's truth"),
        ("result_failure_expires", 30 * 86400, "failures are looked at longer"),
        ("result_backend_always_retry", True, "a blip of Redis loses no result"),
        ("redis_socket_timeout", 30, "half-open connections are noticed"),
        ("redis_socket_keepalive", True, "half-open connections are noticed"),
        ("redis_retry_on_timeout", True, "a blip of Redis loses no result"),
        ("beat_max_loop_interval", 5, "beat notices a changed timetable soon"),
        ("timezone", "UTC", "crons are UTC"),
        ("enable_utc", True, "crons are UTC"),
    ],
)
def test_a_setting_has_the_value_that_its_reason_asks_for(setting: str, value: object, reason: str) -> None:
    assert config()[setting] == value, reason


def test_retries_of_the_result_backend_end() -> None:
    assert 0 < config()["result_backend_max_retries"] < 100  # Celery's own default is infinite


def test_the_brokers_sockets_time_out_and_dead_letters_are_kept() -> None:
    assert config()["broker_transport_options"] == {
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "visibility_timeout": 60.0,
        "unacked_restore_throttle": 1,
        "deadletter_queue": "unrouted",
    }


@pytest.mark.parametrize("role", ["train.cpu", "train.gpu", "promote"])
def test_spawned_children_have_a_minute_to_import_their_libraries(role: str) -> None:
    assert config(role)["worker_pool_start_method"] == "spawn"
    assert config(role)["worker_proc_alive_timeout"] == 60  # the default of 4 s kills them on a busy machine


def test_celery_knows_every_setting_that_we_name() -> None:
    from celery.app.defaults import NAMESPACES, flatten

    known = {name.lower() for name, _ in flatten(NAMESPACES)}
    read_by_name = {"redis_backend_health_check_interval"}  # celery/backends/redis.py, not among its defaults
    assert set(config("train.cpu")) <= known | read_by_name


def test_no_broker_is_said_with_both_ways_out() -> None:
    with pytest.raises(NothingConfigured, match=r"CELERY_BROKER_URL.*make run"):
        celery_config(Settings(), None)


def test_no_setting_is_printed_with_its_secret() -> None:
    app = Celery("a test", set_as_current=False)
    app.conf.update(config())
    assert "pw" not in app.conf.humanize(with_defaults=False)


# --------------------------------------------------------------------------- tasks


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        (check_drift, "drift.check"),
        (train_model, "model.train"),
        (promote_model, "model.promote"),
        (return_lease, "stage.lost"),
    ],
)
def test_every_task_has_its_name_on_the_wire_and_a_time_limit(declared: Any, name: str) -> None:
    assert declared.name == name
    assert declared.soft_time_limit < declared.time_limit


@pytest.mark.parametrize(("declared", "deadline_s"), [(check_drift, 900), (train_model, 2700), (promote_model, 600)])
def test_a_stages_deadline_comes_before_celerys_limits(declared: Any, deadline_s: float) -> None:
    # The ledger gives the stage back; Celery's kill is for a child that does not let go.
    assert deadline_s < declared.soft_time_limit < declared.time_limit


def test_only_stage_tasks_ack_late_and_their_bells_are_acked_on_arrival() -> None:
    assert StageTask.acks_late
    assert StageTask.Request == "tasks.request:StageRequest"
    assert all(isinstance(declared, StageTask) for declared in (check_drift, train_model, promote_model))
    assert not isinstance(return_lease, StageTask)


def test_a_misspelt_option_fails_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="time_limt"):
        task(name="a.task", time_limt=1, soft_time_limit=1, kind="plain")  # type: ignore[call-arg]
