"""What `acis evaluate-experiments` runs: the walk by the product's rules, other tests, and what follows on the sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pytest

from cli.experiment_evaluation import print_simulation
from config.settings import ROOT, Settings
from lab.experiment_history import History
from lab.experiment_replay import CASES, DECAYS_AFTER, replay, starts_of, summarise, with_label
from lab.experiment_simulation import (
    HELD_OUT,
    NAMES,
    RATIOS,
    SEQUENCE,
    ExperimentDesign,
    OnePair,
    Simulation,
    Wait,
    asymptotic_sequence,
    hac_test,
    peeked_t_test,
    sequence_days,
    simulate_differences,
    wrong_decisions,
)
from lab.experiment_walk import walk
from lab.live_evaluation import strategy_rows
from mlops.domain.experiments.decision import Action, Guardrail, Mode
from mlops.domain.experiments.duration import MAX_DAYS
from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.domain.experiments.sequence import first_decision, mixture_variance
from mlops.features.price_universes import price_source
from mlops.features.sample import compute_sample, read_prices
from mlops.strategies.file import load_strategies

POLICY = ExperimentPolicy()


class _Quiet:
    def report(self, progress: object) -> None: ...

    def check(self) -> None: ...

    def save_checkpoint(self, name: str, payload: bytes) -> None: ...

    def load_checkpoint(self) -> None: ...


def test_a_walk_ends_on_the_day_of_the_sequence_and_grows_while_it_is_ahead() -> None:
    r = mixture_variance(spread=1.0, days=150, alpha=POLICY.alpha)
    for sign, end in ((1.0, Action.PROMOTE), (-1.0, Action.KEEP)):
        d = sign * (0.3 + np.random.default_rng(1).normal(size=252))
        found = walk(d, policy=POLICY, r=r)
        days, _ = first_decision(d[None], r=r, alpha=POLICY.alpha)
        assert (found.end, found.day) == (end, days[0])
        means = np.cumsum(d) / np.arange(1, len(d) + 1)
        assert all(means[day - 1] >= 0 for day in found.advanced)
        assert all(later - day >= POLICY.min_days_on_step for day, later in pairwise((0, *found.advanced)))
        assert found.step == (3 if sign > 0 else 0)


def test_a_walk_without_a_difference_ends_at_its_deadline_and_a_guardrail_at_once() -> None:
    alternating = np.resize([1.0, -1.0], 300)
    found = walk(alternating, policy=POLICY, r=10.0, mode=Mode.SHADOW)
    assert (found.end, found.day, found.step) == (Action.UNDECIDED, POLICY.deadline_days, 0)
    assert walk(alternating[:20], policy=POLICY, r=10.0).end is Action.WAIT
    broken = Guardrail(name="positive share", value=0.9, bound=0.75, n=300, min_n=200)
    found = walk(alternating, policy=POLICY, r=10.0, guardrails=lambda day: (broken,) if day == 7 else ())
    assert (found.end, found.day) == (Action.ABORT, 7)


def test_the_asymptotic_sequence_is_that_of_another_library() -> None:
    i = np.arange(250)
    d = np.sin(0.7 * i * i) + 0.35 + 0.3 * np.cos(i)
    # ville 0.1.0: AsymptoticCS(alpha=0.05, t_opt=120, min_samples=20) has a lower end above 0 first after 22 days.
    assert asymptotic_sequence(d[None], alpha=0.05, planned=120.0)[0] == 22


def test_a_spread_of_many_lags_is_that_of_newey_and_west() -> None:
    d = np.random.default_rng(2).normal(size=400).cumsum() * 0.05 + 0.4
    centred, n, lags = d - d.mean(), len(d), 20
    gamma = [float(centred[lag:] @ centred[: n - lag]) / n for lag in range(lags + 1)]
    z = d.mean() / math.sqrt((gamma[0] + 2 * sum((1 - k / 21) * gamma[k] for k in range(1, 21))) / n)
    one_look = hac_test(d[None], alpha=0.05, lags=lags, first=n)[0]
    assert math.isfinite(one_look) == (abs(z) > 1.96)


def test_without_a_difference_marks_are_left_undecided_where_overlapping_losses_are_not() -> None:
    null = simulate_differences(ExperimentDesign(n_names=20, skill=(0.1, 0.1)), 40, np.random.default_rng(3))
    found = {(one.test, one.series): one for one in wrong_decisions(null, rng=np.random.default_rng(4))}
    assert found[SEQUENCE, "marks"].decided <= 0.1
    assert found["asymptotic sequence", "losses of overlapping labels"].decided > 0.7
    assert found["t-test for a fixed end", "marks"].decided > found[SEQUENCE, "marks"].decided
    assert found[SEQUENCE, "+1 on 99 days, -99 on one"].decided > 0.1, "what it does not withstand is said"
    assert np.isfinite(peeked_t_test(null.gain, alpha=0.05)).mean() > 0.8


def test_of_three_hundred_pairs_that_are_as_good_the_marks_decide_no_more_than_promised() -> None:
    """At 5 names, each with a mixture of its own earlier days."""
    null = simulate_differences(ExperimentDesign(n_names=5, skill=(0.1, 0.1)), 300, np.random.default_rng(12))
    for differences, before in ((null.mark, null.mark_before), (null.increment, null.increment_before)):
        assert (differences.shape[1], before.shape[1]) == (MAX_DAYS, HELD_OUT)
        assert 0 < np.isfinite(sequence_days(differences, before, sharpe=3.5)).mean() <= 0.05


def test_the_tables_have_a_row_for_each_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    null = simulate_differences(ExperimentDesign(n_names=5, skill=(0.1, 0.1)), 3, np.random.default_rng(5))
    waits = [
        Wait(
            sharpe=ratio,
            n_names=n,
            median=math.inf if ratio < 2 else 400 / ratio,
            within_year=0.5,
            said=math.inf if ratio < 2 else 440 / ratio,
            peeked=10.0,
            asymptotic=20.0,
            apart=math.inf,
        )
        for n in NAMES
        for ratio in RATIOS
    ]
    pairs = [OnePair(n_names=10, mark_sharpe=1.0, increment_sharpe=1.0, mark_days=math.inf, increment_days=9.0)]
    found = Simulation(wrong=wrong_decisions(null, rng=np.random.default_rng(6)), waits=waits, pairs=pairs)
    print_simulation(found)
    shown = capsys.readouterr().out
    assert "| 3.5 | 114 (50%) | 126 |" in shown
    assert "| 0.5 | > 2 years (50%) | > 2 years |" in shown
    assert "Said beforehand over what came: 1.10 to 1.10" in shown


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    """The sample's `growth`."""
    strategy = load_strategies(ROOT / "config" / "strategies_sample.toml")["growth"]
    close = read_prices()
    settings = Settings().model_copy(update={"train_n_jobs": 1})
    rows = strategy_rows(compute_sample(close), "growth")
    with price_source(None, None) as made:
        yield History(made.source, strategy, rows, close, settings=settings, control=_Quiet())


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("challenger's features mixed, in shadow", "abort"),
        ("challenger's names mixed, scored by the bare absolute return", "promote"),
        ("champion decays: features mixed, watched for 252 days", "rollback to 2"),
        ("champion decays: features mixed", "none"),
    ],
)
def test_what_is_planted_on_the_sample_is_found(history: History, name: str, end: str) -> None:
    case = next(one for one in CASES if one.name == name)
    found = list(replay(history, case, [date(2018, 12, 31)], policy=POLICY))
    summary = summarise(case, history.strategy.training.label, (2019, 2019), found, alpha=0.05)
    assert summary.ends == {end: 1}
    if end == "none":
        assert summary.days is None, "60 days from the promotion, 40 from the decay, are over first"
        assert found[0].day == POLICY.watch_days - DECAYS_AFTER
    else:
        assert summary.days is not None
        assert summary.days[0] == found[0].day > 0


def test_a_case_without_its_history_or_its_label_is_left_out(history: History) -> None:
    by_bare_move = next(one for one in CASES if one.by_bare_move)
    asked = History.__new__(History)
    asked.__dict__.update(history.__dict__, strategy=with_label(history.strategy, "target_return > 0"))
    assert list(replay(asked, by_bare_move, [date(2018, 12, 31)], policy=POLICY)) == []
    assert list(replay(history, CASES[0], [date(1989, 12, 31)], policy=POLICY)) == []
    assert starts_of((2019, 2019)) == [date(2018, 12, 31), *(date(2019, m, d) for m, d in ((3, 31), (6, 30), (9, 30)))]
    assert replace(by_bare_move, by_bare_move=False).champion_years == 1
