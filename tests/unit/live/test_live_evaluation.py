"""The replay of `acis evaluate-live`: champions of the sample and what is said of them, cut short."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.app import app
from config.settings import ROOT, Settings
from lab.live_evaluation import PastChampion, _placebos, evaluate_live, law_of_moves, replay, strategy_rows
from mlops.domain.policies import Strategy
from mlops.features.price_universes import price_source
from mlops.features.sample import compute_sample, read_prices
from mlops.strategies.file import load_strategies


class _Quiet:
    def report(self, progress: object) -> None: ...

    def check(self) -> None: ...

    def save_checkpoint(self, name: str, payload: bytes) -> None: ...

    def load_checkpoint(self) -> None: ...


@pytest.fixture(scope="module")
def growth() -> Strategy:
    return load_strategies(ROOT / "config" / "strategies_sample.toml")["growth"]


@pytest.fixture(scope="module")
def champions(growth: Strategy) -> list[PastChampion]:
    close = read_prices().loc["2015":]
    view = strategy_rows(compute_sample(), growth.name)
    settings = Settings().model_copy(update={"train_n_jobs": 1})
    with price_source(None, None) as made:
        return replay(made.source, growth, view, close, years=[2017, 2018, 2019], settings=settings, control=_Quiet())


def test_a_champion_is_judged_before_its_live_days_begin(champions: list[PastChampion], growth: Strategy) -> None:
    for champion in champions:
        assert max(champion.judged) < date(champion.year, 12, 31) < min(champion.live)
        assert len(champion.judged) == growth.training.holdout_dates
    assert max(champions[0].live) <= date(2018, 12, 31)
    assert max(champions[1].live) > date(2021, 12, 1)


def test_the_level_at_promotion_is_the_judged_twins_and_the_days_in_use_are_the_refits(
    champions: list[PastChampion], growth: Strategy
) -> None:
    close = read_prices().loc["2015":]
    single = replace(growth, training=replace(growth.training, refit=False))
    settings = Settings().model_copy(update={"train_n_jobs": 1})
    view = strategy_rows(compute_sample(), growth.name)
    with price_source(None, None) as made:
        (judged,) = replay(made.source, single, view, close, years=[2017], settings=settings, control=_Quiet())
    assert champions[0].judged == judged.judged
    assert champions[0].live.keys() == judged.live.keys()
    assert champions[0].live != judged.live


def test_the_next_return_is_the_price_of_the_next_day(champions: list[PastChampion]) -> None:
    close = read_prices()
    day = champions[0].predictions[date(2018, 3, 1)]
    names = ["AAPL", "AMD", "BBY", "HD", "LLY", "MSFT", "UNH"]
    expected = close.loc["2018-03-02", names] / close.loc["2018-03-01", names] - 1
    assert day.next_return == pytest.approx(expected.to_numpy())


def test_the_champion_of_2019_is_said_to_decay_in_march_2020_and_that_of_a_calm_year_is_not(
    champions: list[PastChampion], growth: Strategy
) -> None:
    found = evaluate_live(growth, champions, placebos=1)
    (of_2018, of_2019) = found.breaks
    assert of_2018.fired_on is not None
    assert of_2019.fired_on is not None
    assert date(2020, 3, 1) <= of_2019.fired_on <= date(2020, 3, 31)
    assert of_2019.accuracy_after is not None
    assert of_2019.accuracy_after < of_2019.accuracy_at_promotion - 0.3
    assert (found.calm.n_years, found.calm.rate.share) == (2, 0.0)
    assert found.placebo.n_years == 1
    mean, spread = law_of_moves([found, replace(found, label="another")])
    assert np.isfinite(mean)
    assert spread == 0.0  # one year of one strategy, counted once


def test_a_placebo_holds_the_same_days_in_another_order_and_is_judged_on_as_many_as_is_asked(
    champions: list[PastChampion],
) -> None:
    champion, rng = champions[0], np.random.default_rng(1)
    own = [*champion.judged.values(), *champion.first_year().values()]
    ((_, judged, live),) = _placebos(champion, 1, rng, None)
    assert len(judged) == 120
    assert all(score in own for score in [*judged.values(), *live.values()])
    assert max(judged) < min(live)
    assert list(judged.values()) != list(champion.judged.values())
    ((_, fewer, as_long),) = _placebos(champion, 1, rng, 60)
    assert (len(fewer), len(as_long)) == (60, len(live))


@pytest.mark.parametrize("form", ["--json", None])
def test_the_command_prints_its_tables_or_all_numbers(
    form: str | None, champions: list[PastChampion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.live_evaluation.replay", lambda *_, **__: champions)
    ended = CliRunner().invoke(app, ["evaluate-live", "growth", "--quick", *([form] if form else [])])
    assert ended.exit_code == 0, ended.output
    if form is None:
        assert "| growth | volatility | 2019 | 2020-03-" in ended.stdout
        assert "Years in which a champion is said to decay" in ended.stdout
        return
    results = json.loads(ended.stdout)["results"]
    assert [one["label"] for one in results] == ["target_volatility_20d > volatility_20d", "target_return > 0"]
    assert {one["metric"] for one in results[0]["coverage"]} == {"accuracy", "log_loss", "brier", "roc_auc"}


def test_a_strategy_that_is_not_of_the_sample_is_refused_by_name() -> None:
    ended = CliRunner().invoke(app, ["evaluate-live", "growht"])
    assert ended.exit_code != 0
    assert "growht" in ended.output
