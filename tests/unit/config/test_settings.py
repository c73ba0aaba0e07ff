"""Settings: where a value comes from, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from config.endpoints import Endpoints, process_birth, write_endpoints
from config.settings import Settings, SettingsError, load_settings, variables


def announce(var_dir: Path, *, birth: str | None = None) -> None:
    """What `make run` writes; this process stands for its supervisor."""
    write_endpoints(
        Endpoints(
            database_url="postgresql://announced/db", celery_broker_url="redis://:pw@announced/0",
            celery_result_backend="redis://:pw@announced/1", mlflow_tracking_uri="http://announced:5000",
            flower_url="http://announced:5555", flower_credentials=var_dir / "flower.json",
            admin_url="http://announced:3000/admin", serve_url="http://announced:8080",
            strategies_file=var_dir / "strategies.toml", var_dir=var_dir, supervisor_pid=os.getpid(),
            supervisor_birth=process_birth(os.getpid()) if birth is None else birth, started_at=datetime.now(UTC),
        )
    )  # fmt: skip


# --------------------------------------------------------------------------- where a value comes from


def test_the_environment_wins_over_a_running_stack_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default = load_settings()
    assert (default.database_url, default.mlflow_tracking_uri) == (None, None)
    announce(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine:5000")
    found = load_settings()
    assert found.database_url is not None
    assert found.database_url.get_secret_value() == "postgresql://announced/db"
    assert found.strategies_file == tmp_path / "strategies.toml"
    assert found.mlflow_tracking_uri == SecretStr("http://mine:5000")


def test_explicit_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    announce(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://env/db")
    assert Settings(database_url=SecretStr("sqlite:///x")).database_url == SecretStr("sqlite:///x")


def test_a_stack_that_no_longer_runs_is_not_asked(tmp_path: Path) -> None:
    announce(tmp_path, birth="0")  # the pid is used again by another process
    assert load_settings().database_url is None


def test_an_empty_variable_means_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    announce(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("ACIS_LEASE_S", "")
    found = load_settings()
    assert found.database_url == SecretStr("postgresql://announced/db")
    assert found.lease_s == 60.0


def test_outcomes_go_to_the_broker_unless_another_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://broker/0")
    assert load_settings().result_backend_url == SecretStr("redis://broker/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://results/1")
    assert load_settings().result_backend_url == SecretStr("redis://results/1")


def test_features_come_from_the_database_unless_another_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://env/db")
    assert load_settings().feature_url == SecretStr("postgresql://env/db")
    monkeypatch.setenv("ACIS_FEATURE_SOURCE", "/data/features")
    assert load_settings().feature_url == SecretStr("/data/features")


# --------------------------------------------------------------------------- what is refused


def test_a_misspelt_variable_is_refused_with_the_name_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIS_LEASES", "30")
    with pytest.raises(SettingsError, match=r"ACIS_LEASES is not known; did you mean ACIS_LEASE_S\?"):
        load_settings()


def test_a_variable_that_resembles_none_is_refused_with_all_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIS_QQQQQQQQ", "1")
    with pytest.raises(SettingsError, match=r"known are ACIS_VAR_DIR, .*ACIS_LOG_FORMAT"):
        load_settings()


def test_a_newer_versions_variable_is_left_aside_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ACIS_KNOWN_VARIABLES", "ACIS_LEASE_S, ACIS_OF_NEXT_YEAR,ACIS_OF_THE_YEAR_AFTER")
    monkeypatch.setenv("ACIS_OF_NEXT_YEAR", "1")
    monkeypatch.setenv("ACIS_LEASE_S", "45")
    assert load_settings().lease_s == 45.0
    load_settings()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("settings.newer_variables ACIS_OF_NEXT_YEAR: ")


def test_a_variable_that_a_newer_version_does_not_know_either_is_refused_by_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACIS_KNOWN_VARIABLES", "ACIS_OF_NEXT_YEAR")
    monkeypatch.setenv("ACIS_OF_NEXT_YAER", "1")
    with pytest.raises(SettingsError, match=r"ACIS_OF_NEXT_YAER is not known; did you mean ACIS_OF_NEXT_YEAR\?"):
        load_settings()


def test_other_programs_variables_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACISTOOL", "1")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACIS_LEASE_S", "soon"),
        ("ACIS_LEASE_S", "0"),
        ("ACIS_RENEW_S", "-1"),
        ("ACIS_TRAIN_CONCURRENCY", "0"),
        ("ACIS_FLOWER_PORT", "65536"),
        ("ACIS_LOG_LEVEL", "LOUD"),
        ("ACIS_SERVERS", "cloud"),
    ],
)
def test_a_value_that_is_not_valid_is_refused_by_its_variables_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"environment variable {name} is not valid"):
        load_settings()


@pytest.mark.parametrize(
    ("lease_s", "renew_s"),
    [("10", None), ("29.9", None), (None, "20.1"), ("10", "3.4"), ("3", "1.1")],
)
def test_a_lease_that_a_missed_renewal_would_end_is_refused_by_both_names(
    monkeypatch: pytest.MonkeyPatch, lease_s: str | None, renew_s: str | None
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{SECRET}@host/db")
    for name, value in (("ACIS_LEASE_S", lease_s), ("ACIS_RENEW_S", renew_s)):
        if value:
            monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"ACIS_RENEW_S \(.* at most a third of ACIS_LEASE_S \(") as caught:
        load_settings()
    assert SECRET not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize(("lease_s", "renew_s"), [("10", "2"), ("30", "10"), ("3", "1")])
def test_a_lease_of_three_renewals_is_allowed(monkeypatch: pytest.MonkeyPatch, lease_s: str, renew_s: str) -> None:
    monkeypatch.setenv("ACIS_LEASE_S", lease_s)
    monkeypatch.setenv("ACIS_RENEW_S", renew_s)
    assert (load_settings().lease_s, load_settings().renew_s) == (float(lease_s), float(renew_s))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().lease_s = 1.0  # type: ignore[misc]


# --------------------------------------------------------------------------- secrets

SECRET = "s3cr3t-value"
SECRETS = {
    "DATABASE_URL": f"postgresql://user:{SECRET}@host/db",
    "CELERY_BROKER_URL": f"redis://:{SECRET}@host/0",
    "CELERY_RESULT_BACKEND": f"redis://:{SECRET}@host/1",
    "MLFLOW_TRACKING_URI": f"https://user:{SECRET}@host",
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": SECRET,
    "FLOWER_BASIC_AUTH": f"user:{SECRET}",
    "ACIS_FEATURE_SOURCE": f"postgresql://user:{SECRET}@host/db",
}


def test_no_secret_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    found = load_settings()
    assert SECRET not in repr(found) + str(found) + str(found.model_dump()) + found.model_dump_json()


def test_no_secret_has_a_default() -> None:
    defaults = {field.validation_alias: field.default for field in Settings.model_fields.values()}
    assert {name: defaults[name] for name in SECRETS} == dict.fromkeys(SECRETS)


def test_an_error_does_not_quote_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIS_LEASE_S", SECRET)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_the_documented_variables_are_settings() -> None:
    assert set(variables()) >= {
        "DATABASE_URL", "MLFLOW_TRACKING_URI", "MLFLOW_ARTIFACT_ROOT", "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD", "MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND",
    }  # fmt: skip


def test_the_clockwork_leaves_four_renewals_to_a_lease() -> None:
    found = load_settings()
    assert (found.lease_s, found.renew_s, found.reconcile_s) == (60.0, 10.0, 30.0)
    assert found.lease_s / found.renew_s >= 4
