"""A cron expression in words is what beat makes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from admin.jobs import in_words, next_times

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)  # a Friday


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 3 * * *", "At 03:00 UTC"),
        ("0 4 * * 0", "At 04:00 UTC, only on Sunday"),
        ("0 3,15 * * *", "At 03:00 and 15:00 UTC"),
        ("*/15 9-17 * * mon-fri", "Every 15 minutes, between 09:00 and 17:59 UTC, Monday through Friday"),
        ("5 * * * *", "At 5 minutes past the hour"),
        ("", "Never"),
        ("0 25 * * *", "0 25 * * *"),
    ],
)
def test_times_of_day_are_said_to_be_utc(expression: str, words: str) -> None:
    assert in_words(expression) == words


def test_day_and_weekday_must_both_fit_and_the_words_say_so() -> None:
    """Other crons run on the first and on every Monday; Celery's runs on a first that is a Monday."""
    assert in_words("0 3 1 * 1") == "At 03:00 UTC, on day 1 of the month, and of these only on Monday"
    assert [f"{at:%Y-%m-%d %a}" for at in next_times("0 3 1 * 1", NOW, n=3)] == [
        "2027-02-01 Mon",
        "2027-03-01 Mon",
        "2027-11-01 Mon",
    ]


def test_the_next_times_follow_each_other() -> None:
    assert next_times("0 4 * * 0", NOW, n=2) == [
        datetime(2026, 11, 29, 4, tzinfo=UTC),
        datetime(2026, 12, 6, 4, tzinfo=UTC),
    ]
