"""Numbers and dates as the page writes them; pure."""

from __future__ import annotations

from datetime import date, timedelta

NOTHING = "–"


def figure(value: float | None, digits: int = 3) -> str:
    """To so many significant digits, a true minus; a dash for what is undefined."""
    if value is None:
        return NOTHING
    return f"{value:.{digits}g}".replace("-", "−")


def signed(value: float | None) -> str:
    """Format a number with its sign: +1.2."""
    if value is None:
        return NOTHING
    return ("+" if value > 0 else "") + figure(round(value, 2), 3)


def probability(value: float | None) -> str:
    """A p: two digits, never a bare 0."""
    if value is None:
        return NOTHING
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def percent(value: float | None) -> str:
    """A share: 12 %, below a tenth 1.2 %."""
    if value is None:
        return NOTHING
    return f"{value:.0%}".replace("%", " %") if value == 0 or value >= 0.0995 else f"{value:.1%}".replace("%", " %")


def count(value: float | None) -> str:
    """12,345."""
    return NOTHING if value is None else f"{value:,.0f}"


def day(value: date | str | None) -> str:
    """16 March 2020."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        value = date.fromisoformat(value[:10])
    return f"{value.day} {value:%B %Y}"


def window(bounds: dict[str, str]) -> str:
    """'18 November 2019 to 15 February 2020 (90 days)' of a window whose first day is excluded."""
    after, to = date.fromisoformat(bounds["after"]), date.fromisoformat(bounds["to"])
    days = (to - after).days
    return f"{day(after + timedelta(days=1))} to {day(to)} ({days} day{'s' if days != 1 else ''})"
