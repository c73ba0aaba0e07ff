"""Sorting by slots gives what `np.sort` gives, whatever the column holds; only the time differs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.domain.drift import ordered
from mlops.domain.drift.ordered import slots_are_quicker, sort_by_slots, sort_into

Floats = npt.NDArray[np.float64]

N = 20_000
RNG = np.random.default_rng(20)
NORMAL = RNG.standard_normal(N)
ORDINARY = {
    "normal": NORMAL,
    "a level with a small spread": 1e9 + 1e-3 * NORMAL,
    "lognormal": np.exp(3 * NORMAL),
    "Cauchy": RNG.standard_cauchy(N),
    "uniform": RNG.random(N),
    "ties": np.round(NORMAL, 1),
    "a walk": np.cumsum(NORMAL),
    "ascending": np.sort(NORMAL),
    "descending": np.sort(NORMAL)[::-1].copy(),
    "a column of a table": RNG.standard_normal((N, 3))[:, 1],
    "three in ten missing": np.where(RNG.random(N) < 0.3, np.nan, NORMAL),
    "infinities": np.where(RNG.random(N) < 0.1, np.copysign(np.inf, NORMAL), NORMAL),
    "all that is not finite": RNG.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.0, 3.0], N),
    "both zeros": RNG.choice([-0.0, 0.0, -1.0, 1.0], N),
    "the largest floats": RNG.choice([-1.7e308, 1.7e308, 1.0, 2.0, -2.0, 3.0], N),
    "subnormal": 5e-324 * RNG.integers(-1000, 1000, N),
    "one wild value": np.append(NORMAL, 1e300),
}
HOPELESS = {
    "one value": np.full(N, 7.0),
    "nothing but missing": np.full(N, np.nan),
    "nothing but infinity": np.full(N, -np.inf),
    "an atom and a few others": np.where(RNG.random(N) < 0.1, NORMAL, 0.0),
    "two clumps far apart": np.where(RNG.random(N) < 0.5, 1e9, 0.0) + 1e-3 * NORMAL,
}


@pytest.mark.parametrize("values", ORDINARY.values(), ids=ORDINARY)
def test_slots_give_the_sorted_column(values: Floats) -> None:
    out = np.empty(len(values))
    assert sort_by_slots(values, out)
    assert np.array_equal(out, np.sort(values), equal_nan=True)
    assert np.array_equal(_bits(out), _bits(values))


@pytest.mark.parametrize("values", HOPELESS.values(), ids=HOPELESS)
def test_a_column_that_slots_do_not_tell_apart_is_left_to_numpy(
    values: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = np.full(len(values), 42.0)
    assert not sort_by_slots(values, out)
    assert (out == 42.0).all()
    monkeypatch.setattr(ordered, "slots_are_quicker", lambda: True)
    sort_into(values, out)
    assert np.array_equal(out, np.sort(values), equal_nan=True)


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(st.floats() | st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf]), min_size=1, max_size=300),
    repeats=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_column_is_sorted_wrongly(values: list[float], repeats: int, seed: int) -> None:
    column = np.random.default_rng(seed).permutation(np.repeat(np.array(values), repeats))
    out = np.empty(len(column))
    if sort_by_slots(column, out):
        assert np.array_equal(out, np.sort(column), equal_nan=True)
        assert np.array_equal(_bits(out), _bits(column))


@pytest.mark.parametrize("quicker", [True, False])
@pytest.mark.parametrize("n", [0, 1, 500, N])
def test_either_way_gives_the_same(n: int, quicker: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "slots_are_quicker", lambda: quicker)
    out = np.empty(n)
    sort_into(NORMAL[:n], out)
    assert np.array_equal(out, np.sort(NORMAL[:n]))


def test_slots_are_used_where_they_are_quicker_and_the_column_is_neither_short_nor_huge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def noted(values: Floats, out: Floats) -> bool:
        asked.append(len(values))
        return sort_by_slots(values, out)

    monkeypatch.setattr(ordered, "sort_by_slots", noted)
    monkeypatch.setattr(ordered, "_MOST", N)
    for quicker in (True, False):
        monkeypatch.setattr(ordered, "slots_are_quicker", lambda quicker=quicker: quicker)
        for n in (100, N, N + 1):
            sort_into(np.resize(NORMAL, n), np.empty(n))
    assert asked == [N]


def test_the_quicker_way_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 3.0] * 3 + [0.0, 2.0] * 3)
    monkeypatch.setattr(ordered.time, "thread_time", lambda: next(seconds))
    slots_are_quicker.cache_clear()
    try:
        assert not slots_are_quicker()
        assert not slots_are_quicker()
    finally:
        slots_are_quicker.cache_clear()
    assert next(seconds, None) is None


def _bits(values: Floats) -> npt.NDArray[np.uint64]:
    """Each value's bits, in an order of their own: signs of zeros and all nan are told apart."""
    return np.sort(np.ascontiguousarray(values).view(np.uint64))
