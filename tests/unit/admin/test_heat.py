"""Colours, labels and months of the heat map."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from admin.heat import months, rows
from mlops.ledger.check_lines import CheckLine

DAY = date(2026, 3, 2)


def check(share: float | None, *, id_: int = 1, as_of: date | None = DAY) -> CheckLine:
    return CheckLine(
        id=id_, run_id=f"run-{id_}", strategy="growth", as_of=as_of, checked_at=datetime(2026, 3, 2, tzinfo=UTC),
        verdict="stable", rule="raw", raw_verdict="stable", share=share, alert_share=0.3, p_value=None, alpha=None,
        n_placements=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("share", "level", "label"),
    [(0.0, 0, "0"), (0.09, 0, "9"), (0.1, 1, "10"), (0.3, 2, "30"), (0.749, 3, "75"), (1.0, 4, "100"), (None, 0, "?")],
)
def test_the_colour_changes_at_the_documented_threshold_among_others(
    share: float | None, level: int, label: str
) -> None:
    ((cell,),) = [row.cells for row in rows(["growth"], [DAY], [check(share)])]
    assert cell is not None
    assert (cell.level, cell.label) == (level, label)


def test_the_newest_check_of_a_day_holds_and_one_without_a_day_has_no_place() -> None:
    (row,) = rows(["growth"], [DAY], [check(0.1), check(0.4, id_=2), check(0.9, id_=3, as_of=None)])
    assert [cell and cell.check.run_id for cell in row.cells] == ["run-2"]


def test_a_month_has_its_year_where_there_is_room() -> None:
    days = [date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 2), date(2026, 2, 3)]
    assert months(days) == [("Jan", 2), ("Feb 2026", 3)]
