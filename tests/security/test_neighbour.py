"""What another user of this machine can read or do: nothing of a stack's files, and nothing under a report's name."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from config.endpoints import Endpoints, write_endpoints
from devstack.account import server_account
from devstack.launch import write_programs
from devstack.layout import Layout, Ports
from devstack.plan import StackOptions, make_plan, role_of
from devstack.process import Program
from devstack.secrets import Secrets, ensure_secrets
from mlops.reporting.report_files import write_report, write_whole
from mlops.serving.champion_files import ChampionRecord, LocalCopies
from mlops.serving.spool import SpoolFolder
from mlops.serving.tokens import TokenCache

DAY = date(2026, 11, 27)
NAME = f"drift_report_growth_{DAY:%Y%m%d}.json"
DOCUMENT = {"verdict": {"verdict": "stable"}}
PORTS = Ports(mlflow=5000, flower=5555, admin=3000, serve=8080, redis=1, postgres=2, supervisor=3)
is_root = os.geteuid() == 0
as_root = pytest.mark.skipif(not is_root, reason="only root can be another user; the modes are tested everywhere")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody can pass, as a home or /tmp."""
    with tempfile.TemporaryDirectory(prefix="acis-test-neighbour-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def open_to_others(folder: Path) -> list[str]:
    """Paths below it, itself among them, that group or others may read, list or write."""
    found = []
    for path in (folder, *sorted(folder.rglob("*"))):
        mode = path.lstat().st_mode
        asked = stat.S_IRWXG | stat.S_IRWXO
        if path == folder and is_root:
            asked &= ~(stat.S_IXGRP | stat.S_IXOTH)  # PostgreSQL's account passes, and cannot list
        if not path.is_symlink() and mode & asked:
            found.append(f"{path.relative_to(folder)} {stat.S_IMODE(mode):o}")
    return found


def as_neighbour(work: Callable[[], list[str]]) -> list[str]:
    """What the function gives in a child of this process that runs as `nobody`; the interpreter may be out of reach."""
    account = pwd.getpwnam("nobody")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            os.write(writing, json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        content = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    found: list[str] = json.loads(content)
    return found


def readable(folder: Path, *named: Path) -> list[str]:
    """Files that this process can read: those that it finds below the folder, and those of a known name."""
    found = []
    listed = [Path(root) / name for root, _, files in os.walk(folder) for name in files]
    for path in (*listed, *named):
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.read(1)
            found.append(path.name)
    return found


def files_of_a_stack(var: Path) -> Layout:
    """All that a stack writes before its first server starts, and what says where it is."""
    layout = Layout(var_dir=var)
    layout.make()
    secrets, _ = ensure_secrets(var)
    options = StackOptions(var_dir=var, strategies_file=var / "s.toml", database_url="postgresql://u:p@host/db")
    plan = make_plan(options, layout=layout, ports=PORTS, secrets=secrets)
    write_programs(layout.programs_file, plan.programs)
    endpoints = Endpoints(
        database_url="postgresql://u:p@host/db",
        celery_broker_url=plan.urls.broker,
        celery_result_backend=plan.urls.results,
        mlflow_tracking_uri=plan.urls.mlflow,
        flower_url=plan.urls.flower,
        flower_credentials=var / "secrets.json",
        admin_url=plan.urls.admin,
        serve_url=plan.urls.serve,
        strategies_file=var / "s.toml",
        var_dir=var,
        supervisor_pid=os.getpid(),
        supervisor_birth="",
        started_at=datetime.now(UTC),
    )
    write_endpoints(endpoints)
    return layout


def test_files_of_a_stack_are_their_owners_alone(place: Path) -> None:
    layout = files_of_a_stack(place / "var")
    assert open_to_others(layout.var_dir) == []


def test_what_serving_keeps_is_its_owners_alone(place: Path) -> None:
    before = os.umask(0o022)
    try:
        copies = LocalCopies(place / "serving" / "models" / "a")
        copies.note(ChampionRecord(version="1", sha256="0" * 64, seq=1, confirmed_at="2026-11-27T00:00:00+00:00"))
        tokens = TokenCache(_NoTokens(), place / "serving" / "tokens" / "a" / "tokens.json")
        tokens._write()
        SpoolFolder.new(place / "serving" / "spool" / "a", "service").close()
    finally:
        os.umask(before)
    for part in ("models", "tokens", "spool"):
        assert open_to_others(place / "serving" / part / "a") == [], part


class _NoTokens:
    def token_of(self, text: str) -> None:
        """None is known."""


@as_root
def test_a_neighbour_reads_no_file_of_a_stack(place: Path) -> None:
    layout = files_of_a_stack(place / "var")
    named = [
        layout.var_dir / "secrets.json",
        layout.run_dir / "endpoints.json",
        layout.programs_file,
        layout.redis_config,
        layout.redis_config.with_suffix(".acl"),
        layout.ports_file,
    ]
    assert all(path.exists() for path in named if path != layout.ports_file)
    assert len(readable(layout.var_dir)) > len(named) - 2  # by its owner
    assert as_neighbour(lambda: readable(layout.var_dir, *named)) == []


def test_each_program_is_started_with_a_mask_that_keeps_its_files_private(place: Path) -> None:
    from devstack.supervise import render_config

    config = render_config({"roles": [Program(name="beat", command=("/bin/true",))]}, port=1, password="p")
    assert "umask=077" in config
    assert role_of("worker-train-cpu") == "train.cpu"


# ---- Reports in the folder that everybody may write


@pytest.fixture
def shared(place: Path) -> Path:
    """As /tmp is: everybody writes, and nobody takes away what is another's."""
    folder = place / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_a_report_is_read_by_its_user_and_group_alone(shared: Path) -> None:
    path = write_report(DOCUMENT, "growth", DAY, shared, owner="0" * 32)
    assert path == shared / NAME
    page = shared / "page.html"
    write_whole("a page", page)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, page)] == [0o640, 0o640]


@as_root
def test_a_neighbour_cannot_read_a_report(shared: Path) -> None:
    path = write_report(DOCUMENT, "growth", DAY, shared, owner="0" * 32)
    assert path is not None
    assert as_neighbour(lambda: readable(shared, path)) == []


@as_root
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_neighbour_put_there_is_an_error_that_leaves_nothing_behind(
    shared: Path, place: Path, kind: str
) -> None:
    precious = place / "precious"
    precious.write_text("mine")

    def put() -> list[str]:
        if kind == "file":
            (shared / NAME).write_text("{}")
        else:
            (shared / NAME).symlink_to(precious)
        return []

    as_neighbour(put)
    before = (shared / NAME).lstat()
    assert write_report(DOCUMENT, "growth", DAY, shared, owner="0" * 32) is None
    with pytest.raises(PermissionError, match="put there by another user of this machine"):
        write_whole("a page", shared / NAME)
    assert [path.name for path in shared.iterdir()] == [NAME]
    assert (shared / NAME).lstat() == before
    assert precious.read_text() == "mine"


def test_a_folder_in_which_everybody_may_replace_everything_is_no_place(shared: Path) -> None:
    shared.chmod(0o777)
    assert write_report(DOCUMENT, "growth", DAY, shared, owner="0" * 32) is None
    assert list(shared.iterdir()) == []


def test_the_documented_place_is_kept_where_nobody_else_has_it(shared: Path) -> None:
    for _ in range(2):
        assert write_report(DOCUMENT, "growth", DAY, shared, owner="0" * 32) == shared / NAME
    assert json.loads((shared / NAME).read_text())["ledger"] == "0" * 32


def test_the_server_account_is_nobody_of_ours() -> None:
    assert server_account() == ("nobody" if is_root else None)
    assert Secrets().postgres_password not in repr(Secrets())
