"""The account that PostgreSQL runs as, since it refuses to run as root, and the folders that account can reach.

Not root: everything runs as ourselves, below `var/`. Root: as `nobody`, whose folder is `var/postgres` when
every folder above can be passed by others; a repository below `/root` cannot, so there the folder is made in
`/var/tmp` and `var/postgres` is a link to it. `remove_home` follows the link, plain `rm -r var` does not.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from mlops.domain.errors import ConfigurationError

_UNPRIVILEGED = "nobody"


def server_account() -> str | None:
    """None: ourselves. `nobody` when we are root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        message = f"PostgreSQL refuses to run as root and there is no account {_UNPRIVILEGED!r}; start as another user"
        raise ConfigurationError(message) from None
    return _UNPRIVILEGED


def identity(user: str) -> tuple[int, int]:
    """User and group id."""
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def can_execute(path: Path, user: str | None) -> bool:
    """The account may run the program, or pass the folder, with all folders above."""
    if user is None:
        return os.access(path, os.X_OK)
    uid, gid = identity(user)
    # Asked as that account: modes, owners, access lists and mounts all count.
    asked = subprocess.run(  # noqa: S603 -- our own program, and arguments of ours
        ["/usr/bin/test", "-x", str(path)], check=False, user=uid, group=gid, extra_groups=[], cwd="/"
    )
    return asked.returncode == 0


def make_home(wanted: Path, user: str | None) -> Path:
    """A folder of mode 700 owned by `user`: `wanted` itself, or, where `user` cannot reach it, one it links to."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if user is None:
        wanted.mkdir(exist_ok=True, mode=0o700)
        return wanted
    uid, gid = identity(user)
    if wanted.exists():
        return _checked(wanted.resolve(), uid)
    if wanted.is_symlink():
        wanted.unlink()  # its folder is gone: /var/tmp was cleaned
    if can_execute(wanted.parent, user):
        wanted.mkdir(mode=0o700)
        home = wanted
    else:
        place = Path("/var/tmp")  # noqa: S108 -- a random name of mode 700 is made there; kept over restarts
        home = Path(tempfile.mkdtemp(prefix="acis-postgres-", dir=place if place.is_dir() else None))
        wanted.symlink_to(home)
    os.chown(home, uid, gid)
    return home


def _checked(home: Path, uid: int) -> Path:
    owner = home.stat().st_uid
    if owner != uid:
        message = f"{home} belongs to user id {owner}, but the server must run as {uid}; move it away or `make clean`"
        raise ConfigurationError(message)
    return home


def remove_home(wanted: Path) -> None:
    """Remove what `make_home` made, and the link to it."""
    target = wanted.resolve()
    if wanted.is_symlink():
        wanted.unlink()
    shutil.rmtree(target, ignore_errors=True)
