"""Size of the image by layer, and how long each role takes to start in it, beside the build of another commit.

    .venv/bin/python bench/image.py [--quick] [--json] [--before HEAD~1] [--images BEFORE AFTER]

Needs a container engine (`docker`), whose bridge this host reaches. Builds this tree and the commit before, unless two
images are named, then starts each role in turn on both, beside one PostgreSQL and one Redis, until it says that it
serves: a worker by its readiness file, a page by its answer. Prints medians.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DOCKER, GIT, TAR = (shutil.which(name) or name for name in ("docker", "git", "tar"))
ROOT = Path(__file__).resolve().parents[1]
WORKERS = ("control", "drift", "train.cpu", "promote", "beat", "reconciler")
PAGES = {
    "flower": (5555, "/healthcheck"),
    "admin": (3000, "/healthz"),
    "serve": (8080, "/readyz"),
    "mlflow": (5000, "/health"),
}
_GIVE_UP_S = 300.0
_MIB = 2**20


def docker(*arguments: str) -> str:
    """Output of a docker command."""
    environment = {**os.environ, "DOCKER_BUILDKIT": os.environ.get("DOCKER_BUILDKIT", "0")}
    done = subprocess.run([DOCKER, *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"docker {' '.join(arguments[:2])} failed: {done.stderr.strip()[-800:]}")
    return done.stdout.strip()


def build(commit: str | None) -> str:
    """Tag of an image of a commit; None: of this tree."""
    tag = f"acis-mlops:bench-{uuid.uuid4().hex[:8]}"
    if commit is None:
        docker("build", "--quiet", "--tag", tag, str(ROOT))
        return tag
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        archive = subprocess.run([GIT, "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run([TAR, "-x", "-C", folder], input=archive, check=True)
        docker("build", "--quiet", "--tag", tag, folder)
    return tag


def size_mib(image: str) -> float:
    """Of all layers."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / _MIB


def layers(image: str) -> list[tuple[float, str]]:
    """MiB and command of each layer, largest first; those below 1 MiB are left out."""
    lines = docker(
        "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image
    ).splitlines()
    found = [
        (int(size) / _MIB, " ".join(command.split())[:100]) for size, command in (line.split("\t", 1) for line in lines)
    ]
    return sorted((one for one in found if one[0] >= 1), reverse=True)


def image_of(name: str) -> str:
    """The image that docker-compose.yml or a file that it extends names by default."""
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / "mlops" / "mlflow" / "services.yml").read_text()
    found = re.search(rf"\$\{{{name}:-([^}}]+)\}}", text)
    assert found is not None  # noqa: S101 -- our own files
    return found[1]


class Bench:
    """A network with the servers that the roles want; each start is one container."""

    def __init__(self) -> None:
        self.network = f"acis-bench-{uuid.uuid4().hex[:8]}"
        self.password = uuid.uuid4().hex

    @contextmanager
    def servers(self) -> Iterator[None]:
        """PostgreSQL with two databases, and Redis; removed at the end, with whatever else the network has."""
        docker("network", "create", self.network)
        try:
            self._run(
                "postgres",
                image_of("POSTGRES_IMAGE"),
                env={"POSTGRES_USER": "acis", "POSTGRES_PASSWORD": self.password},
            )
            self._run("redis", image_of("REDIS_IMAGE"))
            asked = (
                "exec",
                "--env",
                f"PGPASSWORD={self.password}",
                f"{self.network}-postgres",
                "psql",
                "-h",
                "127.0.0.1",
                "-U",
                "acis",
                "-c",
            )
            self._until(lambda: self._is_right(*asked, "SELECT 1"), "PostgreSQL")
            docker(*asked, "CREATE DATABASE mlflow")
            yield
        finally:
            left = docker("ps", "-aq", "--filter", f"network={self.network}").split()
            if left:
                docker("rm", "-fv", *left)
            docker("network", "rm", self.network)

    def migrate(self, image: str) -> None:
        """Make the ledger's tables."""
        docker("run", "--rm", "--network", self.network, *self._environment("migrate"),
               "--entrypoint", "python", image, "-m", "cli.app", "migrate")  # fmt: skip

    def start_s(self, image: str, role: str) -> float:
        """Seconds from the start of the container until the role serves."""
        name = f"{self.network}-{role}"
        command = (
            ("--entrypoint", "mlflow", image, "server", "--app-name=acis", "--host=0.0.0.0", "--workers=1",
             "--artifacts-destination=/tmp/artifacts", "--allowed-hosts=*")
            if role == "mlflow" else (image, role)
        )  # fmt: skip
        docker("create", "--name", name, "--network", self.network, "--read-only", "--tmpfs", "/tmp",  # noqa: S108 -- the container's
               "--tmpfs", "/var/acis:mode=1777", *self._environment(role), *command)  # fmt: skip
        begun = time.monotonic()
        docker("start", name)
        try:
            # Asked within: its file is the image's user's, and nobody else may look for it.
            ready = ("exec", name, "test", "-e", f"/var/acis/run/ready-{role}")
            serves = self._page(name, *PAGES[role]) if role in PAGES else lambda: self._is_right(*ready)
            self._until(serves, f"{role} of {image}", name)
            return time.monotonic() - begun
        finally:
            docker("rm", "-fv", name)

    def _page(self, name: str, port: int, path: str) -> Callable[[], bool]:
        address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)

        def answers() -> bool:
            try:
                connection = http.client.HTTPConnection(address, port, timeout=2)
                connection.request("GET", path, headers={"Host": "localhost"})
                return connection.getresponse().status == 200
            except OSError:
                return False

        return answers

    def _environment(self, role: str) -> list[str]:
        database = f"postgresql://acis:{self.password}@{self.network}-postgres:5432"
        values = {
            "DATABASE_URL": f"{database}/acis",
            "CELERY_BROKER_URL": f"redis://{self.network}-redis:6379/0",
            "MLFLOW_TRACKING_URI": f"http://{self.network}-mlflow:5000",
            "ACIS_VAR_DIR": "/var/acis",
            "ACIS_DRIFT_CONCURRENCY": "1",
            "FLOWER_BASIC_AUTH": f"bench:{self.password}",
            "ACIS_ADMIN_AUTH": f"bench:{self.password}",
        }
        if role == "mlflow":
            values |= {
                f"MLFLOW_{who}_PASSWORD": f"{self.password}{who}"
                for who in ("VIEWER", "READER", "TRAINER", "REGISTRAR")
            }
            values |= {"MLFLOW_BACKEND_STORE_URI": database.replace("://", "+psycopg2://") + "/mlflow"}
            values |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return [part for name, value in values.items() for part in ("--env", f"{name}={value}")]

    def _run(self, name: str, image: str, *, env: dict[str, str] | None = None) -> None:
        given = [part for pair in (env or {}).items() for part in ("--env", "=".join(pair))]
        docker("run", "-d", "--name", f"{self.network}-{name}", "--network", self.network, *given, image)

    @staticmethod
    def _is_right(*arguments: str) -> bool:
        return subprocess.run([DOCKER, *arguments], capture_output=True, check=False).returncode == 0

    @staticmethod
    def _until(is_so: Callable[[], bool], what: str, name: str = "") -> None:
        end = time.monotonic() + _GIVE_UP_S
        while not is_so():
            if time.monotonic() > end:
                raise SystemExit(
                    f"{what} did not come up in {_GIVE_UP_S:.0f} s\n{docker('logs', name) if name else ''}"
                )
            time.sleep(0.02)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two starts of each role, not seven")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--before", default="HEAD~1", help="commit whose image is measured beside this tree's")
    parser.add_argument("--images", nargs=2, metavar=("BEFORE", "AFTER"), help="images that are there already")
    parser.add_argument("--roles", nargs="+", choices=(*WORKERS, *PAGES), metavar="ROLE", help="these alone")
    options = parser.parse_args()
    before, after = options.images or (build(options.before), build(None))
    starts: dict[str, dict[str, list[float]]] = {image: {} for image in (before, after)}
    bench = Bench()
    with bench.servers():
        bench.migrate(after)
        for image in (before, after):
            bench.start_s(image, "mlflow")  # which makes its tables
        for _ in range(2 if options.quick else 7):
            for role in options.roles or (*WORKERS, *PAGES):
                for image in (before, after):
                    starts[image].setdefault(role, []).append(bench.start_s(image, role))
    median = {
        image: {role: statistics.median(times) for role, times in roles.items()} for image, roles in starts.items()
    }
    slowest = {image: max(roles.values()) for image, roles in median.items()}
    figures = {
        "image_mib": round(size_mib(after), 1),
        "image_over_before": round(size_mib(after) / size_mib(before), 3),
        "slowest_role_start_s": round(slowest[after], 2),
        "start_over_before": round(slowest[after] / slowest[before], 3),
        **{f"start_s.{role}": round(value, 2) for role, value in median[after].items()},
        **{f"before.start_s.{role}": round(value, 2) for role, value in median[before].items()},
        "before.image_mib": round(size_mib(before), 1),
    }
    if options.json:
        print(json.dumps({**figures, "layers": [{"mib": round(size, 1), "by": by} for size, by in layers(after)]}))
        return 0
    for name, value in figures.items():
        print(f"{name:32} {value}")
    for size, by in layers(after):
        print(f"{size:8.1f} MiB  {by}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
