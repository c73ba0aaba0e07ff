"""What a flood of sign-ins gets, and what it leaves of the page for everybody else.

    .venv/bin/python bench/sign_in.py [--quick] [--json]

A real PostgreSQL, the page as `make run` starts it behind a proxy that it trusts, and guesses from a process of their
own, 200 a second for a minute, of three kinds: one name from one address; one name, each guess from another address;
each guess another name from another address. Meanwhile `/healthz` is asked twenty times a second, and an operator who
is signed in turns pages. The same without a flood comes first, since the machine may be busy with other work.

    answered_KIND       guesses whose password was compared; `promised_KIND`: how many that may be at most
    healthz_p99_ms      of the worst kind; `healthz_calm_p99_ms` without a flood
    cpu_share_KIND      of a core, that the page's process computed meanwhile: comparisons and an operator's pages, too
    page_p99_ms         an operator's pages during the worst kind; `page_calm_p99_ms` without a flood

`--quick`: four seconds of each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import requests
from own_page import PASSWORD, page, signed_in
from own_servers import own_servers
from pydantic import SecretStr

from config.settings import Settings
from devstack.ports import choose_port
from mlops.ledger.schema import migrate
from tasks.services import connect

PER_SECOND, THREADS = 200, 64
SECONDS, QUICK_SECONDS = 60.0, 4.0
#: As docs/admin.md has them: wrong passwords of a name from one address, and of a name from everywhere.
PROMISED = {"one_address": 10, "many_addresses": 30}
KINDS = ("one_address", "many_addresses", "many_names")
PAGES = ("/admin/", "/admin/runs", "/admin/workers", "/admin/users")


@dataclass
class Times:
    """Milliseconds of what was asked."""

    healthz: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)


def guess(port: int, kind: str, seconds: float, statuses: multiprocessing.Queue[dict[int, int]]) -> None:
    """200 guesses a second by a few threads, each on a connection that is kept."""
    found: Counter[int] = Counter()
    lock = threading.Lock()
    threads = [
        threading.Thread(target=_guess, args=(port, kind, number, seconds, found, lock)) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses.put(dict(found))


def _guess(port: int, kind: str, number: int, seconds: float, found: Counter[int], lock: threading.Lock) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    began, n = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        due = n * THREADS / PER_SECOND
        if due > now:
            time.sleep(due - now)
        place = n * THREADS + number
        name = f"user{place}" if kind == "many_names" else "anna"
        address = "192.0.2.1" if kind == "one_address" else f"10.{place >> 16 & 255}.{place >> 8 & 255}.{place & 255}"
        body = urlencode({"csrf": "x", "name": name, "password": f"a wrong password {place}"})
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "cookie": "acis_sign_in=x",
            "x-forwarded-for": address,
        }
        connection.request("POST", "/admin/sign-in", body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        with lock:
            found[answer.status] += 1
        n += 1


def watched(home: str, session: requests.Session, seconds: float) -> Times:
    """What others wait for meanwhile."""
    found, ended = Times(), threading.Event()

    def probe() -> None:
        with requests.Session() as own:
            while not ended.wait(0.05):
                found.healthz.append(took_ms(own, f"{home}/healthz"))

    prober = threading.Thread(target=probe)
    prober.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for path in PAGES:
            found.pages.append(took_ms(session, home + path))
            time.sleep(0.1)
    ended.set()
    prober.join()
    return found


def took_ms(session: requests.Session, address: str) -> float:
    began = time.perf_counter()
    answer = session.get(address)
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != 200 or "sign-in" in answer.url:
        raise SystemExit(f"{address}: {answer.status_code} {answer.text[:500]}")
    return took


def p99(times: list[float]) -> float:
    return quantiles(times, n=100)[98]


def flooded(port: int, home: str, session: requests.Session, kind: str, seconds: float) -> tuple[dict[int, int], Times]:
    statuses: multiprocessing.Queue[dict[int, int]] = multiprocessing.Queue()
    process = multiprocessing.Process(target=guess, args=(port, kind, seconds, statuses))
    process.start()
    times = watched(home, session, seconds)
    found = statuses.get(timeout=120)
    process.join()
    return found, times


def measure(seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {}
    os.environ["ACIS_ADMIN_PROXIES"] = "127.0.0.1"
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder, own_servers(Path(folder) / "var") as endpoints:
        migrate(endpoints.database_url)
        settings = Settings(database_url=SecretStr(endpoints.database_url), var_dir=Path(folder) / "var")
        services = connect(settings)
        port = choose_port()
        home = f"http://127.0.0.1:{port}"
        with page(endpoints, Path(folder) / "var", port) as process:
            session = signed_in(services, home)
            calm = watched(home, session, seconds / 2)
            figures |= {"healthz_calm_p99_ms": p99(calm.healthz), "page_calm_p99_ms": p99(calm.pages)}
            print(f"without a flood: /healthz {shown(calm.healthz)}, pages {shown(calm.pages)}")
            floods = []
            for kind in KINDS:
                services.ledger.unlock("anna")
                time.sleep(3)  # the page believes for two seconds what it found closed
                began_s = cpu_s(process)
                statuses, times = flooded(port, home, session, kind, seconds)
                share = (cpu_s(process) - began_s) / seconds
                figures[f"cpu_share_{kind}"] = share
                floods.append(times)
                figures |= {f"answered_{kind}": statuses.get(401, 0), f"asked_{kind}": sum(statuses.values())}
                if kind in PROMISED:
                    figures[f"promised_{kind}"] = PROMISED[kind]
                rate = sum(statuses.values()) / seconds
                found = f"{statuses.get(401, 0)} answered of {statuses}"
                print(f"{kind}: {rate:.0f} guesses a second, {found}, {share:.0%} of a core")
                print(f"  /healthz {shown(times.healthz)}, an operator's pages {shown(times.pages)}")
            figures["audit_lines"] = len(services.ledger.audit_lines(action="sign_in", limit=100_000))
            figures["healthz_p99_ms"] = max(p99(times.healthz) for times in floods)
            figures["page_p99_ms"] = max(p99(times.pages) for times in floods)
            again = requests.Session()
            again.cookies.update(session.cookies)
            is_in = sign_in_again(again, home)
            print(f"the operator's own browser signs in again after that: {'yes' if is_in else 'NO'}")
            figures["known_browser_signs_in"] = float(is_in)
    figures["healthz_over_calm"] = figures["healthz_p99_ms"] / figures["healthz_calm_p99_ms"]
    return figures


def sign_in_again(session: requests.Session, home: str) -> bool:
    session.cookies.set("acis_sign_in", "x", path="/admin")
    fields = {"csrf": "x", "name": "anna", "password": PASSWORD}
    answer = session.post(f"{home}/admin/sign-in", data=fields, allow_redirects=False)
    return answer.status_code == 303


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def shown(times: list[float]) -> str:
    return f"median {median(times):.0f} ms, p99 {p99(times):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(QUICK_SECONDS if options.quick else SECONDS)
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        print(json.dumps({"figures": {name: round(value, 2) for name, value in figures.items()}, "machine": machine}))


if __name__ == "__main__":
    main()
