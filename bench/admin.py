"""How long each page of the admin page takes with 400 strategies and 100,000 runs, and how much is transferred.

    .venv/bin/python bench/admin.py [--quick] [--json] [--repeats 20]

A real PostgreSQL and Redis, the page as `make run` starts it, one visitor who is signed in. Every GET route of the
application is asked, so that a new page is measured too. Medians of interleaved repeats, as the visitor sees them.

    slowest_page_ms     median of the slowest page
    slowest_cpu_ms      what the page's process computed for the costliest, mean: hardly moved by other work
    largest_page_kb     page, style and scripts of the largest, packed, at a first visit
    live_progress_ms    from a worker's word in Redis to the event in an open page, median
    memory_mib          of the page's process, after all that

`--quick`: 20,000 runs, 5 repeats. `--pictures FOLDER`: pictures of the lists of 400, by the machine's Chromium, in
place of measurements; that is how docs/images/admin has fleet-*.png and drift-heatmap-light.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

# Before this folder, whose `admin` is this file.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import redis
import requests
from admin_ledger import fill
from own_page import PASSWORD, page, signed_in
from own_servers import own_servers
from pydantic import SecretStr
from report_page import document

from admin.app import create_app
from admin.auth.guard import Guard
from admin.pages import guarded_routes
from config.endpoints import Endpoints
from config.settings import Settings
from devstack.ports import choose_port
from mlops.bootstrap import Services
from mlops.ledger.schema import migrate
from mlops.strategies.file import load_strategies, run_policy
from tasks.services import connect

ROOT = Path(__file__).resolve().parents[1]
STRATEGIES = 400
TAGS = ("us", "europe", "pilot")
DAYS, QUICK_DAYS = 250, 50
EXAMPLES = {
    "run_id": "run-0-10",
    "strategy": "s000",
    "name": "s000",
    "version": "10",
    "first": "10",
    "second": "20",
    "word": "retrain",
}
"""What stands in the place of a path's values."""
NOT_A_PAGE = frozenset({"/admin/events"})
PICTURED = {"fleet": "/admin/", "drift-heatmap": "/admin/drift/heatmap", "fleet-schedule": "/admin/schedule?tag=us"}


def strategies_file(folder: Path) -> Path:
    path = folder / "strategies.toml"
    tables = (f'[strategies.s{n:03}]\ntags = ["{TAGS[n % 3]}"]\n' for n in range(STRATEGIES))
    path.write_text("".join(tables), encoding="utf-8")
    return path


def paths(services: Services) -> list[str]:
    """Every page, with examples in its path."""
    found = []
    for route, guard in guarded_routes(create_app(services)):
        if isinstance(guard, Guard) and "GET" in route.methods and route.path not in NOT_A_PAGE:
            found.append(re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: EXAMPLES[match[1]], route.path))
    return [*found, "/admin/runs?state=dead", "/admin/runs?strategy=s123", "/admin/?q=s12&sort=-drift"]


def measured(
    session: requests.Session, home: str, asked: list[str], repeats: int, process: psutil.Process
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds of each page, interleaved, and the mean of what its process computed."""
    found: dict[str, list[float]] = {path: [] for path in asked}
    computed = dict.fromkeys(asked, 0.0)
    for turn in range(repeats + 1):
        for path in asked:
            cpu_s, began = cpu(process), time.perf_counter()
            answer = session.get(home + path)
            took, cpu_ms = (time.perf_counter() - began) * 1000, (cpu(process) - cpu_s) * 1000
            if answer.status_code >= 500:
                raise SystemExit(f"{path}: {answer.status_code} {answer.text[:2000]}")
            if turn:  # the first compiles its template
                found[path].append(took)
                computed[path] += cpu_ms / repeats
    return found, computed


def cpu(process: psutil.Process) -> float:
    """Seconds that a process has computed."""
    times = process.cpu_times()
    return times.user + times.system


def transferred(session: requests.Session, home: str, path: str) -> int:
    """Bytes of a first visit: the page and what it names, packed."""
    answer = session.get(home + path, stream=True)
    total = len(answer.raw.read(decode_content=False))
    html = session.get(home + path).text
    for address in set(re.findall(r'(?:src|href)="(/admin/static/[^"]+)"', html)):
        total += len(session.get(home + address, stream=True).raw.read(decode_content=False))
    return total


def live_ms(session: requests.Session, home: str, backend: str, times: int) -> float:
    """From Redis' channel to the open page."""
    client = redis.Redis.from_url(backend)
    found: list[float] = []
    with session.get(f"{home}/admin/events", stream=True, timeout=30) as stream:
        lines = stream.iter_lines(chunk_size=1)
        next(lines)
        for number in range(times):
            body: dict[str, Any] = {"stage": "train", "done": number, "total": times, "unit": "rounds", "left_s": 1}
            told = {"task_id": "open-1", "status": "PROGRESS", "result": body}
            began = time.perf_counter()
            client.publish("celery-task-meta-open-1", json.dumps(told))
            for line in lines:
                if line.startswith(b"data: ") and json.loads(line[6:]).get("done") == number:
                    break
            found.append((time.perf_counter() - began) * 1000)
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    repeats, days = (5, QUICK_DAYS) if options.quick else (options.repeats, DAYS)
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        var_dir = Path(folder) / "var"
        with own_servers(var_dir, strategies_file=strategies_file(Path(folder))) as endpoints:
            figures = measure(endpoints, var_dir, repeats=repeats, days=days, pictures=options.pictures)
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {name: version(name) for name in ("fastapi", "uvicorn", "jinja2", "sqlalchemy", "psycopg2-binary")}
        shown = {name: round(value, 1) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": versions}))


def picture(home: str, folder: Path) -> None:
    """The lists of 400 strategies on a desk and on a phone."""
    from tests.support.chromium import DESK, PHONE, chromium, visitor

    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for look, viewport in (("light", DESK), ("phone", PHONE)):
            with visitor(browser, home, color_scheme="light", viewport=viewport) as found:
                found.sign_in("anna", PASSWORD)
                for name, path in PICTURED.items():
                    found.go(path)
                    found.page.wait_for_timeout(500)
                    found.page.screenshot(path=folder / f"{name}-{look}.png", full_page=name == "drift-heatmap")
                found.go("/admin/?tag=pilot")
                found.page.locator("input[name=everything]").check()
                found.page.get_by_role("button", name="Pause").click()
                found.page.wait_for_timeout(500)
                found.page.screenshot(path=folder / f"fleet-question-{look}.png")


def measure(
    endpoints: Endpoints, var_dir: Path, *, repeats: int, days: int, pictures: Path | None = None
) -> dict[str, float]:
    migrate(endpoints.database_url)
    settings = Settings(
        database_url=SecretStr(endpoints.database_url),
        celery_broker_url=SecretStr(endpoints.celery_broker_url),
        mlflow_tracking_uri=SecretStr(endpoints.settings()["mlflow_tracking_uri"]),
        strategies_file=endpoints.strategies_file,
        var_dir=var_dir,
    )
    services = connect(settings)
    policy = run_policy(load_strategies(endpoints.strategies_file).settled("s000"))
    began = time.perf_counter()
    n_runs = fill(endpoints.database_url, strategies=STRATEGIES, days=days, policy=policy, report=document(45))
    print(f"{STRATEGIES} strategies, {n_runs:,} runs, written in {time.perf_counter() - began:.0f} s")
    port = choose_port()
    home = f"http://127.0.0.1:{port}"
    with page(endpoints, var_dir, port) as process:
        session = signed_in(services, home)
        if pictures:
            picture(home, pictures)
            return {}
        asked = paths(services)
        found, computed = measured(session, home, asked, repeats, process)
        sizes = {path: transferred(session, home, path) for path in asked}
        live = live_ms(session, home, endpoints.celery_result_backend, times=5 if repeats < 10 else 30)
        memory = process.memory_full_info().uss / 2**20
    for path in sorted(asked, key=lambda one: -median(found[one])):
        shown = f"{median(found[path]):>8.0f} ms{computed[path]:>8.0f} ms computed{sizes[path] / 1000:>8.0f} kB"
        print(f"  {path:<46}{shown}")
    print(f"  progress reaches an open page after {live:.0f} ms; the process holds {memory:.0f} MiB")
    return {
        "slowest_page_ms": max(median(times) for times in found.values()),
        "slowest_cpu_ms": max(computed.values()),
        "largest_page_kb": max(sizes.values()) / 1000,
        "live_progress_ms": live,
        "memory_mib": memory,
        "n_runs": n_runs,
    }


if __name__ == "__main__":
    main()
