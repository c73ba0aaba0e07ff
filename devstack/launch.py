"""`python -m devstack.launch NAME`: becomes a program of the stack; supervisord runs this for each one.

The programs stand in a file of mode 600, so that neither a command line nor supervisord's configuration
holds a secret, and no path needs quoting. The program ends when supervisord dies, however that happens.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from config.private_file import write_private
from config.role_files import forget
from config.roles import may_have
from devstack.plan import role_of
from devstack.process import VAR_VARIABLE, Program, die_with_parent


def write_programs(path: Path, programs: list[Program]) -> None:
    """Write the programs for `main` to read."""
    said = {program.name: asdict(program) for program in programs}
    write_private(path, json.dumps(said, default=_as_json, indent=1))


def _as_json(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def read_program(path: Path, name: str) -> Program:
    """One of the programs."""
    found = json.loads(path.read_text(encoding="utf-8"))[name]
    parts = {"command": tuple(found["command"]), "cwd": Path(found["cwd"]), "inherits": frozenset(found["inherits"])}
    return Program(**{**found, **parts})


def environment_of(program: Program, inherited: Mapping[str, str]) -> dict[str, str]:
    """The program's environment: what it inherits without the secrets of others, and its own."""
    return {
        **{name: value for name, value in inherited.items() if may_have(name, program.inherits)},
        **program.environment,
    }


def main(arguments: list[str]) -> None:
    """Become the program: this process's id, log and parent stay."""
    path, name = Path(arguments[0]), arguments[1]
    program = read_program(path, name)
    forget(Path(os.environ[VAR_VARIABLE]), role_of(name))
    os.chdir(program.cwd)
    if program.user is not None:
        account = pwd.getpwnam(program.user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    # After the change of account, which would clear it.
    die_with_parent(signal.Signals[f"SIG{program.stop_signal}"])
    os.execve(program.command[0], program.command, environment_of(program, os.environ))  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
