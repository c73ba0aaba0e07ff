"""A Compose project of its own: commands, containers, the ledger, and its end."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from config.settings import ROOT
from devstack.secrets import write_compose_secrets

REPLICATED = ("control", "drift", "train-cpu", "promote", "admin", "serve", "beat", "reconciler")
"""Services that may have two and more."""


class NotHeld(AssertionError):
    """Something that was promised did not hold."""


def say(words: str) -> None:
    """A line with the time."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {words}\n")
    sys.stdout.flush()


def run(*command: str, cwd: Path = ROOT, environ: dict[str, str] | None = None, is_checked: bool = True) -> str:
    """Standard output of a command. Raises NotHeld with its last words where it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environ or {})}, capture_output=True, text=True, check=False
    )
    if is_checked and done.returncode:
        raise NotHeld(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def compose_command() -> list[str]:
    """What COMPOSE names, `docker compose`, or `docker-compose`; empty where there is none."""
    named = os.environ.get("COMPOSE", "").split()
    for command in (named, ["docker", "compose"], ["docker-compose"]):
        if command and shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    return []


def engine_fault() -> str:
    """Why no container can be run here; empty where one can."""
    if shutil.which("docker") is None:
        return "there is no `docker` here"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "no container engine answers (`docker info`)"
    if not compose_command():
        return "there is neither `docker compose` nor `docker-compose`"
    missing = [image for image in base_images() if not _can_be_had(image)]
    return f"the engine has no {missing[0]} and cannot pull it" if missing else ""


def base_images() -> list[str]:
    """Images of others that the Dockerfile and the Compose files name, or the variables that stand for them."""
    text = "\n".join(
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("Dockerfile", "docker-compose.yml", "mlops/mlflow/services.yml")
    )
    named = re.findall(r"^ARG (PYTHON_IMAGE)=(\S+)|\$\{([A-Z]+_IMAGE):-([^}]+)\}", text, flags=re.MULTILINE)
    found = {one[0] or one[2]: one[1] or one[3] for one in named}
    return [os.environ.get(name) or image for name, image in found.items()]


def _can_be_had(image: str) -> bool:
    known = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0
    return known or subprocess.run(["docker", "pull", "-q", image], capture_output=True, check=False).returncode == 0


@contextmanager
def built_image(folder: Path) -> Iterator[str]:
    """Tag of our image, built from a folder by its own Dockerfile and removed at the end."""
    tag = f"test-{uuid.uuid4().hex[:8]}"
    say(f"builds acis-mlops:{tag} from {folder}")
    environ = {"DOCKER_BUILDKIT": os.environ.get("DOCKER_BUILDKIT", "0")}
    run("docker", "build", "--quiet", "--tag", f"acis-mlops:{tag}", str(folder), environ=environ)
    try:
        yield tag
    finally:
        run("docker", "image", "rm", f"acis-mlops:{tag}", is_checked=False)


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Folder with a commit's files, removed at the end."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="acis-compose-") as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def networks(file: str) -> Any:
    """Networks of a Compose file's text."""
    return yaml.safe_load(file).get("networks")


class Project:
    """A project that is taken down with its volumes at the end; where something did not hold, its logs are kept.

    folder : of secrets    tag : of the image    root : whose Compose file is used
    """

    def __init__(self, folder: Path, *, tag: str, root: Path = ROOT) -> None:
        self.name = f"acis-test-{uuid.uuid4().hex[:6]}"
        self.folder, self.tag = folder, tag
        self.root = self.begun_at = root
        env = folder / ".env"
        if not env.exists():
            env.write_text("OTEL_EXPORTER_OTLP_HEADERS=x-key=of-no-collector\nAWS_SESSION_TOKEN=of-no-store\n")
        write_compose_secrets(folder)
        self.env = dict(
            line.split("=", 1) for line in (folder / ".env").read_text(encoding="utf-8").splitlines() if "=" in line
        )
        first = free_ports(6)
        self.admin_ports = (first, first + 1)
        self.ports = {
            "ADMIN_PORT": f"{first}-{first + 1}",
            "SERVE_PORT": f"{first + 2}-{first + 3}",
            "MLFLOW_PORT": str(first + 4),
            "FLOWER_PORT": str(first + 5),
        }

    @property
    def environ(self) -> dict[str, str]:
        """Variables that Compose is given; those of a .env in the tree have no say."""
        return {
            **self.env,
            **self.ports,
            "SECRETS_DIR": str(self.folder / "secrets"),
            "IMAGE_TAG": self.tag,
            "COMPOSE_PROJECT_NAME": self.name,
        }

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Down with it, and nothing may be left."""
        if error is not None:
            place = ROOT / "build" / "compose" / f"{self.name}.log"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self.compose("logs", "--no-color", is_checked=False), encoding="utf-8")
            say(f"did not hold; the containers' logs are in {place}")
        try:
            self._down()
        except NotHeld as exc:
            if error is None:
                raise
            say(f"nor was it taken down: {exc}")

    def _down(self) -> None:
        for root in {self.begun_at, ROOT}:  # each file knows its own networks and volumes
            self.root = root
            self.compose("--profile", "demo", "--profile", "tools", "down", "-v", "--remove-orphans", "-t", "20")
        left = {what: self._left(what) for what in ("container", "volume", "network")}
        if any(left.values()):
            raise NotHeld(f"`down -v` left {left}")

    def _left(self, what: str) -> list[str]:
        every = ("--all",) if what == "container" else ()
        return run(
            "docker", what, "ls", *every, "-q", "--filter", f"label=com.docker.compose.project={self.name}"
        ).split()

    def compose(self, *arguments: str, is_checked: bool = True) -> str:
        """Output of a Compose command of the project."""
        command = [
            *compose_command(),
            "--project-directory",
            str(self.root),
            "-f",
            str(self.root / "docker-compose.yml"),
        ]
        return run(*command, *arguments, cwd=self.root, environ=self.environ, is_checked=is_checked)

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What `docker inspect` says of the project's containers, or of a service's."""
        wanted = ["--filter", f"label=com.docker.compose.project={self.name}"]
        wanted += ["--filter", f"label=com.docker.compose.service={service}"] if service else []
        ids = run("docker", "ps", "-aq", *wanted).split()
        found: list[dict[str, Any]] = (
            json.loads(run("docker", "inspect", *ids, is_checked=False) or "[]") if ids else []
        )
        return [one for one in found if one["Config"]["Labels"].get("com.docker.compose.oneoff", "False") != "True"]

    def one(self, service: str, index: int = 0) -> str:
        """Id of one of a service's running containers."""
        running = [one["Id"] for one in self.containers(service) if one["State"]["Running"]]
        return str(sorted(running)[index])

    def sql(self, query: str) -> list[list[str]]:
        """Rows of a query at the ledger, as text."""
        asked = ("exec", self.one("postgres"), "psql", "-U", "acis", "-d", "acis", "-AtF", "|", "-c", query)
        return [line.split("|") for line in run("docker", *asked).splitlines() if line]

    def until(self, is_so: Callable[[], bool], what: str, within_s: float = 300) -> float:
        """Seconds until it is so. Raises NotHeld at the end of its time."""
        begun = time.monotonic()
        while not _patiently(is_so):
            if time.monotonic() - begun > within_s:
                raise NotHeld(f"{what}: not within {within_s:.0f} s; {self.states()}")
            time.sleep(0.5)
        taken = time.monotonic() - begun
        say(f"{what}: after {taken:.0f} s")
        return taken

    def states(self) -> dict[str, str]:
        """State, or health, of each container by name."""
        return {one["Name"].strip("/"): _state(one) for one in self.containers()}

    def all_healthy(self) -> bool:
        """Every container that is to run is healthy, and every one-shot ended well."""
        states = [_state(one) for one in self.containers()]
        return bool(states) and all(state in ("healthy", "exited 0") for state in states)


def _state(container: dict[str, Any]) -> str:
    state = container["State"]
    if state["Status"] == "exited":
        return f"exited {state['ExitCode']}"
    return str(state.get("Health", {}).get("Status", state["Status"]))


def _patiently(is_so: Callable[[], bool]) -> bool:
    try:
        return is_so()
    except (NotHeld, IndexError):  # a server that is away just now
        return False


def free_ports(count: int) -> int:
    """First of so many neighbours that are free just now."""
    for first in random.sample(range(20_000, 32_000, count), 50):
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise NotHeld(f"no {count} free ports beside each other")
