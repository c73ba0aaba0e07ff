"""The paired test: what it says of planted panels, and what it never says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from lab.decision_simulation import planted_pair
from mlops.domain.promotion.date_parts import ScoredRows, date_parts, influence
from mlops.domain.promotion.error_budget import deflated, resamples_for
from mlops.domain.promotion.paired import (
    PairedTest,
    Untestable,
    compare_on_dates,
    missing_p_value,
    paired_test_in_words,
)


def outcome_of(
    challenger: ScoredRows, champion: ScoredRows, *, metric: str = "roc_auc", horizon: int = 20, **more: float
) -> PairedTest | Untestable:
    return compare_on_dates(
        metric,
        challenger=date_parts(metric, challenger),
        champion=date_parts(metric, champion),
        horizon_dates=horizon,
        **{"margin": 0.01, "confidence": 0.95, **more},  # type: ignore[arg-type]
    )


def found(*rows: ScoredRows, **more: float | str) -> PairedTest:
    test = outcome_of(*rows, **more)  # type: ignore[arg-type]
    assert isinstance(test, PairedTest)
    return test


def pair(seed: int, challenger: float, champion: float, **more: float) -> tuple[ScoredRows, ScoredRows]:
    return planted_pair(
        np.random.default_rng(seed),
        challenger_auc=challenger,
        champion_auc=champion,
        **more,  # type: ignore[arg-type]
    )


def test_a_planted_area_of_65_against_55_is_promoted_in_nine_of_ten() -> None:
    verdicts = [found(*pair(seed, 0.65, 0.55)).verdict for seed in range(40)]
    assert verdicts.count("promote") >= 36


def test_a_planted_area_of_55_against_65_is_kept_in_nine_of_ten() -> None:
    verdicts = [found(*pair(seed, 0.55, 0.65)).verdict for seed in range(40)]
    assert verdicts.count("keep") >= 36


def test_of_two_equal_models_one_in_twenty_is_promoted() -> None:
    verdicts = [found(*pair(seed, 0.6, 0.6)).verdict for seed in range(100)]
    assert verdicts.count("promote") <= 5


def test_the_area_is_that_of_all_rows_together() -> None:
    from sklearn.metrics import roc_auc_score

    challenger, champion = pair(1, 0.65, 0.55)
    test = found(challenger, champion)
    assert test.challenger == pytest.approx(roc_auc_score(challenger.y, challenger.probability))
    assert test.champion == pytest.approx(roc_auc_score(champion.y, champion.probability))
    assert test.difference == test.challenger - test.champion


def test_a_lower_log_loss_is_better() -> None:
    challenger, champion = pair(2, 0.7, 0.5)
    test = found(challenger, champion, metric="log_loss")
    assert test.difference == pytest.approx(test.champion - test.challenger)
    assert (test.difference > 0) == (test.probability_better > test.probability_worse)


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_a_model_is_not_better_than_itself(margin: float) -> None:
    challenger, _ = pair(1, 0.6, 0.6)
    test = found(challenger, challenger, margin=margin)
    assert (test.probability_better, test.probability_worse, test.verdict) == (0.0, 0.0, "inconclusive")


def test_a_block_is_at_least_as_long_as_a_label_looks_ahead() -> None:
    assert found(*pair(1, 0.6, 0.6)).block_dates >= 20


def test_where_the_dates_depend_on_each_other_for_longer_the_blocks_are_longer() -> None:
    lengths = [found(*pair(seed, 0.6, 0.6, n_dates=120, lasting_noise=True), horizon=1) for seed in range(10)]
    assert np.median([test.block_dates for test in lengths]) > 5


@pytest.mark.parametrize(
    ("n_dates", "expected"),
    [
        # 3 blocks: sqrt(3 / 2) and t(0.95; 3) = 2.353 over z(0.95) = 1.645, both from the tables
        (60, 1.2247 * 2.353 / 1.645),
        # 21 blocks: t(0.95; 30) = 1.697
        (420, 1.0247 * 1.697 / 1.645),
    ],
)
def test_the_spread_makes_up_for_few_blocks(n_dates: int, expected: float) -> None:
    test = found(*pair(0, 0.65, 0.55, n_dates=n_dates))
    assert test.block_dates == 20
    assert test.spread == pytest.approx(expected, rel=1e-3)


def test_the_automatic_length_and_the_spread_have_few_digits() -> None:
    test = found(*pair(3, 0.6, 0.6, n_dates=120, lasting_noise=True), horizon=1)
    assert (test.automatic_block_dates, test.spread) == (round(test.automatic_block_dates, 2), round(test.spread, 4))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999])
def test_any_confidence_gives_a_spread(confidence: float) -> None:
    assert 1 < found(*pair(0, 0.65, 0.55), confidence=confidence).spread < 20


@pytest.mark.parametrize("lasting", [False, True])
def test_overlap_never_makes_the_answer_surer(lasting: bool) -> None:
    for seed in range(10):
        test = found(*pair(seed, 0.63, 0.57, lasting_noise=lasting))
        assert test.probability_better == min(test.better_in_blocks, test.better_by_date)
        assert test.low <= test.difference <= test.high


def test_fewer_than_two_blocks_say_nothing() -> None:
    challenger, champion = pair(1, 0.65, 0.55, n_dates=39)
    test = outcome_of(challenger, champion)
    assert isinstance(test, Untestable)
    assert test.words == "39 common dates are fewer than 2 blocks of the 20 that a label looks ahead"


def test_a_metric_that_is_undefined_is_no_number() -> None:
    challenger, champion = pair(1, 0.65, 0.55)
    alike = [
        ScoredRows(dates=one.dates, y=np.ones_like(one.y), probability=one.probability, target_return=None)
        for one in (challenger, champion)
    ]
    test = outcome_of(*alike)
    assert isinstance(test, Untestable)
    assert test.words == "roc_auc is undefined on these 60 dates: all labels are equal"


def test_a_champion_that_never_trades_has_no_sharpe_ratio_and_that_is_said() -> None:
    challenger, champion = pair(1, 0.65, 0.55)
    idle = ScoredRows(
        dates=champion.dates,
        y=champion.y,
        probability=np.zeros(len(champion.y)),
        target_return=champion.target_return,
    )
    test = outcome_of(challenger, idle, metric="sharpe")
    assert isinstance(test, Untestable)
    assert "the returns of the champion's positions do not vary" in test.words


def test_looks_deflate_the_answer_and_never_raise_it() -> None:
    rows = pair(6, 0.62, 0.58)
    one, many = found(*rows), found(*rows, looks=14)
    assert one.deflated_better == one.probability_better
    assert many.deflated_better == pytest.approx(many.probability_better**14)
    assert many.deflated_better < one.deflated_better


@given(p=st.floats(0, 1), looks=st.integers(1, 500))
def test_deflation_is_sidaks(p: float, looks: int) -> None:
    # 1 - (1 - p)^k for the p-value p = 1 - P.
    assert 1 - deflated(1 - p, looks) == pytest.approx(1 - (1 - p) ** looks)


@pytest.mark.parametrize("looks", [1, 14, 200, 900])
def test_a_unanimous_answer_passes_however_many_looks_there_were(looks: int) -> None:
    resamples = resamples_for(looks, 0.95)
    assert deflated(1 - 1 / (resamples + 1), looks) > 0.95


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), gain=st.floats(0, 1), metric=st.sampled_from(["accuracy", "log_loss", "roc_auc"]))
def test_a_better_challenger_is_never_less_probable(seed: int, gain: float, metric: str) -> None:
    """Every row's probability moves towards its label."""
    challenger, champion = pair(seed, 0.6, 0.6)
    p = challenger.probability
    improved = ScoredRows(
        dates=challenger.dates, y=challenger.y, probability=p + gain * (challenger.y - p), target_return=None
    )
    before, after = found(challenger, champion, metric=metric), found(improved, champion, metric=metric)
    if after.block_dates == before.block_dates:  # else these are other resamples
        assert after.probability_better >= before.probability_better
    assert after.difference >= before.difference


def test_a_confidence_that_no_resamples_can_show_after_so_many_looks_is_named() -> None:
    # 20,000 resamples at most: (20,000 / 20,001)^500 = 0.975 is the most that can come out.
    certain = found(*pair(1, 0.9, 0.5), looks=500, confidence=0.99)
    assert certain.verdict == "inconclusive"
    assert paired_test_in_words(certain, "7").endswith(
        "required 0.99; 20,000 resamples cannot show it after so many looks: lower promotion.confidence"
    )
    assert paired_test_in_words(found(*pair(1, 0.9, 0.5), looks=500), "7").endswith("at least the required 0.95")


def test_the_sentence_has_the_numbers() -> None:
    test = found(*pair(1, 0.65, 0.55), looks=3)
    words = paired_test_in_words(test, "7")
    assert words == (
        f"roc_auc {test.challenger:.4f} against the {test.champion:.4f} of champion 7 on 60 common dates: better by "
        f"at least 0.01 with probability {test.deflated_better:.4f} ({test.probability_better:.4f} before deflation "
        f"for 3 looks), at least the required 0.95"
    )


# --------------------------------------------------------------------------- the p-value and its level


def equal(seed: int, **design: object) -> PairedTest:
    pair = planted_pair(np.random.default_rng([3, seed]), challenger_auc=0.6, champion_auc=0.6, **design)  # type: ignore[arg-type]
    challenger, champion = (date_parts("roc_auc", one) for one in pair)
    test = compare_on_dates(
        "roc_auc", challenger=challenger, champion=champion, horizon_dates=20, margin=0.0, confidence=0.95
    )
    assert isinstance(test, PairedTest)
    return test


def test_of_equal_models_with_lasting_errors_five_in_a_hundred_have_a_p_value_of_five_hundredths() -> None:
    p_values = [equal(seed, lasting_noise=True, shared=0.5).p_value or 0.0 for seed in range(100)]
    # Binomial(100, 0.05) is at most 12 with a probability of 0.998.
    assert np.sum(np.array(p_values) <= 0.05) <= 12


@pytest.mark.parametrize(("horizon", "wider"), [(1, 1.0), (20, float(np.sqrt(np.e / 2)))])
def test_the_p_value_makes_up_for_what_blocks_miss_of_labels_that_overlap(horizon: int, wider: float) -> None:
    """Triangular autocorrelations to lag h sum to h; with weights exp(-k / h) to 2 h / e."""
    pair = planted_pair(np.random.default_rng(5), challenger_auc=0.62, champion_auc=0.6, horizon=horizon, n_dates=120)
    challenger, champion = (date_parts("roc_auc", one) for one in pair)

    def quantile(*, sees_overlap: bool) -> float:
        test = compare_on_dates(
            "roc_auc",
            challenger=challenger,
            champion=champion,
            horizon_dates=horizon,
            margin=0.0,
            confidence=0.95,
            sees_overlap=sees_overlap,
        )
        assert isinstance(test, PairedTest)
        assert test.p_value is not None
        return float(t.isf(test.p_value, 1.5 * (120 / test.block_dates - 1)))

    assert quantile(sees_overlap=False) / quantile(sees_overlap=True) == pytest.approx(wider, rel=0.005)


def test_a_level_below_the_p_value_leaves_a_probable_winner_undecided() -> None:
    pair = planted_pair(np.random.default_rng(1), challenger_auc=0.75, champion_auc=0.55)
    challenger, champion = (date_parts("roc_auc", one) for one in pair)

    def verdict(level: float | None) -> str:
        test = compare_on_dates(
            "roc_auc",
            challenger=challenger,
            champion=champion,
            horizon_dates=20,
            margin=0.01,
            confidence=0.95,
            level=level,
        )
        assert isinstance(test, PairedTest)
        assert test.p_value is not None
        assert 0.0001 < test.p_value < 0.01
        return test.verdict

    assert [verdict(None), verdict(0.01), verdict(0.0001)] == ["promote", "promote", "inconclusive"]


def test_a_champion_at_its_bar_is_rarely_shown_to_miss_it_and_one_far_below_is() -> None:
    def p_value(required: float, seed: int) -> float:
        champion, _ = planted_pair(
            np.random.default_rng([4, seed]), challenger_auc=0.6, champion_auc=0.6, lasting_noise=True
        )
        parts = date_parts("roc_auc", champion)
        return missing_p_value("roc_auc", parts, required=required, horizon_dates=20, confidence=0.95)

    at_the_bar = np.array([p_value(0.6, seed) for seed in range(60)])
    assert np.sum(at_the_bar <= 0.05) <= 8  # Binomial(60, 0.05): P(more) = 0.005
    assert np.median([p_value(0.9, seed) for seed in range(9)]) < 0.01
    assert p_value(0.3, 0) > 0.5


# --------------------------------------------------------------------------- few dates since a change


def losses(generator: np.random.Generator, n: int, horizon: int) -> np.ndarray:
    """Per-date losses of variance 1 that overlap as labels do: sums over `horizon` dates."""
    return np.convolve(generator.normal(size=n + horizon - 1), np.ones(horizon), "valid") / np.sqrt(horizon)


def loss_parts(loss: np.ndarray) -> dict[str, np.ndarray]:
    return {"total": 50.0 * (1.0 + 0.1 * loss), "rows": np.full(len(loss), 50.0)}


def on_few_dates(champion: np.ndarray, challenger: np.ndarray, before: np.ndarray) -> PairedTest | Untestable:
    return compare_on_dates(
        "log_loss",
        challenger=loss_parts(challenger),
        champion=loss_parts(champion),
        horizon_dates=20,
        margin=0.0,
        confidence=0.95,
        champion_before=influence("log_loss", loss_parts(before)),
    )


@pytest.mark.parametrize("errs", ["of its own", "in the opposite way"])
def test_ten_dates_of_an_equal_model_are_taken_for_better_no_more_often_than_the_level_allows(errs: str) -> None:
    # By single dates alone a horizon of overlapping labels would be taken for ten observations: in a third of cases.
    hits = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        champion, own = losses(generator, 70, 20), losses(generator, 10, 20)
        test = on_few_dates(champion[60:], own if errs == "of its own" else -champion[60:], champion[:60])
        assert isinstance(test, PairedTest)
        assert test.p_value is not None
        hits += test.p_value <= 0.05
    assert hits <= 6  # the 95 % point of 60 draws at .05


def test_a_model_that_errs_half_a_dozen_spreads_less_is_promoted_on_ten_dates() -> None:
    generator = np.random.default_rng(1)
    champion, own = losses(generator, 130, 20), losses(generator, 10, 20)
    test = on_few_dates(champion[120:] + 6.0, own, champion[:120])
    assert isinstance(test, PairedTest)
    assert (test.verdict, test.n_dates, test.n_dates_before) == ("promote", 10, 120)
    assert "10 common dates since a change, with the spread of the champion's 120 dates before it" in (
        paired_test_in_words(test, "1")
    )


def test_few_dates_without_two_blocks_before_them_say_nothing() -> None:
    generator = np.random.default_rng(1)
    champion, own = losses(generator, 49, 20), losses(generator, 10, 20)
    test = on_few_dates(champion[39:], own, champion[:39])
    assert isinstance(test, Untestable)
    assert "the champion's 39 earlier dates" in test.words
    assert isinstance(on_few_dates(champion[:1], own[:1], np.tile(champion, 3)), Untestable)


def test_dates_that_are_enough_are_tested_as_ever_whatever_was_before() -> None:
    generator = np.random.default_rng(1)
    champion, own, before = losses(generator, 40, 20), losses(generator, 40, 20), losses(generator, 90, 20)
    test = on_few_dates(champion, own, before)
    plain = compare_on_dates(
        "log_loss",
        challenger=loss_parts(own),
        champion=loss_parts(champion),
        horizon_dates=20,
        margin=0.0,
        confidence=0.95,
    )
    assert test == plain
