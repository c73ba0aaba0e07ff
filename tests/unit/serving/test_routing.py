"""An experiment's challenger answers its keys, or none; whatever is wrong with it, the champion answers."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from mlops.domain.errors import InvalidRows, NoChampion
from mlops.domain.experiments.decision import Mode
from mlops.reporting.experiments import routed
from mlops.serving import shadow
from mlops.serving.answer_counter import AnswerCounter
from mlops.serving.router import _GRACE_S, COUNTS_EVERY_S, ModelRouter
from tests.support.serving import (
    FEATURES,
    NEVER_S,
    ChampionServices,
    Recording,
    champion,
    classifier,
    frame,
    model_bytes,
    served,
)
from tests.support.waiting import wait_for

FIRST, SECOND = classifier(seed=1), classifier(seed=2)
FRAME = frame(300)
BY = {"1": FIRST.predict_proba(FRAME)[:, 1], "2": SECOND.predict_proba(FRAME)[:, 1]}
ROW = FRAME.iloc[0].to_dict()
TICKERS = [f"T{number}" for number in range(300)]
DAY = date(2020, 6, 1)


@pytest.fixture
def services(tmp_path: Path) -> ChampionServices:
    found = ChampionServices(tmp_path)
    found.promote("1", 1, FIRST)
    return found


@pytest.fixture
def recorder() -> Recording:
    return Recording()


@pytest.fixture
def router(services: ChampionServices, recorder: Recording) -> Iterator[ModelRouter]:
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=recorder) as found:
        yield found


def started(services: ChampionServices, router: ModelRouter, model: Any = SECOND, **options: Any) -> None:
    services.challenge(model, **options)
    router.follow()


def counted(router: ModelRouter, services: ChampionServices, version: str, variant: str = "champion") -> Any:
    router._write_counts()
    return services.one.counts(version, variant)


# -- who answers


def test_each_key_is_answered_by_the_version_that_the_assignment_says(
    services: ChampionServices, router: ModelRouter, recorder: Recording
) -> None:
    started(services, router)
    assert services.one.experiment_now is not None
    theirs = np.array([services.one.experiment_now.assignment.is_challengers(one) for one in TICKERS])
    assert 100 < theirs.sum() < 200
    answers = router.predict(FRAME, tickers=TICKERS, as_of=DAY)
    np.testing.assert_allclose(answers.probability, np.where(theirs, BY["2"], BY["1"]), atol=1e-6)
    assert answers.versions == ["2" if mine else "1" for mine in theirs]
    assert answers.variants == ["challenger" if mine else "champion" for mine in theirs]
    assert (answers.version, answers.sha256) == ("1", router.model.sha256)  # two answered: the champion's
    for place in (0, 1, 2, 3, 4, 5):
        one = router.predict_one(FRAME.iloc[place], ticker=TICKERS[place], as_of=DAY)
        assert (one.version, one.variant) == (answers.versions[place], answers.variants[place])
        assert one.probability == pytest.approx(answers.probability[place], abs=1e-6)
    by_variant = {
        variant: [ticker for one in recorder.recorded[:2] if one[0].variant == variant for ticker in one[1]]
        for variant in ("champion", "challenger")
    }
    assert by_variant["challenger"] == [ticker for ticker, mine in zip(TICKERS, theirs, strict=True) if mine]
    assert by_variant["champion"] == [ticker for ticker, mine in zip(TICKERS, theirs, strict=True) if not mine]
    assert {(one[0].version, one[0].variant) for one in recorder.recorded} == {("1", "champion"), ("2", "challenger")}


def test_a_key_comes_before_the_ticker_and_a_row_without_either_is_the_champion_s(
    services: ChampionServices, router: ModelRouter
) -> None:
    started(services, router, share=1e-9, keys=("client 7",))
    assert router.predict_one(ROW, ticker="A", key="client 7").version == "2"
    assert router.predict_one(ROW, ticker="client 7").version == "2"
    assert router.predict_one(ROW, ticker="client 7", key="client 8").version == "1"
    assert router.predict_one(ROW).version == "1"
    answers = router.predict(FRAME.head(3), keys=["client 7", None, "client 8"])
    assert answers.versions == ["2", "1", "1"]
    whole = router.predict(FRAME.head(2), keys=["client 7"] * 2)
    assert (whole.version, whole.variants) == ("2", ["challenger"] * 2)
    assert router.predict(FRAME.head(2)).versions == ["1", "1"]


@pytest.mark.parametrize("bad", [1.5, b"x", True, [None]])
def test_what_is_no_key_is_refused_with_and_without_an_experiment(
    services: ChampionServices, router: ModelRouter, bad: Any
) -> None:
    for _ in range(2):
        with pytest.raises(InvalidRows, match="a key is a text"):
            router.predict_one(ROW, key=bad)
        with pytest.raises(InvalidRows, match=r"a key is a text|1 keys"):
            router.predict(FRAME.head(1), keys=[bad])
        with pytest.raises(InvalidRows, match="300 rows were given with 2 keys"):
            router.predict(FRAME, keys=["a", "b"])
        started(services, router)
    assert router.predict_one(ROW, key="half of a pair \ud800").version in {"1", "2"}


def test_a_larger_share_moves_keys_to_the_challenger_alone(services: ChampionServices, router: ModelRouter) -> None:
    before: set[str] = set()
    for share in (0.0, 0.01, 0.05, 0.25, 1.0):
        started(services, router, share=share)
        versions = router.predict(FRAME, tickers=TICKERS).versions
        now = {ticker for ticker, version in zip(TICKERS, versions, strict=True) if version == "2"}
        assert before <= now
        assert router.status().challenger_share == share
        before = now
    assert before == set(TICKERS)


def test_another_process_gives_each_key_to_the_same_version(services: ChampionServices, router: ModelRouter) -> None:
    started(services, router)
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=Recording()) as other:
        both = [one.predict(FRAME, tickers=TICKERS).versions for one in (router, other)]
    assert both[0] == both[1]


@pytest.mark.parametrize("key", ["AAPL", "Zürich", "half of a pair \udcff", ""])
def test_whoever_is_asked_about_a_key_says_the_same(services: ChampionServices, router: ModelRouter, key: str) -> None:
    for share in (0.25, 0.5, 1.0):
        started(services, router, share=share)
        told = routed(services.one.serving_state("growth"), key)
        assert (told.version, told.variant) == router.predict_one(ROW, key=key)[1::2]
        assert (told.key, told.version) == (router.explain_route(key).key, router.explain_route(key).version)


def test_it_is_said_why_a_version_answers(services: ChampionServices, router: ModelRouter) -> None:
    assert router.explain_route("AAPL").reason == "no experiment runs: the champion answers every key"
    started(services, router, share=0.25, keys=("MSFT",))
    named, other = router.explain_route("MSFT"), router.explain_route("AAPL")
    assert (named.version, named.variant, named.share, named.experiment) == ("2", "challenger", 0.25, 1)
    assert "among the 1 keys that were named" in named.reason
    assert "the challenger's share of 0.25" in other.reason
    assert router.explain_route(None).reason.endswith("without a key the champion answers")
    assert [(one.variant, one.version, one.share, one.keys) for one in router.routes()] == [
        ("champion", "1", 0.75, ()),
        ("challenger", "2", 0.25, ("MSFT",)),
    ]
    services.promote("3", 2, classifier(seed=3))
    router.follow()
    assert router.explain_route("MSFT").version == "3"
    services.one.champion_now = champion(None, 3)
    router.follow()
    with pytest.raises(NoChampion):
        router.explain_route("MSFT")


# -- changes


def test_an_experiment_that_ends_leaves_the_champion_and_one_that_promotes_loads_nothing(
    services: ChampionServices, router: ModelRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(services, router, share=1.0)
    assert router.predict_one(ROW, key="A").version == "2"
    services.one.experiment_now = None
    router.follow()
    assert router.predict_one(ROW, key="A").version == "1"
    assert router.status().challenger is None
    started(services, router, share=1.0)
    monkeypatch.setattr("mlops.serving.router.serve", lambda *_, **__: pytest.fail("it was loaded already"))
    services.one.champion_now = champion("2", 2, model_bytes(SECOND))
    router.follow()
    answer = router.predict_one(ROW, key="A")
    assert (answer.version, answer.variant) == ("2", "champion")
    assert router.status().experiment is None


def test_an_experiment_against_another_champion_than_is_loaded_asks_nobody(
    services: ChampionServices, router: ModelRouter
) -> None:
    content = model_bytes(classifier(seed=3))
    services.keep(content, content=b"damaged")
    services.one.champion_now = champion("3", 2, content)
    started(services, router, share=1.0)
    assert router.predict_one(ROW, key="A").version == "1"  # the champion of before, whose experiment it is not
    assert router.status().challenger is None


def test_the_last_known_routes_stay_while_the_ledger_is_away(services: ChampionServices, router: ModelRouter) -> None:
    started(services, router, share=1.0)
    services.one.is_away = True
    router.follow()
    assert router.predict_one(ROW, key="A").version == "2"
    assert "does not answer" in (router.status().problem or "")


# -- a challenger that is in trouble


def test_a_challenger_that_cannot_be_loaded_is_said_and_the_champion_answers_everything(
    services: ChampionServices, router: ModelRouter
) -> None:
    services.challenge(SECOND, share=1.0)
    services.keep(model_bytes(SECOND), content=b"damaged")
    with capture_logs() as logs:
        router.follow()
        router.follow()
    assert [line["event"] for line in logs].count("serving.challenger_refused") == 1
    status = router.status()
    assert (status.experiment, status.challenger, status.problem) == (1, None, None)
    assert "of growth version 2 has digest" in (status.challenger_problem or "")
    assert router.predict_one(ROW, key="A").version == "1"
    assert "is not loaded: " in router.explain_route("A").reason
    services.one.experiment_now = None
    router.follow()
    assert router.status().challenger_problem is None


def test_a_champion_is_followed_while_a_challenger_is_being_loaded(
    services: ChampionServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops.serving import router as module

    go_on, real = threading.Event(), module.serve

    def slow(file: Any, **options: Any) -> Any:
        if file.version == "2":
            assert go_on.wait(60)
        return real(file, **options)

    monkeypatch.setattr(module, "serve", slow)
    with ModelRouter("growth", services=services, poll_s=0.01, recorder=Recording()) as router:
        services.challenge(SECOND, share=1.0)
        wait_for(lambda: router.status().experiment == 1, "the experiment is followed")
        assert router.predict_one(ROW, key="A").version == "1"
        services.promote("3", 2, classifier(seed=3))
        wait_for(lambda: router.model.version == "3", "the champion is followed")
        go_on.set()
        assert router.predict_one(ROW, key="A").version == "3"


def test_a_row_that_the_challenger_cannot_answer_is_the_champion_s_and_counted(
    services: ChampionServices, router: ModelRouter
) -> None:
    wider = (*FEATURES, "feature_6")
    started(services, router, wide_classifier(), share=1.0)
    with capture_logs() as logs:
        assert router.predict_one(ROW, key="A").version == "1"
        assert router.predict_one(FRAME.to_numpy()[0], key="A").version == "1"
        assert router.predict(FRAME, tickers=TICKERS).versions == ["1"] * 300
    assert [line["event"] for line in logs] == ["serving.challenger_failed"]
    found = counted(router, services, "2", "challenger")
    assert (found["n"], found["n_errors"]) == (301, 301)
    assert router.status().not_asked == 1  # the array, which has no names of columns
    both = FRAME.assign(feature_6=1.0)
    assert router.predict_one(dict.fromkeys(wider, 1.0), key="A").version == "2"
    assert router.predict(both, tickers=TICKERS).versions == ["2"] * 300
    # and whoever sends the columns of both is not refused once it has ended
    services.one.experiment_now = None
    router.follow()
    assert router.predict(both).version == "1"
    services.promote("3", 2, classifier(seed=3))
    router.follow()
    assert router.predict_one(dict.fromkeys(wider, 1.0)).version == "3"


def wide_classifier() -> Any:
    """A classifier that reads a column more."""
    x = frame(500).assign(feature_6=np.arange(500.0))
    return classifier(seed=2).__class__(n_estimators=5, n_jobs=1).fit(x, (x.feature_6 > 250).astype(int))


def errors(router: ModelRouter, services: ChampionServices) -> list[tuple[int, int]]:
    found = [counted(router, services, *one) for one in (("1",), ("2", "challenger"))]
    return [(one["n"], one["n_errors"]) for one in found]


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("mode", [Mode.AB, Mode.SHADOW])
def test_rows_that_both_refuse_are_errors_of_neither(
    services: ChampionServices, router: ModelRouter, mode: Mode, share: float
) -> None:
    started(services, router, share=share, mode=mode)
    for row in ({}, {**ROW, "feature_1": "x"}, FRAME.to_numpy()[0, :3], FRAME.head(2)):
        with pytest.raises(InvalidRows):
            router.predict_one(row, key="A")
    for rows in (FRAME.drop(columns="feature_1"), FRAME.to_numpy()[:, :3]):
        with pytest.raises(InvalidRows, match="growth version 1"):
            router.predict(rows, keys=TICKERS)
    assert errors(router, services) == [(0, 0), (0, 0)]


def test_rows_that_the_champion_alone_refuses_are_its_errors(services: ChampionServices, router: ModelRouter) -> None:
    started(services, router, classifier(seed=2, features=FEATURES[:5]), share=1.0)
    narrow = FRAME[list(FEATURES[:5])]
    assert router.predict_one(narrow.iloc[0].to_dict(), key="A").version == "2"
    for row in (narrow.iloc[0].to_dict(), narrow.head(1)):
        with pytest.raises(InvalidRows, match="growth version 1"):
            router.predict_one(row)
    with pytest.raises(InvalidRows, match="growth version 1"):
        router.predict(narrow)
    assert errors(router, services) == [(302, 302), (1, 0)]


def test_a_challenger_that_fails_is_told_from_callers_who_send_what_nobody_reads(
    services: ChampionServices, router: ModelRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(services, router, share=1.0)
    real = router._one

    def fails(model: Any, row: Any, **options: Any) -> Any:
        if model.variant == "challenger" and row.get("feature_0") == 7.0:
            raise RuntimeError("a defect")
        return real(model, row, **options)

    monkeypatch.setattr(router, "_one", fails)
    for place in range(1000):
        row = {} if place % 50 == 0 else {**ROW, "feature_0": 7.0 if place % 10 == 1 else 1.0}
        with nullcontext() if row else pytest.raises(InvalidRows):
            router.predict_one(row, key="A")
    assert errors(router, services) == [(100, 0), (980, 100)]


def test_rows_of_a_challenger_that_is_not_loaded_in_time_are_its_errors(services: ChampionServices) -> None:
    now = [100.0]
    services.challenge(SECOND, share=1.0)
    services.keep(model_bytes(SECOND), content=b"damaged")
    with ModelRouter(
        "growth", services=services, poll_s=NEVER_S, recorder=Recording(), monotonic=lambda: now[0]
    ) as router:
        now[0] += _GRACE_S - 1
        router.predict_one(ROW, key="A")
        assert errors(router, services) == [(1, 0), (0, 0)]
        now[0] += 1
        assert router.predict_one(ROW, key="A").version == "1"
        assert router.predict_one(ROW).version == "1"
        assert router.predict(FRAME, tickers=TICKERS).versions == ["1"] * 300
        with pytest.raises(InvalidRows):
            router.predict_one({}, key="A")
        assert errors(router, services) == [(303, 0), (301, 301)]
        assert (router.status().challenger_share, router.explain_route("A").is_split) == (0.0, False)
        services.keep(model_bytes(SECOND))
        router.follow()
        assert router.predict_one(ROW, key="A").version == "2"
        assert errors(router, services) == [(303, 0), (302, 301)]


@pytest.mark.parametrize("mode", [Mode.AB, Mode.SHADOW])
def test_the_latency_of_a_frame_is_that_of_one_of_its_rows_whatever_part_a_version_has(
    services: ChampionServices, router: ModelRouter, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    started(services, router, share=0.0, mode=mode, keys=("A",) if mode is Mode.AB else ())
    now_ns = [0]
    for clock in ("perf_counter_ns", "thread_time_ns"):
        monkeypatch.setattr(time, clock, lambda: now_ns[0])
    for route in (router._answering.champion, router._answering.challenger):  # type: ignore[union-attr]
        real = route.predictor.probabilities  # type: ignore[union-attr]

        def slow(rows: Any, real: Any = real) -> Any:
            now_ns[0] += 1_000_000 * len(rows)
            return real(rows)

        monkeypatch.setattr(route.predictor, "probabilities", slow)  # type: ignore[union-attr]
    for _ in range(3):
        router.predict(FRAME.head(10), keys=["A", *TICKERS[:9]])
    for key in ("A", "B"):
        router.predict_one(ROW, key=key)
        router.predict(FRAME.head(1), keys=[key])
    router.close()
    for variant, n in (("champion", 5 if mode is Mode.AB else 7), ("challenger", 5 if mode is Mode.AB else 1)):
        calls = [one.latency_ms for one in services.one.counted.values() if one.variant == variant]
        assert np.sum(calls) == np.sum([one[0] for one in calls])  # none takes a part's milliseconds
        assert np.sum(calls) >= n if variant == "challenger" else np.sum(calls) == n


# -- a shadow


def test_a_shadow_is_asked_and_recorded_and_never_returned(
    services: ChampionServices, router: ModelRouter, recorder: Recording
) -> None:
    started(services, router, mode=Mode.SHADOW, share=0.0, keys=("T0",))
    answers = router.predict(FRAME, tickers=TICKERS, as_of=DAY)
    assert set(answers.versions) == {"1"}
    for place in range(5):
        assert router.predict_one(FRAME.iloc[place].to_dict(), ticker=TICKERS[place], as_of=DAY).version == "1"
    router.predict_one(ROW)
    assert router.explain_route("T0").variant == "champion"
    wait_for(lambda: sum(len(one[1]) for one in recorder.recorded if one[0].variant == "challenger") == 305, "it is")
    found = [one for one in recorder.recorded if one[0].variant == "challenger"]
    tickers = [ticker for one in found for ticker in one[1]]
    assert tickers == [*TICKERS, *TICKERS[:5]]
    said = np.concatenate([one[3] for one in found])
    np.testing.assert_allclose(said, np.concatenate([BY["2"], BY["2"][:5]]), atol=1e-6)
    mine = {(one[1][place], one[4][place]) for one in recorder.recorded for place in range(len(one[1]))}
    assert len(mine) == 300  # both read the same rows
    counts = counted(router, services, "2", "challenger")
    assert (counts["n"], counts["n_errors"]) == (306, 0)
    assert counts["n_positive"] == np.sum(BY["2"] >= 0.5) + np.sum(BY["2"][:5] >= 0.5) + (BY["2"][0] >= 0.5)


def test_a_shadow_with_other_columns_reads_the_caller_s_row_as_it_was(
    services: ChampionServices, router: ModelRouter, recorder: Recording
) -> None:
    wide = wide_classifier()
    started(services, router, wide, mode=Mode.SHADOW, share=0.0)
    rows = FRAME.head(3).assign(feature_6=[1.0, 400.0, 2.0])
    expected = wide.predict_proba(rows)[:, 1]
    router.predict(rows, tickers=TICKERS[:3], as_of=DAY)
    row = rows.iloc[1].to_dict()
    router.predict_one(row, ticker="T1", as_of=DAY)
    row["feature_6"] = 0.0
    router.predict_one({**ROW, "feature_6": "x"}, ticker="T1", as_of=DAY)  # the champion reads no such column
    router.close()
    said = np.concatenate([one[3] for one in recorder.recorded if one[0].variant == "challenger"])
    np.testing.assert_allclose(said, [*expected, expected[1]], atol=1e-6)
    assert services.one.counts("2", "challenger")["n_errors"] == 1


def test_a_shadow_keeps_the_answers_that_have_ticker_and_date_with_their_own(
    services: ChampionServices, router: ModelRouter, recorder: Recording
) -> None:
    started(services, router, mode=Mode.SHADOW, share=0.0)
    expected = []
    for place in range(0, 30, 6):
        part = [FRAME.iloc[place + at : place + at + 2] for at in (0, 2, 4)]
        router.predict(part[0], tickers=["A", "B"])
        router.predict(part[1], tickers=TICKERS[place : place + 2], as_of=DAY + timedelta(days=place))
        router.predict(part[2], as_of=DAY)
        expected += [
            (TICKERS[place + at], DAY + timedelta(days=place), pytest.approx(BY["2"][place + 2 + at], abs=1e-6))
            for at in (0, 1)
        ]
    router.close()
    found = [one for one in recorder.recorded if one[0].variant == "challenger"]
    assert [row for one in found for row in zip(*one[1:4], strict=True)] == expected
    by_champion = [digest for one in recorder.recorded if one[0].variant == "champion" for digest in one[4]]
    assert [digest for one in found for digest in one[4]] == by_champion
    assert services.one.counts("2", "challenger")["n"] == 30


def test_rows_whose_answers_a_shadow_could_not_keep_are_counted(services: ChampionServices) -> None:
    class Failing(Recording):
        def record(self, *given: Any) -> None:
            if given[0].variant == "challenger":
                raise OSError("no such disk")

    services.challenge(SECOND, mode=Mode.SHADOW, share=0.0)
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=Failing()) as router:
        router.predict(FRAME.head(7), tickers=TICKERS[:7], as_of=DAY)
        router.predict(FRAME.head(5))  # which is not to be kept
        router.close()
        assert router.status().shadow_dropped == 7


def test_rows_by_name_that_wait_for_a_shadow_take_no_more_than_is_counted(
    recorder: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = shadow.Shadow(recorder, AnswerCounter(), limit_bytes=2_000_000)
    monkeypatch.setattr(waiting, "_wake", lambda: None)
    body = json.dumps({f"a_feature_with_number_{place}": place + 0.123 for place in range(45)})
    model = served(SECOND)
    tracemalloc.start()
    while waiting.n_dropped == 0:
        waiting.offer(model, json.loads(body), ["AAPL"], [DAY])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 2_200_000


def test_a_shadow_drops_what_is_more_than_it_can_answer(
    services: ChampionServices, recorder: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_EVERY_S", 60.0)
    monkeypatch.setattr(shadow.Shadow.__init__, "__kwdefaults__", {"limit_bytes": 10_000})
    services.challenge(SECOND, mode=Mode.SHADOW, share=0.0)
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=recorder) as router:
        router.predict(FRAME)  # 300 rows of 24 bytes are more
        for _ in range(100):
            router.predict_one(ROW)
        n_dropped = router.status().shadow_dropped
        assert 300 < n_dropped < 400
    assert services.one.counts("2", "challenger")["n"] == 400 - n_dropped


# -- counts


def test_answers_are_counted_by_version_and_minute_and_written_at_close(services: ChampionServices) -> None:
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=Recording()) as router:
        router.predict(FRAME)
        router.predict_one(dict.fromkeys(FEATURES, 1.0))
        router.predict_one({**dict.fromkeys(FEATURES, 1.0), "feature_1": float("inf")})
        router.predict_one(FRAME.iloc[0])
        with pytest.raises(InvalidRows):
            router.predict(FRAME.drop(columns="feature_1"))
        router._write_counts()
        router.predict_one(ROW)
    found = services.one.counts("1")
    n_missing = int(FRAME.isna().any(axis=1).sum())
    missing_first = bool(FRAME.iloc[0].isna().any())
    assert (found["n"], found["n_errors"], found["timed"]) == (604, 300, 5)
    assert found["n_missing_rows"] == n_missing + 1 + 2 * missing_first
    assert {one.writer for one in services.one.counted.values()} == {router._counter._writer}


def test_counts_go_to_the_ledger_every_ten_seconds(services: ChampionServices) -> None:
    now = [100.0]
    with ModelRouter(
        "growth", services=services, poll_s=0.005, recorder=Recording(), monotonic=lambda: now[0]
    ) as router:
        router.predict_one(ROW)
        now[0] += COUNTS_EVERY_S - 1
        wait_for(lambda: router.status().confirmed_age_s == 0.0, "it has followed")
        assert services.one.counted == {}
        now[0] += 1
        wait_for(lambda: services.one.counts("1")["n"] == 1, "they are written")


def test_counts_that_could_not_be_written_are_written_later(services: ChampionServices, router: ModelRouter) -> None:
    router.predict_one(ROW)
    services.one.is_away = True
    assert counted(router, services, "1")["n"] == 0
    services.one.is_away = False
    router.predict_one(ROW)
    assert counted(router, services, "1")["n"] == 2
    assert counted(router, services, "1")["n"] == 2


def test_a_paused_experiment_gives_its_challenger_no_key(services: ChampionServices, router: ModelRouter) -> None:
    started(services, router, share=1.0, keys=("A",))
    assert services.one.experiment_now is not None
    services.one.experiment_now = replace(services.one.experiment_now, paused=True)
    router.follow()
    assert router.predict_one(ROW, key="A").version == "1"
    assert "no key now" in router.explain_route("A").reason
