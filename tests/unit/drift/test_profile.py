"""A training's profile: what it holds, and its form on disk."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from mlops.domain.drift.ks import ks_statistic
from mlops.domain.drift.placements import MISSING
from mlops.domain.drift.references.training_profile import (
    GRID,
    NumberProfile,
    profile_digest,
    quantile_grid,
    read_profile,
    schema_hash,
    write_profile,
)
from mlops.domain.errors import EmptyWindow, UnusableProfile
from tests.unit.drift.profiles import SPANS, day, profile_of

N = sum(SPANS)


def columns(seed: int = 0, rows: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(N, rows))
    values[5, :3] = np.nan
    values[130, 2] = np.inf
    return {"x": values, "sector": rng.choice(np.array(["a", "b", None], dtype=object), size=(N, rows))}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(GRID + 1, 9_000), ties=st.booleans())
def test_d_against_the_grid_is_off_by_less_than_half_a_step(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    reference = np.sort(rng.integers(0, 30, n).astype(float) if ties else rng.normal(size=n))
    current = np.sort(rng.integers(3, 30, 300).astype(float) if ties else rng.normal(0.2, 1, 300))
    exact = ks_2samp(reference, current, method="asymp").statistic
    assert abs(ks_statistic(quantile_grid(reference), current) - exact) <= 1 / (2 * GRID) + 1e-12


def test_a_reference_that_fits_the_grid_is_kept_whole() -> None:
    values = np.arange(float(GRID))
    np.testing.assert_array_equal(quantile_grid(values), values)


def test_it_says_which_dates_were_trained_on() -> None:
    profile = profile_of(columns())
    assert len(profile.dates) == N
    assert profile.dates[profile.first_trained] == np.datetime64(day(120), "D")
    assert (profile.n_trained, profile.n_rows) == (40, 320)
    assert profile.as_of == day(N - 1)


def test_daily_counts_add_up_to_each_dates_rows() -> None:
    profile = profile_of(columns())
    number, category = profile.daily
    np.testing.assert_array_equal(number[:, MISSING - 1].astype(int) + number[:, MISSING], 8)
    np.testing.assert_array_equal(category.sum(axis=1), 8)
    assert number[5, MISSING] == 3


def test_a_date_keeps_at_most_48_rows() -> None:
    rng = np.random.default_rng(0)
    profile = profile_of({"x": rng.normal(size=(N, 300))})
    assert int(profile.daily[0, :, MISSING - 1].max()) == 48
    assert profile.n_rows == 40 * 300  # the statistics rest on all of them


def test_it_is_the_same_after_a_way_through_a_file() -> None:
    profile = profile_of(columns())
    content = write_profile(profile)
    again = read_profile(content, expected_sha256=profile_digest(content))
    assert (again.strategy, again.as_of, again.trained, again.n_rows, again.bins) == (
        profile.strategy, profile.as_of, profile.trained, profile.n_rows, profile.bins,
    )  # fmt: skip
    np.testing.assert_array_equal(again.dates, profile.dates)
    np.testing.assert_array_equal(again.daily, profile.daily)
    np.testing.assert_array_equal(again.upto, profile.upto)
    before, after = profile.features["x"], again.features["x"]
    assert isinstance(before, NumberProfile)
    assert isinstance(after, NumberProfile)
    assert before.description == after.description
    for name in ("grid", "edges", "counts", "cell_edges", "middles"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert again.features["sector"].categories == profile.features["sector"].categories  # type: ignore[union-attr]
    assert write_profile(again) == content


def test_one_changed_byte_is_found() -> None:
    content = bytearray(write_profile(profile_of(columns())))
    digest = profile_digest(bytes(content))
    content[len(content) // 2] ^= 1
    with pytest.raises(UnusableProfile, match="changed after it was logged"):
        read_profile(bytes(content), expected_sha256=digest)


@pytest.mark.parametrize("content", [b"", b"not an arrow file", b"ARROW1\0\0" + b"\0" * 100])
def test_what_is_no_profile_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableProfile, match="torn or no drift profile"):
        read_profile(content)


def test_a_torn_file_is_refused() -> None:
    content = write_profile(profile_of(columns()))
    for part in (10, len(content) // 2, len(content) - 1):
        with pytest.raises(UnusableProfile):
            read_profile(content[:part])


def test_a_file_of_a_later_format_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.domain.drift.references.training_profile.FORMAT", 2)
    content = write_profile(profile_of(columns()))
    monkeypatch.undo()
    with pytest.raises(UnusableProfile, match="has format 2"):
        read_profile(content)


def test_a_column_without_any_value_and_one_that_never_varies_have_profiles() -> None:
    empty, constant = np.full((N, 4), np.nan), np.full((N, 4), 7.0)
    profile = read_profile(write_profile(profile_of({"empty": empty, "constant": constant})))
    found = profile.features["empty"]
    assert isinstance(found, NumberProfile)
    assert (len(found.grid), found.description.n_missing) == (0, 160)
    assert profile.features["constant"].middles.tolist() == [0, 1, 2]  # type: ignore[union-attr]


def test_no_trained_rows_are_no_profile() -> None:
    with pytest.raises(EmptyWindow, match="no rows with dates"):
        profile_of({"x": np.empty((N, 0))})


def test_the_schema_hash_is_of_names_and_kinds_whatever_their_order() -> None:
    assert schema_hash({"a": "number", "b": "category"}) == schema_hash({"b": "category", "a": "number"})
    assert schema_hash({"a": "number"}) != schema_hash({"a": "category"})
    assert isinstance(profile_of(columns()).as_of, date)
