"""Attribution drift: shares of the contributions, their distance, and the agreement of their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from mlops.domain.live.attribution import attribution_drift, summarise_attributions

_WEIGHTS = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.01, 10.0), min_size=2)


def test_a_summary_is_the_mean_of_absolute_contributions_without_the_bias() -> None:
    contributions = np.array([[1.0, -2.0, 9.0], [-3.0, 0.0, 9.0]])
    assert summarise_attributions(("a", "b"), contributions) == {"a": 2.0, "b": 1.0}


@pytest.mark.parametrize("shape", [(0, 2), (3, 1), (3, 4)])
def test_contributions_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="do not fit 2 features"):
        summarise_attributions(("a", "b"), np.zeros(shape))


def test_what_moved_is_named_with_its_shares() -> None:
    found = attribution_drift({"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 1.0})
    assert found.distance == pytest.approx(0.25)  # 75 % to 50 %, and 25 % to 50 %
    assert found.words == "25% of the contributions moved to other features: a 75% to 50%, b 25% to 50%"


def test_a_feature_that_is_new_had_no_share() -> None:
    found = attribution_drift({"a": 1.0}, {"a": 1.0, "b": 1.0})
    assert {one.feature: (one.training, one.now) for one in found.features} == {"a": (1.0, 0.5), "b": (0.0, 0.5)}


def test_nothing_in_common_is_a_distance_of_one() -> None:
    assert attribution_drift({"a": 1.0}, {"b": 2.0}).distance == 1.0


@given(_WEIGHTS, _WEIGHTS)
def test_the_agreement_of_the_orders_is_scikit_learns(training: dict[str, float], now: dict[str, float]) -> None:
    names = sorted({*training, *now})
    gains, order = ([one.get(name, 0.0) for name in names] for one in (training, now))
    found = attribution_drift(training, now)
    assert 0.0 <= found.distance <= 1.0 + 1e-12
    if len(set(order)) == len(order):  # its ties are averaged
        assert found.rank_agreement == pytest.approx(ndcg_score([gains], [order]))


@given(_WEIGHTS, st.floats(0.1, 10.0))
def test_the_scale_of_the_contributions_is_no_drift(weights: dict[str, float], factor: float) -> None:
    found = attribution_drift(weights, {name: factor * value for name, value in weights.items()})
    assert found.distance == pytest.approx(0.0, abs=1e-12)
    assert found.rank_agreement == pytest.approx(1.0)
