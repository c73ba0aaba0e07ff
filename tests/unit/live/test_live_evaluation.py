"""The replay of `acis evaluate-live`: champions of the sample and what is said of them, cut short."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from config.settings import ROOT, Settings
from lab.live_evaluation import PastChampion, evaluate_live, law_of_moves, replay, strategy_rows
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
