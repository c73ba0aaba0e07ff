"""Latencies in buckets give back their quantiles to a bucket's width."""

from __future__ import annotations

import numpy as np
import pytest

from mlops.domain.experiments.answers import LATENCY_BOUNDS_MS, latency_bucket, latency_quantile


def counted(latencies: np.ndarray) -> tuple[int, ...]:
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for one in latencies:
        counts[latency_bucket(float(one))] += 1
    return tuple(counts)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.99])
def test_a_quantile_is_found_to_a_bucket_s_width(share: float) -> None:
    rng = np.random.default_rng(1)
    parts = [rng.lognormal(mean, 1.0, size=5_000) for mean in (-4.0, 0.0)]
    exact = float(np.quantile(np.concatenate(parts), share))
    found = latency_quantile([counted(part) for part in parts], share)
    assert found is not None
    assert 1 / 1.42 < found / exact < 1.42


def test_each_latency_has_a_bucket_and_none_has_no_quantile() -> None:
    assert latency_bucket(0.0) == 0
    assert latency_bucket(LATENCY_BOUNDS_MS[3]) == 3
    assert latency_bucket(1e9) == len(LATENCY_BOUNDS_MS)
    assert latency_quantile([], 0.5) is None
    assert latency_quantile([counted(np.array([]))], 0.5) is None
