"""The prediction service as its callers see it."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from sqlalchemy import text

from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import MODEL, key_of
from tests.support.prediction_service import (
    FEATURES,
    Service,
    made_token,
    model_file,
    place_champion,
    rows_of,
    service_settings,
)
from tests.support.serving import identity_of, new_experiment
from tests.support.waiting import wait_for

DAY = date(2026, 11, 12)


@pytest.fixture(scope="module")
def url(postgres_database: Callable[[], str]) -> str:
    found = postgres_database()
    migrate(found)
    return found


@pytest.fixture(scope="module")
def ledger(url: str) -> Iterator[SqlLedger]:
    found = open_ledger(url)
    yield found
    found.close()


@pytest.fixture(scope="module")
def content() -> bytes:
    return model_file()


@pytest.fixture(scope="module")
def service(url: str, ledger: SqlLedger, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    settings = service_settings(url, folder / "var")
    place_champion(ledger, settings, content)
    with Service(settings, folder / "serve.log", token=made_token(ledger)) as running:
        yield running


def expected(content: bytes, rows: list[dict[str, float | None]]) -> list[float]:
    booster = xgb.Booster()
    booster.load_model(bytearray(content))
    values = np.array([[row[name] for name in FEATURES] for row in rows], dtype=np.float32)
    return booster.inplace_predict(values, missing=np.nan).tolist()


@pytest.mark.parametrize("n", [1, 2, 500])
def test_rows_as_records_and_as_columns_get_the_models_own_probabilities(
    service: Service, content: bytes, n: int
) -> None:
    rows = rows_of(n)
    columns = {name: [row[name] for row in rows] for name in reversed(FEATURES)}
    as_records, as_columns = service.predict(rows), service.predict(columns)
    assert as_records.status == as_columns.status == 200, as_records.body
    assert as_records.body["probability"] == pytest.approx(expected(content, rows), abs=2e-6)
    assert as_columns.body["probability"] == pytest.approx(as_records.body["probability"], abs=2e-6)


def test_an_answer_says_which_model_gave_it_and_when(service: Service, ledger: SqlLedger) -> None:
    answer = service.predict(rows_of(1)).body
    champion = ledger.champion("growth")
    assert (answer["version"], answer["sha256"], answer["variant"]) == ("1", champion.identity.sha256, "champion")
    assert 0 <= answer["confirmed_age_s"] < 60
    assert abs((datetime.fromisoformat(answer["predicted_at"]) - datetime.now(UTC)).total_seconds()) < 60


def test_what_was_answered_is_in_the_ledger_with_the_digest_of_its_row(service: Service, ledger: SqlLedger) -> None:
    rows, tickers = rows_of(3, seed=9), ["AAA", "BBB", "CCC"]
    answer = service.predict(rows, tickers=tickers, as_of=str(DAY))
    wait_for(lambda: ledger.predictions("growth", DAY, DAY).num_rows == 3, "they are in the ledger")
    found = ledger.predictions("growth", DAY, DAY).to_pydict()
    assert found["ticker"] == tickers
    assert found["probability"] == answer.body["probability"]
    assert len(set(found["row_digest"])) == 3
    one = service.predict([rows[1]], tickers=["BBB"], as_of=str(DAY - timedelta(days=1)))
    before = DAY - timedelta(days=1)
    wait_for(lambda: ledger.predictions("growth", before, before).num_rows == 1, "it is in the ledger")
    again = ledger.predictions("growth", before, before).to_pydict()
    assert again["row_digest"][0] == found["row_digest"][1]
    assert one.status == 200


def test_dates_of_each_row_and_rows_without_a_ticker_are_kept_too(service: Service, ledger: SqlLedger) -> None:
    days = [date(2026, 1, 30), date(2026, 2, 2)]
    assert service.predict(rows_of(2), as_of=[str(day) for day in days]).status == 200
    wait_for(lambda: len(ledger.prediction_days("growth", *days)) == 2, "they are in the ledger")


# ---- what is refused

CASES: dict[str, tuple[object, int, str, str]] = {
    "unknown key": ({"rows": rows_of(1), "ticker": "A"}, 422, "invalid-request", "ticker is not known"),
    "no rows key": ({"columns": {}}, 422, "invalid-request", 'an object with "rows"'),
    "no object": ([1], 422, "invalid-request", 'an object with "rows"'),
    "zero rows": ({"rows": []}, 422, "invalid-request", "no rows"),
    "zero columns": ({"rows": {}}, 422, "invalid-request", "no rows"),
    "rows of another kind": ({"rows": "x"}, 422, "invalid-request", "found str"),
    "a row that is a list": ({"rows": [[1.0], [2.0]]}, 422, "invalid-request", "row 0 is no object"),
    "one row that is a list": ({"rows": [[1.0]]}, 422, "invalid-request", "row 0 is no object"),
    "a missing column": (
        {"rows": [dict.fromkeys(FEATURES[1:], 1.0)]}, 422, "invalid-rows", "column feature_0 is missing",
    ),
    "a missing column of many": (
        {"rows": [dict.fromkeys(FEATURES[1:], 1.0)] * 2}, 422, "invalid-rows", "column feature_0 is missing",
    ),
    "an unknown column": (
        {"rows": [{**rows_of(1)[0], "pe": 1.0}]}, 422, "invalid-rows", "column pe is not among its features",
    ),
    "a word among many": (
        {"rows": [{**row, "feature_3": "high"} for row in rows_of(2)]}, 422, "invalid-rows", "feature_3",
    ),
    "a word": ({"rows": [{**rows_of(1)[0], "feature_3": "high"}]}, 422, "invalid-rows", "feature_3"),
    "numbers and words": (
        {"rows": {**{name: [1.0, 2.0] for name in FEATURES}, "feature_3": [1.0, "high"]}},
        422, "invalid-rows", "column feature_3 is no column of numbers",
    ),
    "a row with other columns": (
        {"rows": [rows_of(1)[0], {"feature_0": 1.0}]}, 422, "invalid-rows", "row 1 has other columns than row 0",
    ),
    "columns of two lengths": (
        {"rows": {name: [1.0] * (1 + (name == "feature_7")) for name in FEATURES}},
        422, "invalid-request", "equally long",
    ),
    "tickers of another number": (
        {"rows": rows_of(2), "tickers": ["A"]}, 422, "invalid-request", "one name for each of the 2 rows",
    ),
    "an empty ticker": ({"rows": rows_of(1), "tickers": [""]}, 422, "invalid-request", "printable characters"),
    "a ticker with NUL": ({"rows": rows_of(1), "tickers": ["A\0"]}, 422, "invalid-request", "printable characters"),
    "a date ahead": (
        {"rows": rows_of(1), "as_of": str(datetime.now(UTC).date() + timedelta(days=3))},
        422, "invalid-request", "a day that has not come; set the caller's clock right",
    ),
    "a date of long ago": ({"rows": rows_of(1), "as_of": "1879-03-14"}, 422, "invalid-request", "first date"),
    "no date": ({"rows": rows_of(1), "as_of": "today"}, 422, "invalid-request", "as_of is a date as"),
    "a date that is a number": ({"rows": rows_of(1), "as_of": 20260101}, 422, "invalid-request", "as_of is a date as"),
    "keys of another number": (
        {"rows": rows_of(2), "keys": ["A"]}, 422, "invalid-request", "a key, or null, for each of the 2 rows",
    ),
    "a key that is a number": ({"rows": rows_of(1), "keys": [7]}, 422, "invalid-request", "a key is a text"),
    "an empty key": ({"rows": rows_of(1), "keys": [""]}, 422, "invalid-request", "a key is a text"),
    "dates of another number": (
        {"rows": rows_of(2), "as_of": ["2026-01-02"]}, 422, "invalid-request", "1 dates for 2 rows",
    ),
    "too many rows": ({"rows": {"feature_0": [1.0] * 100_000}}, 413, "too-many-rows", "100,000 rows"),
    "too many records": ({"rows": [{}] * 10_001}, 413, "too-many-rows", "10,001 rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_a_problem_that_says_why(service: Service, case: str) -> None:
    body, status, kind, words = CASES[case]
    answer = service.ask("POST", "/api/v1/predict/growth", body)
    assert (answer.status, answer.body["status"]) == (status, status), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["type"] == f"urn:acis:problem:{kind}"
    assert words in answer.body["detail"]
    assert answer.body["title"]


def test_values_that_are_all_missing_are_answered(service: Service) -> None:
    for n in (1, 2):
        answer = service.predict([dict.fromkeys(FEATURES)] * n)
        assert answer.status == 200, answer.body
        assert len(answer.body["probability"]) == n


def test_infinities_count_as_missing(service: Service) -> None:
    row = rows_of(1)[0]
    raw = json.dumps({"rows": [{**row, "feature_0": float("inf")}]}).encode()
    infinite = service.ask("POST", "/api/v1/predict/growth", raw=raw)
    assert infinite.body["probability"] == service.predict([{**row, "feature_0": None}]).body["probability"]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("odd", ["name", "value"])
def test_half_of_a_surrogate_pair_is_no_defect(service: Service, odd: str, n: int) -> None:
    rows = [{**row, "feature_\ud800" if odd == "name" else "feature_0": "\udfff"} for row in rows_of(n)]
    answer = service.ask("POST", "/api/v1/predict/growth", raw=json.dumps({"rows": rows}).encode())
    assert (answer.status, answer.body["type"]) == (422, "urn:acis:problem:invalid-rows"), answer.body


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_bad_request(service: Service, raw: bytes) -> None:
    answer = service.ask("POST", "/api/v1/predict/growth", raw=raw)
    assert (answer.status, answer.body["type"]) == (400, "urn:acis:problem:not-json")


def test_a_body_without_bounds_is_not_read(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        head = (
            "POST /api/v1/predict/growth HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n"
            f"Authorization: Bearer {service.token}\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert b"413 " in connection.recv(4096).splitlines()[0]


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/api/v1/predict/growht", "unknown-strategy", "strategy 'growht' is not known; one of: growth, value"),
        ("/api/v1/predict/value", "no-champion", "strategy 'value' has no champion"),
        ("/api/v1/models/growth", "not-found", "there is nothing at"),
        ("/api/v2/predict/growth", "not-found", "predictions are at /api/v1/predict/STRATEGY"),
    ],
)
def test_what_is_not_there_is_named(service: Service, path: str, kind: str, words: str) -> None:
    answer = service.ask("POST", path, {"rows": rows_of(1)})
    assert (answer.status, answer.body["type"]) == (404, f"urn:acis:problem:{kind}")
    assert words in answer.body["detail"]


def test_another_method_is_told_which_ones_there_are(service: Service) -> None:
    answer = service.ask("GET", "/api/v1/predict/growth")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert service.ask("POST", "/healthz").status == 405


@pytest.mark.parametrize("token", ["", "x", "acis_0123_wrong"])
@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/models/growth/route", "/api/v1/predict/growth"])
def test_who_has_no_token_learns_nothing(service: Service, token: str, path: str) -> None:
    answer = service.ask("POST" if "predict" in path else "GET", path, token=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.body["type"] == "urn:acis:problem:no-token"


# ---- what it says of itself


def test_models_are_listed_with_what_they_read(service: Service) -> None:
    growth, value = service.ask("GET", "/api/v1/models").body["models"]
    assert (growth["strategy"], growth["version"], growth["features"]) == ("growth", "1", list(FEATURES))
    assert growth["engine"] in {"onnx", "xgboost"}
    assert value["version"] is None
    assert "has no champion" in value["problem"]


def test_without_an_experiment_the_champion_answers_each_key(service: Service) -> None:
    answer = service.predict(rows_of(2), tickers=["A", "B"], keys=["client 7", None]).body
    assert (answer["versions"], answer["variants"]) == (["1", "1"], ["champion", "champion"])
    for query in ("?key=AAPL", ""):
        told = service.ask("GET", f"/api/v1/models/growth/route{query}").body
        assert (told["version"], told["variant"], told["experiment"]) == ("1", "champion", None)
        assert told["reason"] == "no experiment runs: the champion answers every key"
    (growth, _) = service.ask("GET", "/api/v1/models").body["models"]
    assert [(one["variant"], one["share"]) for one in growth["routes"]] == [("champion", 1.0)]
    for query in ("?key=", "?ticker=A", "?key=A&key=B"):
        assert service.ask("GET", f"/api/v1/models/growth/route{query}").status == 422
    assert service.ask("GET", "/api/v1/models/value/route?key=A").body["type"] == "urn:acis:problem:no-champion"


def test_an_experiment_is_followed_said_and_counted_row_by_row(
    url: str, ledger: SqlLedger, content: bytes, tmp_path: Path
) -> None:
    settings = service_settings(url, tmp_path / "var", checkpoint_url=str(tmp_path / "models"))
    place_champion(ledger, settings, content)
    other = model_file(5)
    CheckpointStore(settings.checkpoint_place).keep_model(key_of(identity_of(other)), {MODEL: other})
    seq = ledger.champion("growth").seq
    tickers, rows = [f"T{place}" for place in range(40)], rows_of(40)
    with Service(settings, tmp_path / "serve.log", token=made_token(ledger)) as service:
        made = ledger.start_experiment(new_experiment(other, champion_seq=seq, share=0.5))
        wait_for(lambda: len(set(service.predict(rows, tickers=tickers).body["versions"])) == 2, "it is followed")
        theirs = [made.assignment.is_challengers(one) for one in tickers]
        day = date(2024, 3, 1)
        answer = service.predict(rows, tickers=tickers, as_of=str(day)).body
        assert answer["versions"] == ["2" if mine else "1" for mine in theirs]
        assert answer["variants"] == ["challenger" if mine else "champion" for mine in theirs]
        of_each = {"1": expected(content, rows), "2": expected(other, rows)}
        said = [of_each[version][place] for place, version in enumerate(answer["versions"])]
        assert answer["probability"] == pytest.approx(said, abs=2e-6)
        mine, others = tickers[theirs.index(True)], tickers[theirs.index(False)]
        for ticker, version, variant in ((mine, "2", "challenger"), (others, "1", "champion")):
            one = service.predict(rows[:1], keys=[ticker]).body
            assert (one["version"], one["variant"], one["versions"]) == (version, variant, [version])
            told = service.ask("GET", f"/api/v1/models/growth/route?key={ticker}").body
            assert (told["version"], told["variant"], told["experiment"]) == (version, variant, made.id)
            assert "the challenger's share of 0.5" in told["reason"]
        service.stop()
    written = ledger.predictions("growth", day, day).to_pydict()
    by_ticker = dict(zip(written["ticker"], written["variant"], strict=True))
    assert by_ticker == dict(zip(tickers, answer["variants"], strict=True))
    counts = ledger.answer_counts("growth", since=datetime.now(UTC) - timedelta(hours=1))
    assert sum(one.n for one in counts if one.variant == "challenger") >= sum(theirs) + 1
    assert sum(one.n_errors for one in counts if one.variant == "challenger") == 0
    ledger.steer_experiment(made.id, "abort", by="test", reason="it has shown what it should")


def test_it_is_ready_and_says_how_the_log_does(service: Service) -> None:
    answer = service.ask("GET", "/readyz", token="")
    assert (answer.status, answer.body["ready"], answer.body["problems"]) == (200, True, {})
    assert answer.body["prediction_log"]["behind"] is None


def test_a_promotion_is_followed_within_five_seconds(
    url: str, ledger: SqlLedger, content: bytes, tmp_path: Path
) -> None:
    settings = service_settings(url, tmp_path / "var", checkpoint_url=str(tmp_path / "models"))
    place_champion(ledger, settings, content, strategy="value", version="1")
    with Service(settings, tmp_path / "serve.log", token=made_token(ledger)) as service:
        assert service.predict(rows_of(1), strategy="value").body["version"] == "1"
        place_champion(ledger, settings, model_file(2), strategy="value", version="2")
        waited_s = wait_for(
            lambda: service.predict(rows_of(1), strategy="value").body["version"] == "2", "it follows", within_s=20
        )
        assert waited_s < 5


def test_an_end_by_sigterm_lets_nothing_lie(url: str, ledger: SqlLedger, content: bytes, tmp_path: Path) -> None:
    settings = service_settings(url, tmp_path / "var")
    place_champion(ledger, settings, content)
    day = date(2025, 5, 5)
    with Service(settings, tmp_path / "serve.log", token=made_token(ledger)) as service:
        assert service.predict(rows_of(2), tickers=["A", "B"], as_of=str(day)).status == 200
        service.stop()
    assert ledger.predictions("growth", day, day).num_rows == 2
    (spool,) = (tmp_path / "var" / "serving" / "spool").iterdir()
    assert list(spool.iterdir()) == []


def test_no_token_is_written_down(service: Service, ledger: SqlLedger) -> None:
    assert service.predict(rows_of(1)).status == 200
    assert service.token not in service.told()
    for path in service.settings.var_dir.rglob("*"):
        if path.is_file():
            assert service.token.encode() not in path.read_bytes()
    with ledger.database.reading() as connection:
        used = connection.scalar(text("SELECT used_at FROM mlops_token WHERE used_at IS NOT NULL"))
        kept = connection.scalars(text("SELECT token::text FROM mlops_token AS token")).all()
    assert used is not None
    secret = service.token.split("_", 2)[2]
    assert len([row for row in kept if hashlib.sha256(secret.encode()).hexdigest() in row]) == 1
    assert not [row for row in kept if secret in row]
