"""Secrets, folders, plans and the lock of a stack."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from devstack.layout import Layout, Ports, StackLock, holder
from devstack.plan import StackOptions, make_plan
from devstack.secrets import Secrets, add_missing, ensure_secrets, env_lines, write_compose_secrets
from mlops.domain.errors import AlreadyRunning, ConfigurationError

PORTS = Ports(mlflow=5000, flower=5555, admin=3000, serve=8080, redis=1, postgres=2, supervisor=3)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once(tmp_path: Path) -> None:
    first, made = ensure_secrets(tmp_path / "var")
    again, made_again = ensure_secrets(tmp_path / "var")
    assert (made, made_again) == (True, False)
    assert first == again


def test_only_the_owner_reads_the_secrets(tmp_path: Path) -> None:
    ensure_secrets(tmp_path / "var")
    assert mode(tmp_path / "var") == 0o700
    assert mode(tmp_path / "var" / "secrets.json") == 0o600


def test_no_two_secrets_are_equal() -> None:
    made = [Secrets(), Secrets()]
    passwords = {getattr(one, f"{name}_password") for one in made for name in ("postgres", "redis", "flower", "admin")}
    assert len(passwords) == 8


def test_secrets_do_not_show_in_a_log() -> None:
    secrets = Secrets()
    assert secrets.redis_password not in repr(secrets)


def test_a_damaged_secrets_file_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"redis_password": "x"}))
    with pytest.raises(ConfigurationError, match=r"lacks postgres_password"):
        ensure_secrets(tmp_path)
    assert json.loads(path.read_text()) == {"redis_password": "x"}


def test_a_secrets_file_of_before_the_admin_page_gets_what_it_lacks_and_keeps_the_rest(tmp_path: Path) -> None:
    first, _ = ensure_secrets(tmp_path)
    path = tmp_path / "secrets.json"
    old = {name: value for name, value in json.loads(path.read_text()).items() if not name.startswith("admin")}
    path.write_text(json.dumps(old))
    mended, made = ensure_secrets(tmp_path)
    assert (mended.redis_password, made, mode(path)) == (first.redis_password, False, 0o600)
    assert mended.admin_password != first.admin_password
    assert ensure_secrets(tmp_path)[0] == mended


def test_a_secrets_file_of_before_mlflow_asked_for_a_name_gets_a_password_for_each_identity(tmp_path: Path) -> None:
    first, _ = ensure_secrets(tmp_path)
    path = tmp_path / "secrets.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if "mlflow" not in name})
    )
    mended, made = ensure_secrets(tmp_path)
    assert (mended.redis_password, made, mode(path)) == (first.redis_password, False, 0o600)
    assert set(mended.mlflow_passwords) == {"viewer", "reader", "trainer", "registrar"}
    assert ensure_secrets(tmp_path)[0] == mended


def test_a_file_of_passwords_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# ours\nPOSTGRES_PASSWORD=kept\nREDIS_PASSWORD=\nIMAGE_TAG=\n")
    path.chmod(0o644)
    added = add_missing(path)
    lines = path.read_text().splitlines()
    assert lines[:3] == ["# ours", "POSTGRES_PASSWORD=kept", "IMAGE_TAG="]
    assert mode(path) == 0o600
    assert [line.partition("=")[0] for line in lines[3:]] == added
    assert {"REDIS_PASSWORD", "REDIS_BACKEND_PASSWORD", "MLFLOW_VIEWER_PASSWORD"} <= set(added)
    assert "POSTGRES_PASSWORD" not in added
    assert add_missing(path) == []
    assert path.read_text().splitlines() == lines


def test_a_file_of_passwords_is_made_and_holds_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "users.env"
    assert add_missing(path) == [line.partition("=")[0] for line in env_lines()]
    assert mode(path) == 0o600


def test_compose_is_written_a_file_for_each_secret_of_each_container(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REDIS_DRIFT_PASSWORD=kept\nACIS_FEATURE_SOURCE=postgresql://mine:pw@db/x\n")
    added = write_compose_secrets(tmp_path)
    place = tmp_path / "secrets"
    assert "REDIS_DRIFT_PASSWORD" not in added
    assert (tmp_path / ".env").read_text().splitlines()[-1] == "SECRETS_DIR=./secrets"
    assert (mode(tmp_path / ".env"), mode(place)) == (0o600, 0o700)
    assert (place / "drift" / "CELERY_BROKER_URL").read_text() == "redis://drift:kept@redis:6379/0"
    assert (place / "drift" / "ACIS_FEATURE_SOURCE").read_text() == "postgresql://mine:pw@db/x"
    files = list(place.glob("*/*"))
    assert {mode(path) for path in files} == {0o600 if os.geteuid() == 0 else 0o444}
    assert {mode(path.parent) for path in files} == {0o755}  # the container's user enters it, inside `place` alone


def test_composes_secrets_follow_its_env_and_nothing_stale_is_left(tmp_path: Path) -> None:
    write_compose_secrets(tmp_path)
    place, env = tmp_path / "secrets", tmp_path / ".env"
    before = {path: path.read_text() for path in place.glob("*/*")}
    stale = (place / "formerly" / "DATABASE_URL", place / "beat" / "FORMERLY")
    stale[0].parent.mkdir()
    for path in stale:
        path.write_text("old")
    manifest = place / ".written-by-acis"
    ours = manifest.read_text()
    manifest.write_text(f"{ours}\nformerly/DATABASE_URL\nbeat/FORMERLY\n../OUTSIDE\nnever/WRITTEN")
    (tmp_path / "OUTSIDE").write_text("not ours")
    assert write_compose_secrets(tmp_path) == []
    assert {path: path.read_text() for path in place.glob("*/*")} == before
    assert not stale[0].parent.exists()
    assert (tmp_path / "OUTSIDE").exists()
    assert manifest.read_text() == ours
    env.write_text(env.read_text().replace("REDIS_BEAT_PASSWORD=", "REDIS_BEAT_PASSWORD=\nWAS="))
    assert write_compose_secrets(tmp_path) == ["REDIS_BEAT_PASSWORD"]
    changed = {str(path.relative_to(place)) for path, text in before.items() if path.read_text() != text}
    assert changed == {
        *("beat/CELERY_BROKER_URL", "beat/CELERY_RESULT_BACKEND"),
        "server-users/REDIS_BEAT_PASSWORD",
    }


def test_composes_secrets_take_nothing_away_that_they_did_not_write(tmp_path: Path) -> None:
    write_compose_secrets(tmp_path)
    theirs = [tmp_path / "secrets" / name for name in ("of-somebody/KEY", "beat/OF_SOMEBODY", "drift/notes.txt")]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("kept")
    write_compose_secrets(tmp_path)
    assert [path.read_text() for path in theirs] == ["kept"] * 3


@pytest.mark.parametrize("named", [".", "./mine"])
def test_composes_secrets_are_not_written_into_a_folder_of_somebody_else(tmp_path: Path, named: str) -> None:
    theirs = tmp_path / "mine" / "drift" / "DATABASE_URL"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("kept")
    (tmp_path / ".env").write_text(f"SECRETS_DIR={named}\n")
    modes = {path: mode(path) for path in (tmp_path, tmp_path / "mine")}
    with pytest.raises(ConfigurationError, match=r"was not made by this command .*Name a new folder in SECRETS_DIR"):
        write_compose_secrets(tmp_path)
    assert theirs.read_text() == "kept"
    assert {path: mode(path) for path in modes} == modes
    assert {path.name for path in tmp_path.iterdir()} == {".env", "mine"}


def test_composes_secrets_lie_at_a_place_that_both_compose_files_find(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"SECRETS_DIR={tmp_path / 'elsewhere'}\n")
    with pytest.raises(ConfigurationError, match=r"docker-compose\.mlflow\.yml counts it from .*as \./secrets"):
        write_compose_secrets(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    var = tmp_path / "shared"
    var.mkdir()
    var.chmod(0o755)
    Layout(var_dir=var).make()
    assert mode(var) == 0o755
    assert mode(Layout(var_dir=var).run_dir) == 0o700


def test_a_var_folder_that_is_a_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(ConfigurationError, match="set ACIS_VAR_DIR"):
        Layout(var_dir=tmp_path / "var").make()


def test_one_process_holds_the_lock_and_the_next_is_told_who(tmp_path: Path) -> None:
    import os

    layout = Layout(var_dir=tmp_path / "var")
    layout.make()
    with StackLock(layout.lock_file):
        assert holder(layout.lock_file) == os.getpid()
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            StackLock(layout.lock_file).acquire()
    assert holder(layout.lock_file) is None


def test_servers_that_are_given_are_not_started_and_their_mlflow_is_ours_on_sqlite(tmp_path: Path) -> None:
    layout = Layout(var_dir=tmp_path / "var")
    layout.make()
    options = StackOptions(
        var_dir=layout.var_dir,
        strategies_file=tmp_path / "s.toml",
        database_url="postgresql://them/db",
        celery_broker_url="redis://them/0",
    )
    plan = make_plan(options, layout=layout, ports=PORTS, secrets=Secrets())
    assert plan.servers == ()
    assert plan.postgres_admin_url is None
    assert plan.tracking[0].environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{layout.mlflow_sqlite}"
    assert plan.urls.results == "redis://them/0"
    assert not layout.postgres_home.exists()


def test_no_mlflow_is_started_where_one_is_given(tmp_path: Path) -> None:
    layout = Layout(var_dir=tmp_path / "var")
    layout.make()
    options = StackOptions(
        var_dir=layout.var_dir,
        strategies_file=tmp_path / "s.toml",
        database_url="postgresql://them/db",
        celery_broker_url="redis://them/0",
        mlflow_tracking_uri="http://them:5000",
        roles=("drift",),
    )
    plan = make_plan(options, layout=layout, ports=PORTS, secrets=Secrets())
    assert list(plan.groups) == ["roles"]
    environment = plan.roles[0].environment
    assert environment["MLFLOW_TRACKING_URI"] == "http://them:5000"
    assert environment["DATABASE_URL"] == "postgresql://them/db"


def test_no_secret_is_on_a_command_line(tmp_path: Path) -> None:
    layout = Layout(var_dir=tmp_path / "var")
    layout.make()
    secrets = Secrets()
    options = StackOptions(
        var_dir=layout.var_dir, strategies_file=tmp_path / "s.toml", database_url="postgresql://u:their-secret@them/db"
    )
    plan = make_plan(options, layout=layout, ports=PORTS, secrets=secrets)
    words = " ".join(word for program in plan.programs for word in program.command)
    assert "their-secret" not in words
    assert secrets.redis_password not in words
    assert secrets.flower_password not in words
    assert secrets.admin_password not in words
    users = layout.redis_config.with_suffix(".acl")
    assert f"#{hashlib.sha256(secrets.redis_password.encode()).hexdigest()}" in users.read_text()
    assert secrets.redis_password not in layout.redis_config.read_text() + users.read_text()
    assert (mode(layout.redis_config), mode(users)) == (0o600, 0o600)
