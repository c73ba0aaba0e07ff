"""Colours, labels and months of the heat map."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from admin.heat import months, rows
from mlops.ledger.queries.checks import CheckLine

DAY = date(2026, 3, 2)


def check(p: float | None, *, alpha: float | None = 0.05, id_: int = 1, as_of: date | None = DAY) -> CheckLine:
    return CheckLine(
        id=id_, run_id=f"run-{id_}", strategy="growth", as_of=as_of, checked_at=datetime(2026, 3, 2, tzinfo=UTC),
        verdict="stable", rule="raw", raw_verdict="stable", share=0.9, alert_share=0.3, p_value=p, alpha=alpha,
        n_placements=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("p", "alpha", "level", "label"),
    [
        (1.0, 0.05, 0, "1"),
        (0.5, 0.05, 0, ".50"),
        (0.3, 0.05, 1, ".30"),
        (0.051, 0.05, 2, ".05"),
        (0.05, 0.05, 3, ".05"),
        (0.05, None, 3, ".05"),
        (0.05, 0.01, 2, ".05"),
        (0.05, 0.3, 4, ".05"),
        (0.004, 0.05, 4, ".004"),
        (0.0001, 0.05, 4, "<.001"),
        (None, 0.05, None, "–"),
    ],
)
def test_a_cell_is_coloured_by_how_rare_the_shift_is_though_nine_features_of_ten_moved(
    p: float | None, alpha: float | None, level: int | None, label: str
) -> None:
    ((cell,),) = [row.cells for row in rows(["growth"], [DAY], [check(p, alpha=alpha)])]
    assert cell is not None
    assert (cell.level, cell.label) == (level, label)


def test_the_newest_check_of_a_day_holds_and_one_without_a_day_has_no_place() -> None:
    (row,) = rows(["growth"], [DAY], [check(0.1), check(0.4, id_=2), check(0.9, id_=3, as_of=None)])
    assert [cell and cell.check.run_id for cell in row.cells] == ["run-2"]


def test_a_month_has_its_year_where_there_is_room() -> None:
    days = [date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 2), date(2026, 2, 3)]
    assert months(days) == [("Jan", 2), ("Feb 2026", 3)]
