"""`acis doctor`: each thing that would go wrong is found, with how to mend it, and one does not hide another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from cli.app import app
from mlops.diagnosis import doctor
from mlops.diagnosis.answer import Answer
from mlops.diagnosis.doctor import diagnose
from mlops.domain.errors import RegistryUnavailable
from mlops.domain.records import Kind, ScheduleEntry, Stage, WorkerBeat
from mlops.volumes import Volume
from tasks.broker import Broker
from tests.support.ledgers import TimedLedger, decision_for, request_for
from tests.support.services import LAST, FakeServices, fake_services, panel, small_strategy

Ask = Callable[[], dict[str, Answer]]


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    url = SecretStr(timed.ledger.database.url.render_as_string(hide_password=False))
    return fake_services(tmp_path, timed, database_url=url, mlflow_tracking_uri="http://registry")


@pytest.fixture
def ask(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The answers by subject."""
    monkeypatch.setattr(doctor, "connect", lambda _: services)
    return lambda: {answer.subject: answer for answer in diagnose(services.settings)}


def alive(services: FakeServices, *queues: str) -> None:
    for queue in queues:
        services.ledger.worker_seen(
            WorkerBeat(
                name=f"{queue}@host", role=queue, queues=(queue,), device="cpu", pid=1, host="host", concurrency=1
            )
        )


def test_a_system_that_is_well_says_so(services: FakeServices, ask: Ask) -> None:
    alive(services, "control", "drift", "train.cpu", "promote")
    answers = ask()
    assert {subject: answer.level for subject, answer in answers.items() if subject not in ("broker", "clock")} == {
        "strategies": "ok",
        "ledger": "ok",
        "durability": "error",  # the tests' server skips fsync
        "MLflow": "ok",
        "artifacts": "ok",
        "checkpoints": "ok",
        "volumes": "ok",
        "workers": "ok",
        "backlog": "ok",
        "features of growth": "ok",
    }
    # 7, 90 and 200 days of 8 tickers
    assert "56 current rows" in answers["features of growth"].found
    assert "720 reference rows" in answers["features of growth"].found
    assert f"as of {LAST}" in answers["features of growth"].found


def test_a_volume_that_is_full_is_an_error_and_one_that_will_be_soon_a_warning(
    services: FakeServices, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, level in ((0, "error"), (100_000_000, "warning")):
        found = Volume(mount=Path("/data"), folder=Path("/data/var"), free_bytes=free, total_bytes=10**9)
        monkeypatch.setattr(doctor, "volumes_of", lambda _, found=found: [found])
        answer = ask()["volumes"]
        assert answer.level == level
        assert answer.found.startswith("the volume at /data (/data/var) has ")


def test_a_password_in_an_address_is_not_shown(services: FakeServices, ask: Ask) -> None:
    services.settings = services.settings.model_copy(
        update={"mlflow_tracking_uri": SecretStr("https://user:s3cr3t@registry")}
    )
    assert ask()["MLflow"].found.startswith("https://registry answers")


def test_no_broker_is_an_error_with_the_way_out(ask: Ask) -> None:
    answer = ask()["broker"]
    assert answer.level == "error"
    assert "make run" in answer.mend


def test_queues_that_nobody_serves_are_named(services: FakeServices, ask: Ask) -> None:
    alive(services, "control", "drift")
    answer = ask()["workers"]
    assert (answer.level, "train.cpu, promote" in answer.found) == ("warning", True)


def test_workers_seen_two_minutes_ago_are_not_alive(services: FakeServices, ask: Ask) -> None:
    alive(services, "control", "drift", "train.cpu", "promote")
    services.timed.advance(120)
    assert ask()["workers"].level == "warning"


def test_a_registry_that_does_not_answer_hides_nothing_else(
    services: FakeServices, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: str) -> None:
        raise RegistryUnavailable("MLflow at http://registry does not answer")

    monkeypatch.setattr(services.fake_registry, "versions", silent)
    answers = ask()
    assert (answers["MLflow"].level, answers["MLflow"].found) == ("error", "MLflow at http://registry does not answer")
    assert answers["features of growth"].level == "ok"


def test_a_champion_that_the_registry_lost_is_an_error_with_the_way_out(services: FakeServices, ask: Ask) -> None:
    services.ledger.record_transition("growth", decision_for("3"))
    answer = ask()["registry of growth"]
    assert (answer.level, "acis registry restore growth" in answer.found) == ("error", True)


def test_a_view_without_rows_of_a_strategy_is_an_error_of_that_strategy(services: FakeServices, ask: Ask) -> None:
    known = {name: small_strategy(name) for name in ("growth", "value")}
    vars(services)["strategies"] = known
    answers = ask()
    assert (answers["features of growth"].level, answers["features of value"].level) == ("ok", "error")


def test_a_label_whose_column_is_missing_is_named(services: FakeServices, ask: Ask) -> None:
    services.with_policy(training=replace(services.strategies["growth"].training, label="target_alpha > 0"))
    answer = ask()["features of growth"]
    assert (answer.level, "target_alpha, which the view lacks" in answer.found) == ("error", True)


def test_too_few_current_rows_are_a_warning_before_they_are_a_verdict(services: FakeServices, ask: Ask) -> None:
    few = replace(services.strategies["growth"].data, min_current_rows=100)
    services.with_policy(data=replace(few, max_current_days=7))
    answer = ask()["features of growth"]
    assert (answer.level, "raise data.max_current_days" in answer.mend) == ("warning", True)
    services.with_policy(data=few)
    answer = ask()["features of growth"]
    assert (answer.level, "104 current rows" in answer.found) == ("ok", True)  # 13 days of 8 names
    assert "stretched from 7 to 13 days" in answer.found


def test_a_view_without_a_date_is_an_error(services: FakeServices, ask: Ask) -> None:
    services.with_source(panel().drop_columns(["date"]))
    levels = [answer.level for answer in ask().values() if answer.subject.startswith("features")]
    assert levels == ["error"]


def test_clocks_that_differ_are_told(services: FakeServices, ask: Ask) -> None:
    # The services' own clock stands at noon of the panel's last day.
    answer = ask()["clock"]
    assert answer.level == "warning"
    assert "NTP" in answer.mend


def test_dead_runs_and_stages_that_wait_too_long_are_told(services: FakeServices, ask: Ask) -> None:
    for _ in range(3):
        grant = (
            services.granted(Kind.CHECK, Stage.DRIFT)
            if not services.ledger.runs()
            else services.claimed(services.ledger.runs()[0].run_id, Stage.DRIFT)
        )
        services.ledger.fail(grant, error="it crashes", retry=True)
    services.ledger.accept(request_for("value"))
    services.timed.advance(1000)
    answers = ask()
    assert "1 runs have used up their attempts" in answers["dead runs"].found
    assert "has waited for 17 min" in answers["waiting stages"].found
    assert "1 outcomes have waited" in answers["outcomes"].found


def test_a_place_of_checkpoints_that_cannot_be_written_is_an_error(services: FakeServices, ask: Ask) -> None:
    services.settings.var_dir.mkdir(parents=True, exist_ok=True)
    (services.settings.var_dir / "checkpoints").write_text("")
    assert (ask()["checkpoints"].level, "ACIS_CHECKPOINT_URL" in ask()["checkpoints"].found) == ("error", True)


def test_a_misspelt_variable_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIS_LEASES_S", "60")
    told = CliRunner().invoke(app, ["doctor", "--json"])
    answers = {answer["subject"]: answer for answer in json.loads(told.output)}
    assert "did you mean ACIS_LEASE_S?" in answers["settings"]["found"]
    assert answers["strategies"]["level"] == "ok"
    assert told.exit_code == 1


def test_a_timetable_that_a_clock_has_carried_ahead_is_told(services: FakeServices, ask: Ask) -> None:
    entry = ScheduleEntry(
        key="growth:drift_check", strategy="growth", kind=Kind.PIPELINE, cron="0 3 * * *", offset_s=0, grace_s=0,
        last_slot=services.ledger.now() + timedelta(minutes=4),
    )  # fmt: skip
    services.ledger.sync_schedule([entry])
    assert "timetable" not in ask()
    services.timed.advance(-7200)
    answer = ask()["timetable"]
    assert (answer.level, "growth:drift_check" in answer.found) == ("warning", True)
    assert "sets the slots back" in answer.mend


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("sentinel://127.0.0.1:26379", "sentinel:// is not supported"),
        ("sentinel://a:26379;sentinel://b:26379", "names several servers"),
        ("redis+cluster://127.0.0.1:7000", "redis+cluster:// is not supported"),
        ("amqp://guest:s3cr3t@127.0.0.1//", "amqp:// is not supported"),
        ("memory://", "memory:// is not supported"),
        ("sqs://", "sqs:// is not supported"),
        ("127.0.0.1:6379", "is no address"),
        ("redis://:s3cr3t@127.0.0.1:port/0", "is no address of a Redis"),
        ("redis://:s3cr3t@[::1/0", "is no address of a Redis"),
        ("redis://127.0.0.1:6379/0?typo=1", "is no address of a Redis"),
        ("rediss://:s3cr3t@127.0.0.1:1/0?ssl_cert_reqs=maybe", "is no address of a Redis"),
        ("rediss://:s3cr3t@127.0.0.1:1/0?ssl_cert_reqs=CERT_NONE", "does not answer"),
        ("redis+socket:///nowhere/redis.sock?virtual_host=1", "does not answer"),
        ("unix:///nowhere/redis.sock", "does not answer"),
        ("redis://:s3cr3t@127.0.0.1:1/0", "does not answer"),
    ],
)
def test_whatever_the_brokers_address_is_doctor_says_it_in_words_and_goes_on(
    services: FakeServices, ask: Ask, address: str, words: str
) -> None:
    services.settings = services.settings.model_copy(update={"celery_broker_url": SecretStr(address)})
    answers = ask()
    told = answers["broker"]
    assert told.level == "error"
    assert words in told.found
    assert "s3cr3t" not in told.found
    assert answers["features of growth"].level == "ok"
    assert words in str(Broker(services.settings).look().error) or "does not answer" in words


def test_a_question_that_crashes_hides_no_other(
    services: FakeServices, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object) -> Iterator[Answer]:
        raise RuntimeError("postgresql://acis:s3cr3t@host/acis is odd")

    monkeypatch.setattr(doctor, "_mlflow", crash)
    answers = ask()
    assert answers["MLflow"].found == "this question itself failed: RuntimeError: postgresql://host/acis is odd"
    assert answers["features of growth"].level == "ok"


def test_a_date_that_does_not_count_is_a_warning_and_old_features_are_one(services: FakeServices, ask: Ask) -> None:
    services.today = LAST + timedelta(days=90)
    table = panel()
    day = pa.array([LAST + timedelta(days=84)], pa.date32())
    services.with_source(pa.concat_tables([table, table.slice(table.num_rows - 1).set_column(1, "date", day)]))
    found = ask()["features of growth"]
    assert found.level == "warning"
    assert f"as of {LAST}" in found.found
    assert "1 date does not count" in found.found
    data = replace(services.strategies["growth"].data, as_of="today", current_days=70, max_stale_days=60)
    services.with_policy(data=data)
    services.with_source(table)
    services.today = LAST + timedelta(days=61)
    assert f"the newest date that counts is {LAST}" in ask()["features of growth"].found
