"""`python -m worker ROLE [NAME]`: starts one process of the system, the same in make run, Compose and Kubernetes.

NAME tells the health files of workers of one role in one var folder apart; their names in the ledger and in Flower are
unique by themselves.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
import threading

from config.log_setup import set_up_logging
from config.role_files import forget
from config.roles import ACCESS
from config.settings import Settings, SettingsError, load_settings
from mlops import tracing
from mlops.domain.errors import AcisError, CheckpointsUnavailable, NothingConfigured
from worker.routing import ROLES

COMMANDS = (*ROLES, "beat", "reconciler", "flower", "admin", "serve")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


def main(arguments: list[str]) -> int:
    """Exit code; 2 for a wrong role, name or setting."""
    role, *names = arguments or [""]
    if role not in COMMANDS or not all(_NAME.fullmatch(name) for name in names) or len(names) > 1:
        sys.stderr.write(f"usage: python -m worker ROLE [NAME], with ROLE one of {', '.join(COMMANDS)}\n")
        return 2
    os.umask(0o077)  # what a role writes is for its own user, whoever starts it
    os.environ["WORKER_NAME"] = instance = "-".join(arguments)
    try:
        settings = load_settings()
        # A container that is started again finds the /tmp of before.
        forget(settings.var_dir, instance)
        _look_at_store(role, settings)
        if role in ROLES:
            return _worker(role, instance, settings)
        others = {"beat": _beat, "reconciler": _reconciler, "flower": _flower, "admin": _admin, "serve": _serve}
        return others[role](settings)
    except (SettingsError, AcisError) as exc:
        sys.stderr.write(f"{role}: {exc}\n")
        return 2


def _look_at_store(role: str, settings: Settings) -> None:
    """Raise CheckpointsUnavailable where an object store refuses a training worker's checkpoints.

    A wrong name shows at once so, and not at the first takeover. One that does not answer is waited for where it is
    needed; the roles that runs cannot do without, the reconciler before all, start whatever it says, and log it.
    """
    if not ACCESS[role].object_store or role == "serve" or not settings.checkpoint_place.startswith("s3://"):
        return
    from tasks.services import connect  # noqa: PLC0415 -- a second, for S3 alone

    try:
        connect(settings).checkpoints.check()
    except CheckpointsUnavailable as exc:
        if exc.is_refused and role.startswith("train."):
            raise
        sys.stderr.write(f"{role}: goes on without checkpoints for now: {exc}\n")


def _worker(role: str, instance: str, settings: Settings) -> int:
    os.environ["WORKER_ROLE"] = role
    spec = ROLES[role]
    concurrency = {"drift": settings.drift_concurrency, "train.cpu": settings.train_concurrency}.get(
        role, spec.concurrency
    )
    # exec: the worker becomes this process, so that a supervisor's signal reaches it.
    os.execv(  # noqa: S606
        sys.executable,
        [
            sys.executable, "-m", "celery", "-A", "worker.main", "worker",
            "-Q", spec.queue,
            "-n", f"{instance}@%h.{secrets.token_hex(4)}",  # `mlops.domain.records.place_of`
            "-c", str(concurrency or os.cpu_count() or 1),
            "--without-mingle", "--without-gossip",  # their reply keys leak
            "-l", settings.log_level,
        ],
    )  # fmt: skip


def _beat(settings: Settings) -> int:
    os.execv(  # noqa: S606
        sys.executable,
        [sys.executable, "-m", "celery", "-A", "worker.main", "beat", "-l", settings.log_level, "--pidfile="],
    )


def _flower(settings: Settings) -> int:
    if settings.flower_basic_auth is None:
        message = "Flower does not start without authentication; set FLOWER_BASIC_AUTH=user:password"
        raise NothingConfigured(message)
    # By the environment, not by the command line, where every user of the machine could read it.
    os.environ["FLOWER_BASIC_AUTH"] = settings.flower_basic_auth.get_secret_value()
    os.execv(  # noqa: S606
        sys.executable,
        [
            sys.executable, "-m", "celery", "-A", "worker.main", "flower",
            f"--address={settings.flower_host}", f"--port={settings.flower_port}",
            "--max_tasks=20000", "--purge_offline_workers=300",
        ],
    )  # fmt: skip


def _admin(_: Settings) -> int:
    # exec, and not an import: the page stands beside this package, not below it.
    os.execv(sys.executable, [sys.executable, "-m", "admin"])  # noqa: S606


def _serve(settings: Settings) -> int:
    from worker.serve import serve  # noqa: PLC0415 -- the other roles need none of it

    set_up_logging(level=settings.log_level, style=settings.log_format)
    serve(settings)
    return 0


def _reconciler(settings: Settings) -> int:
    from tasks.services import connect  # noqa: PLC0415 -- the other roles exec at once and need no import
    from worker.app import create_app  # noqa: PLC0415
    from worker.reconciler import run_forever  # noqa: PLC0415

    set_up_logging(level=settings.log_level, style=settings.log_format)
    tracing.begin("reconciler")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_forever(create_app(settings), connect(settings), stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
