"""PostgreSQL is away under load, and the prediction service is killed again and again: what was acknowledged is kept.

    python -m tests.chaos.predictions --away-s 600

starts a PostgreSQL and a service, asks it from several clients, takes the database away for so long, kills the service
(SIGKILL) in between, starts it anew, gives the database back, and compares: each acknowledged prediction is in the
ledger exactly once. Exit code 1 where one is missing or doubled.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.client import HTTPException
from pathlib import Path

from sqlalchemy import make_url, text

from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from tests.chaos.proxy import FaultyProxy
from tests.support.prediction_service import Service, made_token, model_file, place_champion, rows_of, service_settings
from tests.support.waiting import wait_for

DAY = date(2026, 6, 1)
CLIENTS = 4
_ROWS = rows_of(3)


@dataclass
class Callers:
    """Clients that ask one question after the other and remember which were answered."""

    service: Service
    acknowledged: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    _closing: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """All of them."""
        self._threads = [threading.Thread(target=self._ask, args=(one,), daemon=True) for one in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """After the answers that are under way."""
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, client: int) -> None:
        number = 0
        while not self._closing.is_set():
            number += 1
            tickers = [f"{client}-{number}-{row}" for row in range(1 + number % len(_ROWS))]
            day = DAY + timedelta(days=number % 40)  # of two months
            try:
                answer = self.service.predict(_ROWS[: len(tickers)], tickers=tickers, as_of=str(day))
            except (OSError, ValueError, HTTPException):  # killed
                self.refused["no answer"] += 1
                self._closing.wait(0.02)
                continue
            if answer.status == 200:
                self.acknowledged += tickers
            else:
                self.refused[f"{answer.status} {answer.body['detail']:.60}"] += 1
                self._closing.wait(0.02)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of it."""

    n_acknowledged: int
    n_acknowledged_while_away: int
    n_kills: int
    missing: list[str]
    doubled: list[str]
    refused: Counter[str]


def outage(url: str, folder: Path, *, away_s: float, kill_every_s: float, service_log: Path) -> Found:
    """One outage on a database with the ledger's tables."""
    with ExitStack() as stack:
        port = make_url(url).port
        assert port is not None
        proxy = FaultyProxy(port)
        stack.enter_context(proxy)
        ledger = open_ledger(url)
        stack.callback(ledger.close)
        through = make_url(url).set(port=proxy.port).render_as_string(hide_password=False)
        settings = service_settings(through, folder / "var")
        place_champion(ledger, settings, model_file())
        service = stack.enter_context(Service(settings, service_log, token=made_token(ledger)))
        callers = Callers(service)
        callers.start()
        try:
            found = _through(proxy, service, callers, away_s=away_s, kill_every_s=kill_every_s)
        finally:
            callers.stop()
        n_before_away, n_after_away, n_kills = found
        wait_for(lambda: _n_spooled(settings.var_dir) == 0, "the spool is empty", within_s=60 + away_s)
        service.stop()
        written = _written(ledger)
        return Found(
            n_acknowledged=len(callers.acknowledged),
            n_acknowledged_while_away=n_after_away - n_before_away,
            n_kills=n_kills,
            missing=[ticker for ticker in callers.acknowledged if ticker not in written],
            doubled=[ticker for ticker, n in written.items() if n > 1],
            refused=callers.refused,
        )


def _through(
    proxy: FaultyProxy, service: Service, callers: Callers, *, away_s: float, kill_every_s: float
) -> tuple[int, int, int]:
    """Acknowledged when the database went and when it came back, and how often the service was killed meanwhile."""
    wait_for(lambda: len(callers.acknowledged) > 20, "callers are answered")
    _kill(service)  # with a ledger that is there: between a commit and its note, maybe
    enough = len(callers.acknowledged) + 20
    wait_for(lambda: len(callers.acknowledged) > enough, "callers are answered", within_s=30)
    proxy.refuse()
    began, n_before, n_kills = time.monotonic(), len(callers.acknowledged), 1
    next_kill = began + kill_every_s
    while time.monotonic() - began < away_s:
        threading.Event().wait(0.1)
        if time.monotonic() > next_kill:
            _kill(service)
            n_kills += 1
            next_kill = time.monotonic() + kill_every_s
    n_after = len(callers.acknowledged)
    proxy.pass_on()
    enough = n_after + 20
    wait_for(lambda: len(callers.acknowledged) > enough, "callers are answered", within_s=30)
    return n_before, n_after, n_kills


def _kill(service: Service) -> None:
    service.kill()
    service.start()


def _n_spooled(var_dir: Path) -> int:
    """Bytes of sealed and open segments; what is answered meanwhile is in the next one."""
    return sum(1 for _ in (var_dir / "serving" / "spool").rglob("*.seg"))


def _written(ledger: SqlLedger) -> Counter[str]:
    with ledger.database.reading() as connection:
        return Counter(connection.scalars(text("SELECT ticker FROM mlops_prediction")))


def main() -> int:
    """Print what came of it."""
    from tests.support.servers import Databases, run_postgres

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--away-s", type=float, default=600.0)
    parser.add_argument("--kill-every-s", type=float, default=45.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="acis-predictions-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with run_postgres(folder) as server:
            url = Databases(server_url=server).make()
            migrate(url)
            found = outage(
                url,
                folder,
                away_s=options.away_s,
                kill_every_s=options.kill_every_s,
                service_log=folder / "serve.log",
            )
    print(f"PostgreSQL away for {options.away_s:.0f} s, {found.n_kills} kills of the service")
    print(f"acknowledged {found.n_acknowledged:,}, of them {found.n_acknowledged_while_away:,} while it was away")
    print(f"missing {len(found.missing)}, doubled {len(found.doubled)}; not answered: {dict(found.refused)}")
    return 1 if found.missing or found.doubled else 0


if __name__ == "__main__":
    sys.exit(main())
