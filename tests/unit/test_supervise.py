"""The generated configuration of the supervisor."""

from __future__ import annotations

import configparser
from pathlib import Path

from devstack.launch import read_program, write_programs
from devstack.plan import ROLES, role_programs
from devstack.process import Program
from devstack.supervise import render_config

SECRET = "do-not-tell"


def parsed(groups: dict[str, list[Program]]) -> configparser.RawConfigParser:
    # Read as supervisor reads it.
    config = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    config.read_string(render_config(groups, port=9001, password="control"))
    return config


def program(name: str, **more: object) -> Program:
    return Program(name=name, command=("/bin/true",), environment={"PASSWORD": SECRET}, **more)  # type: ignore[arg-type]


def test_roles_start_after_the_servers_and_stop_before_them() -> None:
    config = parsed({"servers": [program("redis"), program("postgres")], "roles": [program("beat")]})
    # supervisord stops the group with the highest priority first
    assert config.getint("group:roles", "priority") > config.getint("group:servers", "priority")
    assert config["group:servers"]["programs"] == "redis,postgres"


def test_no_secret_of_a_program_is_in_the_configuration() -> None:
    assert SECRET not in render_config({"servers": [program("redis")]}, port=1, password="control")


def test_control_is_on_loopback_and_guarded() -> None:
    section = parsed({})["inet_http_server"]
    assert section["port"] == "127.0.0.1:9001"
    assert section["password"] == "control"


def test_every_program_is_restarted_for_ever_and_killed_with_its_children() -> None:
    config = parsed({"roles": [program("beat")]})
    section = config["program:beat"]
    assert section["autorestart"] == "true"
    assert section.getint("startretries") >= 1_000_000
    assert section["killasgroup"] == "true"


def test_logs_are_rotated() -> None:
    section = parsed({"roles": [program("beat")]})["program:beat"]
    assert section["stdout_logfile"] == "../log/beat.log"  # relative to the folder run/
    assert section["stdout_logfile_maxbytes"] == "10MB"


def test_a_program_survives_its_file_whatever_its_words_are(tmp_path: Path) -> None:
    path = tmp_path / "programs.json"
    odd = Program(name="odd", command=("/a b;c #d%(e)s", "'", '"'), environment={"A": "%s ; #"}, cwd=tmp_path)
    write_programs(path, [odd])
    assert read_program(path, "odd") == odd


def test_only_the_owner_reads_the_programs_file(tmp_path: Path) -> None:
    path = tmp_path / "programs.json"
    write_programs(path, [program("redis")])
    assert path.stat().st_mode & 0o777 == 0o600


def test_workers_have_time_to_drain_and_are_named_for_their_role() -> None:
    programs = {one.name: one for one in role_programs(ROLES, environment=lambda _: {}, cwd=Path("/"))}
    assert set(programs) == {
        "worker-control", "worker-drift", "worker-train-cpu", "worker-promote", "beat", "reconciler", "flower", "admin",
        "serve",
    }  # fmt: skip
    assert programs["worker-train-cpu"].command[-3:] == ("-m", "worker", "train.cpu")
    # a drain takes up to 15 s
    assert all(one.stop_wait_s > 15 for name, one in programs.items() if name.startswith("worker-"))
