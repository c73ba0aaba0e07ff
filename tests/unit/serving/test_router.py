"""A router answers with the champion, swaps it between requests, and keeps what it has when others are away."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from mlops.domain.errors import (
    ConfigurationError,
    InvalidRows,
    LedgerUnavailable,
    NoChampion,
    UnknownStrategy,
    UnusableModelFile,
)
from mlops.domain.live.rows import row_digests
from mlops.serving.loading import ModelFile
from mlops.serving.router import ModelRouter
from tests.support.serving import (
    FEATURES,
    NEVER_S,
    ChampionServices,
    Recording,
    champion,
    classifier,
    frame,
    model_bytes,
    rows,
)

FIRST, SECOND = classifier(seed=1), classifier(seed=2)
FRAME = frame(300)
BY_FIRST, BY_SECOND = FIRST.predict_proba(FRAME)[:, 1], SECOND.predict_proba(FRAME)[:, 1]
ROW = FRAME.iloc[0].to_dict()
DAY = date(2020, 6, 1)


@pytest.fixture
def services(tmp_path: Path) -> ChampionServices:
    found = ChampionServices(tmp_path)
    found.promote("1", 1, FIRST)
    return found


@pytest.fixture
def clock() -> list[float]:
    """Monotonic seconds, which a test moves."""
    return [100.0]


def opened(services: ChampionServices, clock: list[float] | None = None, **options: Any) -> ModelRouter:
    monotonic = {"monotonic": lambda: clock[0]} if clock is not None else {}
    return ModelRouter("growth", services=services, poll_s=NEVER_S, **{**monotonic, **options})


@pytest.fixture
def router(services: ChampionServices, clock: list[float]) -> Iterator[ModelRouter]:
    with opened(services, clock) as found:
        yield found


# -- answers


def test_a_frame_is_answered_by_the_champion(router: ModelRouter) -> None:
    for given in (FRAME, pa.table(FRAME), FRAME.to_numpy(), FRAME.assign(ticker="AAPL", target_return=0.0)):
        answers = router.predict(given)
        np.testing.assert_array_equal(answers.probability, BY_FIRST)
        assert (answers.version, answers.sha256, len(answers)) == ("1", router.model.sha256, 300)


@pytest.mark.parametrize(
    "row",
    [ROW, FRAME.iloc[0], FRAME.head(1), FRAME.to_numpy()[0], FRAME.to_numpy()[:1], {**ROW, "ticker": "AAPL"}],
    ids=["mapping", "series", "frame", "array", "array of one row", "with its ticker"],
)
def test_one_row_is_answered_in_every_form(router: ModelRouter, row: Any) -> None:
    answer = router.predict_one(row)
    assert answer.probability == pytest.approx(BY_FIRST[0], abs=6e-8)
    assert (answer.version, answer.sha256) == ("1", router.model.sha256)


def test_an_infinity_is_missing_in_each_way_of_asking(router: ModelRouter) -> None:
    infinite, missing = FRAME.assign(feature_0=np.inf), FRAME.assign(feature_0=np.nan)
    expected = FIRST.predict_proba(missing)[:, 1]
    np.testing.assert_array_equal(router.predict(infinite).probability, expected)
    assert router.predict_one({**ROW, "feature_0": -np.inf}).probability == pytest.approx(expected[0], abs=6e-8)
    assert router.predict_one({**ROW, "feature_0": None}).probability == pytest.approx(expected[0], abs=6e-8)
    assert not np.allclose(BY_FIRST, expected)


def test_no_rows_have_no_answers(router: ModelRouter) -> None:
    answers = router.predict(FRAME.head(0))
    assert (len(answers), answers.version) == (0, "1")


def test_rows_of_nothing_but_missing_values_have_the_model_s_answer(router: ModelRouter) -> None:
    empty = FRAME.head(3) * np.nan
    np.testing.assert_array_equal(router.predict(empty).probability, FIRST.predict_proba(empty)[:, 1])


def test_a_hundred_thousand_rows_are_answered(router: ModelRouter) -> None:
    many = rows(100_000)
    answers = router.predict(many)
    assert len(answers) == 100_000
    np.testing.assert_array_equal(answers.probability[-500:], router.predict(many[-500:]).probability)


def test_what_does_not_fit_is_refused_by_name(router: ModelRouter) -> None:
    with pytest.raises(InvalidRows, match=r"growth version 1, .*column feature_1 is missing"):
        router.predict(FRAME.drop(columns=["feature_1"]))
    with pytest.raises(InvalidRows, match="column feature_1 is missing"):
        router.predict_one({name: 1.0 for name in FEATURES if name != "feature_1"})
    with pytest.raises(InvalidRows, match=r"feature_1 is 'x' \(str\)"):
        router.predict_one({**ROW, "feature_1": "x"})
    with pytest.raises(InvalidRows, match="predict_one takes one row, found 2"):
        router.predict_one(FRAME.head(2))
    # and nothing of it is left for the next row
    assert router.predict_one(ROW).probability == pytest.approx(BY_FIRST[0], abs=6e-8)


def test_a_date_in_the_future_is_refused(router: ModelRouter) -> None:
    ahead = datetime.now(UTC).date() + timedelta(days=3)
    for ask in (
        lambda: router.predict(FRAME, as_of=ahead),
        lambda: router.predict(FRAME, as_of=[DAY] * 299 + [ahead]),
        lambda: router.predict_one(ROW, as_of=ahead),
        lambda: router.predict_one(ROW, as_of=datetime(2199, 1, 1, tzinfo=UTC)),
    ):
        with pytest.raises(InvalidRows, match="set the caller's clock, or the date, right"):
            ask()
    # it may be tomorrow already where the features are from
    router.predict_one(ROW, as_of=datetime.now(UTC).date() + timedelta(days=1))


def test_another_number_of_tickers_or_dates_is_refused(services: ChampionServices) -> None:
    with opened(services, recorder=Recording()) as router:
        with pytest.raises(InvalidRows, match="300 rows were given with 2 tickers"):
            router.predict(FRAME, tickers=["A", "B"], as_of=DAY)
        with pytest.raises(InvalidRows, match="300 rows were given with 1 dates"):
            router.predict(FRAME, tickers=["A"] * 300, as_of=[DAY])


def test_answers_with_ticker_and_date_are_recorded(services: ChampionServices) -> None:
    recorder = Recording()
    tickers = pd.Series([f"T{number}" for number in range(300)])
    with opened(services, recorder=recorder) as router:
        router.predict(FRAME)
        router.predict_one(ROW, ticker="T0")
        assert recorder.recorded == []
        router.predict(FRAME, tickers=tickers, as_of=datetime(2020, 6, 1, 12, tzinfo=UTC))
        router.predict_one({**ROW, "feature_1": np.inf}, ticker="T0", as_of=DAY)
        held = router.model
    many, one = recorder.recorded
    assert (many[0], many[1], many[2]) == (held, list(tickers), [DAY] * 300)
    np.testing.assert_array_equal(many[3], BY_FIRST)
    assert many[4] == row_digests(FRAME.to_numpy())
    assert (one[1], one[2]) == (["T0"], [DAY])
    assert one[4] == row_digests(FRAME.head(1).assign(feature_1=np.float32(np.nan)).to_numpy(dtype=np.float32))


DAYS = [date(2020, 6, 1 + number % 28) for number in range(300)]


@pytest.mark.parametrize(
    "as_of",
    [
        DAYS,
        np.array(DAYS, dtype="datetime64[D]"),
        np.array(DAYS, dtype="datetime64[ns]"),
        pd.Series(pd.to_datetime(DAYS)),
        pd.Series(pd.to_datetime(DAYS)).dt.tz_localize("America/New_York"),
        pd.DatetimeIndex(DAYS),
        [pd.Timestamp(day) for day in DAYS],
        [np.datetime64(day) for day in DAYS],
        pa.array(DAYS),
        pa.chunked_array([DAYS]),
        iter(DAYS),
    ],
    ids=lambda one: type(one).__name__,
)
def test_dates_are_recorded_from_every_kind_of_column(services: ChampionServices, as_of: Any) -> None:
    recorder = Recording()
    with opened(services, recorder=recorder) as router:
        router.predict(FRAME, tickers=pa.array(["A"] * 300), as_of=as_of)
    assert recorder.recorded[0][2] == DAYS
    assert {type(day) for day in recorder.recorded[0][2]} == {date}
    assert recorder.recorded[0][1] == ["A"] * 300


@pytest.mark.parametrize(
    "as_of", [datetime(2020, 6, 1, 9, tzinfo=UTC), pd.Timestamp("2020-06-01 09:30"), np.datetime64("2020-06-01T09:30")]
)
def test_one_date_is_recorded_as_a_date(services: ChampionServices, as_of: Any) -> None:
    recorder = Recording()
    with opened(services, recorder=recorder) as router:
        router.predict_one(ROW, ticker="A", as_of=as_of)
        router.predict(FRAME, tickers=["A"] * 300, as_of=as_of)
    assert [one[2] for one in recorder.recorded] == [[DAY], [DAY] * 300]
    assert type(recorder.recorded[0][2][0]) is date


@pytest.mark.parametrize("bad", [pd.NaT, np.datetime64("NaT"), "2020-06-01", 20200601, 1.5, np.datetime64(10**7, "Y")])
def test_what_is_no_date_is_refused_before_it_is_answered(services: ChampionServices, bad: Any) -> None:
    recorder = Recording()
    with opened(services, recorder=recorder) as router:
        for ask in (
            lambda: router.predict_one(ROW, ticker="A", as_of=bad),
            lambda: router.predict(FRAME, tickers=["A"] * 300, as_of=bad),
            lambda: router.predict(FRAME, tickers=["A"] * 300, as_of=[*DAYS[:-1], bad]),
            lambda: router.predict(FRAME, tickers=["A"] * 300, as_of=[*DAYS[:-1], None]),
            lambda: router.predict(FRAME, tickers=["A"] * 300, as_of=pd.Series([*DAYS[:-1], None], dtype="M8[ns]")),
        ):
            with pytest.raises(InvalidRows, match="as_of is"):
                ask()
    assert recorder.recorded == []


@pytest.mark.parametrize("bad", ["A" * 300, b"A" * 300, 7, [None] * 300, [float("nan")] * 300, [pd.NA] * 300])
def test_what_is_no_list_of_tickers_is_refused(services: ChampionServices, bad: Any) -> None:
    recorder = Recording()
    with opened(services, recorder=recorder) as router:
        with pytest.raises(InvalidRows, match="ticker"):
            router.predict(FRAME, tickers=bad, as_of=DAY)
        with pytest.raises(InvalidRows, match="a ticker is a name"):
            router.predict_one(ROW, ticker=[], as_of=DAY)  # type: ignore[arg-type]
    assert recorder.recorded == []


def test_what_a_caller_does_with_its_probabilities_is_not_in_the_log(services: ChampionServices) -> None:
    recorder = Recording()
    with opened(services, recorder=recorder) as router:
        router.predict(FRAME, tickers=["A"] * 300, as_of=DAY).probability[:] = 0.0
    np.testing.assert_array_equal(recorder.recorded[0][3], BY_FIRST)


def test_an_answer_that_cannot_be_recorded_is_not_given(services: ChampionServices) -> None:
    class Full(Recording):
        def record(self, *given: Any) -> None:
            raise LedgerUnavailable("the log is full")

    with opened(services, recorder=Full()) as router, pytest.raises(LedgerUnavailable, match="the log is full"):
        router.predict_one(ROW, ticker="T0", as_of=DAY)


# -- the champion


def test_an_unknown_strategy_is_named(services: ChampionServices) -> None:
    with pytest.raises(UnknownStrategy, match="strategy 'growht' is not known; one of: growth"):
        ModelRouter("growht", services=services)


def test_a_strategy_without_a_champion_says_so_until_there_is_one(tmp_path: Path) -> None:
    services = ChampionServices(tmp_path)
    with opened(services) as router:
        with pytest.raises(NoChampion, match="strategy 'growth' has no champion; `acis retrain growth`"):
            router.predict(FRAME)
        assert router.status().version is None
        assert "has no champion" in (router.status().problem or "")
        services.promote("1", 1, FIRST)
        router.follow()
        np.testing.assert_array_equal(router.predict(FRAME).probability, BY_FIRST)


def test_a_promotion_and_a_rollback_are_followed(router: ModelRouter, services: ChampionServices) -> None:
    services.promote("2", 2, SECOND)
    with capture_logs() as logs:
        router.follow()
    assert [(line["event"], line["version"], line["before"]) for line in logs] == [("serving.swapped", "2", "1")]
    np.testing.assert_array_equal(router.predict(FRAME).probability, BY_SECOND)
    services.promote("1", 3, FIRST)
    router.follow()
    assert (router.predict(FRAME).version, router.model.seq) == ("1", 3)
    np.testing.assert_array_equal(router.predict(FRAME).probability, BY_FIRST)


def test_the_router_s_own_thread_follows(services: ChampionServices) -> None:
    asked = threading.Event()
    with ModelRouter("growth", services=services, poll_s=0.01) as router:
        services.promote("2", 2, SECOND)
        follow = router.follow

        def followed() -> None:
            follow()
            if router.model.version == "2":
                asked.set()

        router.follow = followed  # type: ignore[method-assign]  # to be told
        assert asked.wait(30)


def test_a_router_stops_answering_before_its_log_ends(services: ChampionServices) -> None:
    found: list[str] = []

    class Ending(Recording):
        def close(self) -> None:
            with pytest.raises(ConfigurationError, match="was closed; make another one"):
                router.predict_one(ROW)
            found.append("closed")

    router = opened(services)
    router._own_log = Ending()  # type: ignore[assignment]  # what close calls
    router.close()
    assert found == ["closed"]


def test_a_champion_that_was_taken_out_answers_no_more(router: ModelRouter, services: ChampionServices) -> None:
    services.one.champion_now = champion(None, 2)
    router.follow()
    with pytest.raises(NoChampion, match="has no champion any more: it was taken out of production"):
        router.predict_one(ROW)
    services.one.is_away = True
    with opened(services) as restarted, pytest.raises(NoChampion, match="had no champion when the ledger was last"):
        restarted.predict_one(ROW)


def test_the_same_model_under_another_number_is_not_loaded_again(
    router: ModelRouter, services: ChampionServices
) -> None:
    before = router.model.predictor
    services.promote("9", 2, FIRST)
    router.follow()
    assert (router.model.version, router.model.seq, router.model.predictor) == ("9", 2, before)
    with pytest.raises(InvalidRows, match="growth version 9"):
        router.predict_one({})


def test_a_ledger_that_was_made_anew_has_its_own_champion_under_the_same_place(
    router: ModelRouter, services: ChampionServices
) -> None:
    services.promote("1", 1, SECOND)
    router.follow()
    np.testing.assert_array_equal(router.predict(FRAME).probability, BY_SECOND)
    before = router.model.predictor
    services.promote("4", 1, SECOND)
    router.follow()
    assert (router.model.version, router.model.seq, router.model.predictor) == ("4", 1, before)
    assert router._copies.record() == replace(router._copies.record(), version="4", sha256=router.model.sha256)  # type: ignore[type-var]


def test_a_start_from_a_copy_is_followed_by_another_champion_of_the_same_place(services: ChampionServices) -> None:
    with opened(services):
        pass
    services.one.is_away = True
    with opened(services) as router:
        np.testing.assert_array_equal(router.predict(FRAME).probability, BY_FIRST)
        services.one.is_away = False
        services.promote("1", 1, SECOND)
        router.follow()
        np.testing.assert_array_equal(router.predict(FRAME).probability, BY_SECOND)


@pytest.mark.parametrize("content", [b"", b"damaged", model_bytes(FIRST)], ids=["empty", "damaged", "another model"])
def test_a_damaged_champion_is_refused_and_the_one_before_kept(
    router: ModelRouter, services: ChampionServices, clock: list[float], content: bytes
) -> None:
    second = services.promote("2", 2, SECOND)
    services.keep(second, content=content)
    with capture_logs() as logs:
        router.follow()
        router.follow()
    assert [(line["event"], line["champion"], line["answers"]) for line in logs] == [
        ("serving.champion_refused", "2", "1")
    ]
    np.testing.assert_array_equal(router.predict(FRAME).probability, BY_FIRST)
    status = router.status()
    assert (status.version, status.seq) == ("1", 1)
    assert "it was changed after it was logged and is not loaded" in (status.problem or "")
    services.keep(second)
    clock[0] += 5
    router.follow()
    assert (router.predict_one(ROW).version, router.status().problem) == ("2", None)


def test_a_champion_that_is_no_classifier_of_ours_is_refused_and_the_one_before_kept(
    router: ModelRouter, services: ChampionServices
) -> None:
    nameless = classifier().fit(rows(100), np.arange(100) % 2)
    services.promote("2", 2, nameless)
    router.follow()
    assert router.predict_one(ROW).version == "1"
    assert "does not say the names of its features" in (router.status().problem or "")


def test_a_champion_that_fails_again_is_asked_for_more_seldom(
    router: ModelRouter, services: ChampionServices, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = services.promote("2", 2, SECOND)
    services.keep(second, content=b"damaged")
    tries: list[float] = []
    kept_model = services.store.kept_model

    def noted(key: str, name: str) -> bytes | None:
        if name == "model.ubj":
            tries.append(clock[0])
        return kept_model(key, name)

    monkeypatch.setattr(services.store, "kept_model", noted)
    for _ in range(100):
        router.follow()
        clock[0] += 1
    # 1, 2, 4, 8, 16, then every 30 seconds
    assert tries == [100.0, 101.0, 103.0, 107.0, 115.0, 131.0, 161.0, 191.0]


# -- without servers


def test_without_a_ledger_the_champion_goes_on_and_its_age_is_said(
    router: ModelRouter, services: ChampionServices, clock: list[float]
) -> None:
    services.one.is_away = True
    clock[0] += 90
    with capture_logs() as logs:
        router.follow()
        router.follow()
    assert [line["event"] for line in logs] == ["serving.ledger_away"]
    np.testing.assert_array_equal(router.predict(FRAME).probability, BY_FIRST)
    assert (router.status().confirmed_age_s, router.status().problem) == (90.0, "PostgreSQL does not answer")
    services.one.is_away = False
    router.follow()
    assert (router.status().confirmed_age_s, router.status().problem) == (0.0, None)


def test_a_restart_without_servers_answers_from_the_copy_and_says_how_old_it_is(services: ChampionServices) -> None:
    with opened(services) as before:
        np.testing.assert_array_equal(before.predict(FRAME).probability, BY_FIRST)
    services.one.is_away = True
    services.store.drop_model(services.store.kept_models()[0])
    with capture_logs() as logs, opened(services) as router:
        np.testing.assert_array_equal(router.predict(FRAME).probability, BY_FIRST)
        status = router.status()
    assert (status.version, status.problem) == ("1", "PostgreSQL does not answer")
    assert 0 <= (status.confirmed_age_s or -1) < 60
    assert [line["event"] for line in logs] == ["serving.ledger_away", "serving.started_from_copy"]


def test_a_copy_of_a_clock_that_was_set_back_is_not_of_the_future(services: ChampionServices) -> None:
    with opened(services) as before:
        copies = before._copies
    record = copies.record()
    assert record is not None
    ahead = datetime.now(UTC) + timedelta(days=300)
    copies.note(type(record)(**{**vars(record), "confirmed_at": ahead.isoformat()}))
    services.one.is_away = True
    with opened(services) as router:
        assert 0 <= (router.status().confirmed_age_s or 0) < 60


def copy_of(services: ChampionServices, ending: str) -> Path:
    (found,) = (services.settings.var_dir / "serving").rglob(f"*{ending}")
    return found


@pytest.mark.parametrize("ending", [".ubj", "champion.json"])
@pytest.mark.parametrize("content", [b"", b"torn", b"{}"])
def test_a_damaged_copy_is_not_used(services: ChampionServices, ending: str, content: bytes) -> None:
    with opened(services):
        pass
    copy_of(services, ending).write_bytes(content)
    services.one.is_away = True
    with opened(services) as router, pytest.raises(LedgerUnavailable):
        router.predict(FRAME)
    services.one.is_away = False
    with opened(services) as router:
        np.testing.assert_array_equal(router.predict(FRAME).probability, BY_FIRST)
    assert copy_of(services, ".ubj").read_bytes() == model_bytes(FIRST)


def test_a_damaged_profile_among_the_copies_costs_no_answer(services: ChampionServices) -> None:
    with opened(services):
        pass
    copy_of(services, ".ubj").with_suffix(".arrow").write_bytes(b"torn")
    services.one.is_away = True
    with opened(services) as router:
        assert router.predict_one(ROW).version == "1"
        assert "at the model's own thresholds (the drift profile is torn" in (router.status().engine_check or "")


def test_few_copies_are_kept(router: ModelRouter, services: ChampionServices) -> None:
    for seq in range(2, 9):
        services.promote(str(seq), seq, classifier(seed=seq, n_estimators=2))
        router.follow()
    kept = list((services.settings.var_dir / "serving").rglob("*.ubj"))
    assert len(kept) == 4
    assert f"{router.model.sha256}.ubj" in {path.name for path in kept}


def test_the_champion_s_copy_stays_when_it_came_back_from_memory(
    router: ModelRouter, services: ChampionServices
) -> None:
    first = router.model.sha256
    for seq in range(2, 8, 2):  # each time back to the first, which is in memory
        services.promote(str(seq), seq, classifier(seed=seq, n_estimators=2))
        router.follow()
        services.promote("1", seq + 1, FIRST)
        router.follow()
    services.promote("8", 8, classifier(seed=8, n_estimators=2))
    router.follow()
    assert first in {path.stem for path in (services.settings.var_dir / "serving").rglob("*.ubj")}


def test_the_recorded_champion_s_copy_is_never_the_oldest(services: ChampionServices, tmp_path: Path) -> None:
    with opened(services) as router:
        copies, first = router._copies, router.model.sha256
    os.utime(copy_of(services, ".ubj"), (1, 1))
    for number in range(6):
        content = bytes([number])
        copies.keep(
            ModelFile(
                strategy="growth", version="9", seq=9, sha256=hashlib.sha256(content).hexdigest(), content=content
            )
        )
    assert copies.model(first) == model_bytes(FIRST)


def test_a_damaged_copy_is_said_once(services: ChampionServices) -> None:
    with opened(services):
        pass
    copy_of(services, ".ubj").write_bytes(b"torn")
    services.one.is_away = True
    with capture_logs() as logs, opened(services) as router:
        router.follow()
        router.follow()
    assert [line["event"] for line in logs].count("serving.copy_damaged") == 1


def test_a_var_folder_that_is_a_file_costs_only_the_copy(services: ChampionServices) -> None:
    services.settings.var_dir.touch()
    with capture_logs() as logs, opened(services) as router:
        assert router.predict_one(ROW).version == "1"
    assert "serving.copy_not_kept" in {line["event"] for line in logs}


def test_without_servers_and_without_a_copy_the_reason_is_given(services: ChampionServices) -> None:
    services.one.is_away = True
    with opened(services) as router:
        with pytest.raises(LedgerUnavailable, match="PostgreSQL does not answer"):
            router.predict_one(ROW)
        services.one.is_away = False
        router.follow()
        assert router.predict_one(ROW).version == "1"


def test_a_refusal_says_each_time_when_to_ask_again(services: ChampionServices) -> None:
    services.one.is_away = True
    with opened(services) as router:
        router._refusal = LedgerUnavailable("away", delay_s=42.0)
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="away") as refused:
                router.predict_one(ROW)
            assert refused.value.delay_s == 42.0


def test_a_first_champion_that_is_damaged_everywhere_is_named(services: ChampionServices) -> None:
    services.keep(model_bytes(FIRST), content=b"damaged")
    with opened(services) as router, pytest.raises(UnusableModelFile, match="of growth version 1 has digest"):
        router.predict_one(ROW)


# -- life


def test_a_closed_router_refuses(services: ChampionServices) -> None:
    router = opened(services)
    router.close()
    router.close()
    assert not router._thread.is_alive()
    with pytest.raises(ConfigurationError, match="was closed; make another one"):
        router.predict_one(ROW)


def test_a_router_of_before_a_fork_refuses_in_the_child(router: ModelRouter) -> None:
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()

    def ask() -> None:
        try:
            router.predict_one(ROW)
        except ConfigurationError as exc:
            found.put(str(exc))
        else:
            found.put("it answered")

    child = context.Process(target=ask)
    with suppress(DeprecationWarning):
        child.start()
    child.join(60)
    assert "make a ModelRouter in each process" in found.get()
    assert router.predict_one(ROW).version == "1"


def test_a_router_that_is_closed_in_a_child_writes_nothing_of_its_parents(
    router: ModelRouter, services: ChampionServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("fork")
    written = context.SimpleQueue()
    monkeypatch.setattr(services.one, "count_answers", lambda rows: written.put((os.getpid(), rows[0].n)))
    router.predict_one(ROW)
    child = context.Process(target=router.close)
    with suppress(DeprecationWarning):
        child.start()
    child.join(60)
    router.close()
    assert (child.exitcode, written.get(), written.empty()) == (0, (os.getpid(), 1), True)


def test_a_thousand_swaps_under_load_mix_no_answer_and_fail_none(
    router: ModelRouter, services: ChampionServices
) -> None:
    third = classifier(seed=3)
    expected = {"1": BY_FIRST, "2": BY_SECOND, "3": third.predict_proba(FRAME)[:, 1]}
    row = FRAME.iloc[7].to_dict()
    stop, faults, n_answers = threading.Event(), [], [0, 0, 0, 0]

    def ask(place: int) -> None:
        while not stop.is_set():
            try:
                if place % 2:
                    answers = router.predict(FRAME)
                    right = np.abs(answers.probability - expected[answers.version]).max() <= 6e-8
                    right = right and answers.sha256 == digests[answers.version]
                else:
                    answer = router.predict_one(row)
                    right = abs(answer.probability - expected[answer.version][7]) <= 6e-8
                    right = right and answer.sha256 == digests[answer.version]
                if not right:
                    faults.append("mixed")
            except Exception as exc:  # noqa: BLE001 -- whatever a request ends with
                faults.append(repr(exc))
            n_answers[place] += 1

    models = {"1": model_bytes(FIRST), "2": model_bytes(SECOND), "3": model_bytes(third)}
    digests = {version: hashlib.sha256(content).hexdigest() for version, content in models.items()}
    for content in models.values():
        services.keep(content)
    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for seq in range(2, 1002):
        # Each 250th is no longer in memory and is loaded while the others ask.
        version = "3" if seq % 250 == 0 else str(1 + seq % 2)
        services.one.champion_now = champion(version, seq, models[version])
        router.follow()
        assert (router.model.seq, router.model.version) == (seq, version)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert min(n_answers) > 100
