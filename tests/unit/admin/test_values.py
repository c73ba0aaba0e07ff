"""Lists, times, durations and bars; no request is made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin import wording
from admin.listing import shown, stretch
from admin.responses import plain
from admin.routes.runs import WIDTH, bars
from mlops.domain.records import Stage
from mlops.ledger.queries.attempts import Attempt

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-3, "0 s"),
        (0.26, "0.3 s"),
        (3, "3 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
        (86400 * 400, "400 d"),
    ],
)
def test_a_duration_has_the_two_units_that_matter(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


def test_a_time_is_in_utc_whatever_its_zone() -> None:
    berlin = NOON.astimezone(tz=None)
    assert "2026-11-27 12:00 UTC" in str(wording.when(berlin))


def test_an_age_counts_from_now_in_both_directions() -> None:
    assert ">2 h ago<" in str(wording.ago(NOON - timedelta(hours=2), NOON))
    assert ">in 5 min<" in str(wording.ago(NOON + timedelta(minutes=5), NOON))
    assert [wording.days_old(day, NOON) for day in (date(2026, 11, 27), date(2026, 11, 26), date(2026, 10, 27))] == [
        "today",
        "1 day",
        "31 days",
    ]


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (999, "999 B"), (3.4e6, "3.4 MB"), (2.5e12, "2.5 TB")])
def test_a_size_is_in_powers_of_a_thousand(n: float, text: str) -> None:
    assert wording.size(n) == text


def test_a_state_that_holds_markup_is_shown_as_text() -> None:
    assert "<b>" not in wording.badge("<b>x</b>")


def test_values_are_json_that_every_reader_takes() -> None:
    assert plain({"a": float("nan"), "b": (NOON, Stage.DRIFT), 3: {date(2026, 1, 2)}}) == {
        "a": None,
        "b": ["2026-11-27T12:00:00+00:00", "drift"],
        "3": ["2026-01-02"],
    }


ROWS = st.lists(st.tuples(st.text(alphabet="abc", min_size=1), st.one_of(st.none(), st.integers())), max_size=60)


@given(rows=ROWS, sort=st.sampled_from(["", "name", "-name", "n", "-n", "nonsense"]), page=st.integers(-2, 9))
def test_every_row_is_on_exactly_one_page_and_rows_without_a_value_are_last(
    rows: list[tuple[str, int | None]], sort: str, page: int
) -> None:
    sorts: dict[str, Callable[[tuple[str, int | None]], object]] = {"name": lambda row: row[0], "n": lambda row: row[1]}

    def at(number: int) -> list[tuple[str, int | None]]:
        return list(shown(rows, sort=sort, page=number, text=lambda row: row[0], sorts=sorts, n_rows=7).rows)

    first = shown(rows, sort=sort, page=page, text=lambda row: row[0], sorts=sorts, n_rows=7)
    assert 1 <= first.page <= first.n_pages
    everything = [row for number in range(1, first.n_pages + 1) for row in at(number)]
    assert sorted(map(repr, everything)) == sorted(map(repr, rows))
    if sort.endswith("n"):
        values = [row[1] for row in everything]
        known = [value for value in values if value is not None]
        assert values == [*sorted(known, reverse=sort == "-n"), *[None] * (len(values) - len(known))]


def test_all_words_of_a_search_must_be_there() -> None:
    found = shown(["big growth", "growth", "big"], q="GROWTH big", text=str, sorts={"": str})
    assert (found.rows, found.n_found, found.n_all) == (("big growth",), 1, 3)


def test_a_stretch_that_is_the_last_has_no_older() -> None:
    assert stretch([3, 2, 1], str, n_rows=3).older is None
    assert stretch([3, 2, 1], str, n_rows=2).older == "2"


def attempt(queued: float, claimed: float | None, ended: float | None) -> Attempt:
    def at(seconds: float | None) -> datetime | None:
        return None if seconds is None else NOON + timedelta(seconds=seconds)

    return Attempt(
        stage=Stage.TRAIN,
        token=1,
        attempt=1,
        worker="w",
        task_id=None,
        queued_at=NOON + timedelta(seconds=queued),
        claimed_at=at(claimed),
        ended_at=at(ended),
        state="running",
        error=None,
    )


def test_bars_are_on_one_scale_of_time() -> None:
    first, second = bars([attempt(0, 25, 50), attempt(50, 75, None)], now=NOON + timedelta(seconds=100))
    assert (first.wait_x, first.wait_width, first.work_x, first.work_width) == (0, 250, 250, 250)
    assert (second.wait_x, second.work_x, second.work_width) == (500, 750, 250)
    assert (second.wait_s, second.work_s) == (25, 25)


@given(times=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)))
def test_no_bar_leaves_the_picture(times: tuple[float, float, float]) -> None:
    queued, claimed, ended = sorted(times)
    (bar,) = bars([attempt(queued, claimed, ended)], now=NOON)
    assert bar.wait_x >= 0
    assert bar.work_x <= WIDTH
    assert bar.work_width > 0


def test_an_attempt_that_waits_has_not_worked() -> None:
    (bar,) = bars([attempt(0, None, None)], now=NOON + timedelta(seconds=9))
    assert (bar.wait_s, bar.work_s, bar.work_width) == (9, None, 0)
