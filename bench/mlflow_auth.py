"""What the guard in front of MLflow costs a request: two servers, one with it and one without, asked in turns.

    .venv/bin/python bench/mlflow_auth.py [--quick] [--json]

    mlflow_auth_over_none     medians of four usual requests, summed, with the guard over without
    mlflow_auth_guard_us      the guard alone, in front of an app that does nothing

Both servers stand on one PostgreSQL, each in a database of its own; each round asks both for the same, in turns the one
and the other first.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from devstack import mlflow as server
from devstack.mlflow_access import PASSWORD_VARIABLES, Guard, read_passwords
from devstack.process import Program
from mlops.registry.gateway import Gateway
from tests.support.servers import Databases, new_mlflow_passwords, run_mlflow, run_postgres, started

ROUNDS, QUICK_ROUNDS = 400, 60
NAME = "guarded"


def measure(rounds: int) -> dict[str, float]:
    """Median milliseconds of each request, with and without, and their ratio."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="acis-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        databases = Databases(server_url=stack.enter_context(run_postgres(folder)))
        places = {"auth": folder / "auth", "none": folder / "none"}
        for place in places.values():
            place.mkdir()
        uris = {
            "auth": stack.enter_context(run_mlflow(places["auth"], databases.make())),
            "none": stack.enter_context(_unguarded(places["none"], databases.make())),
        }
        requests = {kind: _requests(Gateway(uri)) for kind, uri in uris.items()}
        taken: dict[str, dict[str, list[float]]] = {kind: {one: [] for one in requests[kind]} for kind in requests}
        for number in range(rounds + rounds // 10):  # the first tenth warms up
            for one in requests["auth"]:
                for kind in ("auth", "none") if number % 2 else ("none", "auth"):
                    began = time.perf_counter()
                    requests[kind][one](number)
                    if number >= rounds // 10:
                        taken[kind][one].append(time.perf_counter() - began)
    medians = {
        f"{one}_{kind}_ms": statistics.median(times) * 1e3
        for kind, found in taken.items()
        for one, times in found.items()
    }
    sums = {kind: sum(value for name, value in medians.items() if name.endswith(f"_{kind}_ms")) for kind in taken}
    return {
        "mlflow_auth_over_none": sums["auth"] / sums["none"],
        "mlflow_auth_guard_us": guard_us(),
        **medians,
    }


def guard_us() -> float:
    """Median microseconds from a request to the app behind the guard, over batches of a thousand."""
    passwords = new_mlflow_passwords()
    coded = base64.b64encode(f"registrar:{passwords['registrar']}".encode())

    async def nothing(*_: object) -> None:
        pass

    guard = Guard(nothing, read_passwords({PASSWORD_VARIABLES[one]: secret for one, secret in passwords.items()}))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/2.0/mlflow/model-versions/transition-stage",
        "query_string": b"",
        "headers": [(b"host", b"mlflow:5000"), (b"authorization", b"Basic " + coded)],
    }

    async def batches() -> float:
        taken = []
        for _ in range(21):
            began = time.perf_counter()
            for _ in range(1000):
                await guard(scope, nothing, nothing)
            taken.append(
                (time.perf_counter() - began) * 1e3
            )  # seconds of 1000 requests times 1e3 are microseconds of one
        return statistics.median(taken)

    return asyncio.run(batches())


@contextmanager
def _unguarded(folder: Path, backend_url: str) -> Iterator[str]:
    def make(port: int) -> Program:
        program = server.mlflow_program(
            port=port,
            backend_url=backend_url,
            artifact_root=str(folder / "artifacts"),
            cwd=folder,
            passwords=new_mlflow_passwords(),
        )
        return replace(program, command=tuple(one for one in program.command if one not in ("--app-name", "acis")))

    with started(make, lambda port: server.mlflow_answers(server.mlflow_url(port)), folder / "mlflow.log") as port:
        yield server.mlflow_url(port)


def _requests(gateway: Gateway) -> Mapping[str, Callable[[int], object]]:
    """Four requests that the roles make all the time, by name."""
    experiment = gateway.experiment_id("bench")
    run = gateway.create_run(experiment, "bench", {})
    client = gateway._client  # noqa: SLF001 -- requests one by one, which the gateway's calls are not
    client.create_registered_model(NAME)
    for _ in range(5):
        client.create_model_version(NAME, f"runs:/{run}/model", run_id=run, await_creation_for=0)
    client.set_registered_model_alias(NAME, "champion", "1")
    return {
        "get_alias": lambda _: client.get_model_version_by_alias(NAME, "champion"),
        "search_versions": lambda _: client.search_model_versions(f"name = '{NAME}'"),
        "log_batch": lambda number: gateway.log(run, metrics={f"m{i}": 0.5 for i in range(20)}, step=number),
        "transition": lambda number: gateway.set_stage(NAME, "2", ("Staging", "Archived")[number % 2]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds in place of {ROUNDS}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(QUICK_ROUNDS if options.quick else ROUNDS)
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        shown = {name: round(value, 4) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": {"mlflow": version("mlflow")}}))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:8.3f}")


if __name__ == "__main__":
    main()
