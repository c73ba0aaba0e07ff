"""A real PostgreSQL that goes and comes back, behind the log and behind the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url, text

from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from mlops.serving.model import ServedModel
from mlops.serving.prediction_log import PredictionLog
from mlops.serving.router import ModelRouter
from tests.chaos.proxy import FaultyProxy
from tests.support.prediction_service import (
    Service,
    made_token,
    model_file,
    place_champion,
    rows_of,
    service_settings,
)
from tests.support.waiting import wait_for

DAY = date(2026, 7, 1)
MODEL = ServedModel(
    strategy="growth",
    version="7",
    sha256="a" * 64,
    seq=1,
    features=("a",),
    predictor=None,  # type: ignore[arg-type]
)


@pytest.fixture(scope="module")
def url(postgres_database: Callable[[], str]) -> str:
    found = postgres_database()
    migrate(found)
    return found


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    """Not through the proxy; no prediction."""
    found = open_ledger(url)
    with found.database.transaction() as connection:
        connection.execute(text("TRUNCATE mlops_prediction, mlops_prediction_batch"))
    yield found
    found.close()


@pytest.fixture
def proxy(url: str) -> Iterator[FaultyProxy]:
    port = make_url(url).port
    assert port is not None
    with FaultyProxy(port) as found:
        yield found


@pytest.fixture
def through(url: str, proxy: FaultyProxy) -> str:
    return make_url(url).set(port=proxy.port).render_as_string(hide_password=False)


def record(log: PredictionLog, first: int, n: int) -> None:
    tickers = [f"T{number}" for number in range(first, first + n)]
    log.record(MODEL, tickers, [DAY] * n, np.full(n, 0.5, dtype=np.float32), [bytes(16)] * n)
    log.flush()


def tickers(ledger: SqlLedger) -> list[str]:
    with ledger.database.reading() as connection:
        return sorted(connection.scalars(text("SELECT ticker FROM mlops_prediction")))


@pytest.mark.parametrize("answer", [b"INSERT INTO mlops_prediction_batch", b"COPY mlops_prediction", b"COMMIT"])
def test_an_answer_that_is_lost_on_the_way_doubles_nothing(
    ledger: SqlLedger, through: str, proxy: FaultyProxy, tmp_path: Path, answer: bytes
) -> None:
    with PredictionLog(open_ledger(through), tmp_path / "spool", limit_bytes=1 << 24, origin="service") as log:
        record(log, 0, 5)
        wait_for(lambda: len(tickers(ledger)) == 5, "the first batch is written")
        proxy.lose_answers(1, to=answer)
        record(log, 5, 5)
        wait_for(lambda: proxy.n_lost == 1, "the answer was lost", within_s=20)
        wait_for(lambda: len(tickers(ledger)) == 10, "the second batch is written", within_s=30)
        record(log, 10, 5)
        wait_for(lambda: len(tickers(ledger)) == 15, "the third batch is written", within_s=30)
    assert tickers(ledger) == sorted(f"T{number}" for number in range(15))


def test_without_the_ledger_the_service_answers_whom_it_knows_and_says_how_old_its_word_is(
    ledger: SqlLedger, through: str, proxy: FaultyProxy, tmp_path: Path
) -> None:
    settings = service_settings(through, tmp_path / "var")
    place_champion(ledger, settings, model_file(), version="3")
    with Service(settings, tmp_path / "serve.log", token=made_token(ledger, name="known")) as service:
        assert service.predict(rows_of(1), tickers=["before"], as_of=str(DAY)).status == 200
        proxy.refuse()
        assert service.predict(rows_of(1), tickers=["away"], as_of=str(DAY)).status == 200
        stranger = service.ask("GET", "/api/v1/models", token=made_token(ledger, name="not seen before"))
        assert stranger.status == 503
        assert int(stranger.headers["retry-after"]) > 0
        wait_for(
            lambda: service.ask("GET", "/readyz").body["prediction_log"]["behind"],
            "it says that it is behind",
            within_s=30,
        )
        assert service.ask("GET", "/readyz").status == 200
        service.kill()
        service.start()
        answer = service.predict(rows_of(1), tickers=["restarted"], as_of=str(DAY))
        assert (answer.status, answer.body["version"]) == (200, "3"), answer.body
        assert answer.body["confirmed_age_s"] > 0
        proxy.pass_on()
        wait_for(lambda: len(tickers(ledger)) == 3, "all are written", within_s=60)
        assert tickers(ledger) == ["away", "before", "restarted"]


def test_a_full_spool_is_a_503_that_names_the_cause_and_passes_when_the_ledger_is_back(
    ledger: SqlLedger, through: str, proxy: FaultyProxy, tmp_path: Path
) -> None:
    settings = service_settings(through, tmp_path / "var", spool_bytes=1024 * 1024)
    place_champion(ledger, settings, model_file())
    with Service(settings, tmp_path / "serve.log", token=made_token(ledger)) as service:
        assert service.predict(rows_of(1)).status == 200
        proxy.refuse()
        columns = {name: [0.5] * 5000 for name in rows_of(1)[0]}
        acknowledged = 0
        for _ in range(50):
            answer = service.predict(columns, as_of=str(DAY))
            if answer.status != 200:
                break
            acknowledged += 5000
        assert (answer.status, answer.body["type"]) == (503, "urn:acis:problem:predictions-not-kept")
        assert "ACIS_SPOOL_BYTES allows no more" in answer.body["detail"]
        assert int(answer.headers["retry-after"]) > 0
        assert service.ask("GET", "/readyz").status == 503
        assert service.ask("GET", "/healthz").status == 200
        proxy.pass_on()
        wait_for(lambda: service.predict(rows_of(1)).status == 200, "it answers again", within_s=60)
        wait_for(lambda: service.ask("GET", "/readyz").status == 200, "it is ready again", within_s=30)
        service.stop()
    days = ledger.prediction_days("growth", DAY, DAY)
    assert acknowledged <= sum(day.n_written for day in days) <= acknowledged + 5000


def test_two_services_on_one_host_share_a_folder_and_lose_nothing(
    ledger: SqlLedger, through: str, proxy: FaultyProxy, tmp_path: Path
) -> None:
    first = service_settings(through, tmp_path / "var")
    second = service_settings(through, tmp_path / "var")
    place_champion(ledger, first, model_file())
    token = made_token(ledger)
    with (
        Service(first, tmp_path / "one.log", token=token) as one,
        Service(second, tmp_path / "two.log", token=token) as two,
    ):
        assert one.predict(rows_of(1), tickers=["one"], as_of=str(DAY)).status == 200
        assert two.predict(rows_of(1), tickers=["two"], as_of=str(DAY)).status == 200
        proxy.refuse()
        assert one.predict(rows_of(1), tickers=["one, away"], as_of=str(DAY)).status == 200
        assert two.predict(rows_of(1), tickers=["two, away"], as_of=str(DAY)).status == 200
        one.kill()
        proxy.pass_on()
        # The survivor looks after what the other one left, within half a minute.
        wait_for(lambda: len(tickers(ledger)) == 4, "all are written", within_s=90)
    assert tickers(ledger) == ["one", "one, away", "two", "two, away"]


def test_a_backends_own_router_and_log_write_what_it_answered(ledger: SqlLedger, url: str, tmp_path: Path) -> None:
    settings = service_settings(url, tmp_path / "var")
    place_champion(ledger, settings, model_file(), version="9")
    row = {name: value if value is not None else float("nan") for name, value in rows_of(1)[0].items()}
    with PredictionLog.open(settings) as log, ModelRouter("growth", settings=settings, recorder=log) as router:
        answer = router.predict_one(row, ticker="AAPL", as_of=DAY)
        wait_for(lambda: ledger.predictions("growth", DAY, DAY).num_rows == 1, "it is in the ledger")
    found = ledger.predictions("growth", DAY, DAY).to_pylist()[0]
    assert (found["ticker"], found["version"]) == ("AAPL", "9")
    assert found["probability"] == np.float32(answer.probability)
    with ledger.database.reading() as connection:
        assert connection.scalar(text("SELECT origin FROM mlops_prediction_batch")) == "router"
