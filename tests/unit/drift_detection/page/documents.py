"""Reports to render, and a page taken apart by the standard library's parser."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np

from mlops.domain.drift.detect import detect_drift
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window
from mlops.reporting.page.render import render_page
from tests.unit.drift_detection.checks import N_CURRENT, N_REFERENCE, check, frame, noise

#: Elements without an end.
VOID = {"meta", "br", "input", "link", "img"}
AS_OF = date(2020, 6, 30)


def document(**columns: tuple[Any, Any]) -> dict[str, Any]:
    """The report of a check, as it comes back from JSON. columns: reference and current values."""
    columns = columns or {"calm": (noise(N_REFERENCE), noise(N_CURRENT, seed=1))}
    report = check(
        frame(**{name: values[0] for name, values in columns.items()}),
        frame(**{name: values[1] for name, values in columns.items()}),
    )
    stored: dict[str, Any] = json.loads(json.dumps(report.to_json(), allow_nan=False))
    return stored


def of_features(*names: str, shift: float = 0.0) -> dict[str, Any]:
    """A report of features with these names, which all moved by so much."""
    return document(
        **{
            name: (noise(N_REFERENCE, seed=2 * i), noise(N_CURRENT, seed=2 * i + 1, shift=shift))
            for i, name in enumerate(names)
        }
    )


def calibrated_document(*, shift: float = 0.0, policy: DriftPolicy | None = None) -> dict[str, Any]:
    """The report of a check with two years of history, 20 rows a day."""
    reference, current = Window(start=AS_OF - timedelta(days=97), end=AS_OF - timedelta(days=7)), 7
    generator = np.random.default_rng(0)

    def days(last: date, n: int, moved: float) -> FeatureFrame:
        dates = np.repeat(np.arange(np.datetime64(last) - n + 1, np.datetime64(last) + 1), 20)
        values = {name: generator.normal(moved, 1.0, len(dates)) for name in ("one", "two", "three")}
        return FeatureFrame(n_rows=len(dates), numbers=values, categories={}, dates=dates, newest_date=last)

    report = detect_drift(
        days(reference.end, 90, 0.0),
        days(AS_OF, current, shift),
        policy or DriftPolicy(),
        strategy="growth",
        as_of=AS_OF,
        reference_window=reference,
        current_window=Window(start=reference.end, end=AS_OF),
        timestamp=datetime(2020, 6, 30, 3, tzinfo=UTC),
        history=days(reference.start, 500, 0.0),
    )
    stored: dict[str, Any] = json.loads(json.dumps(report.to_json(), allow_nan=False))
    return stored


def dated(report: dict[str, Any], as_of: date, *, psi: float | None = None) -> dict[str, Any]:
    """The same report of another day; `psi`: of all its features."""
    values = {name: {**value, "psi_value": psi} for name, value in report["psi"].items()}
    return {**report, "psi": values, "windows": {**report["windows"], "as_of": as_of.isoformat()}}


@dataclass
class Page(HTMLParser):
    """What a page holds. Raises AssertionError where its elements are not nested well."""

    text: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    said: dict[str, list[str]] = field(default_factory=dict)
    """Text by element"""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.said.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.said[tag][-1] += data
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    @property
    def shown(self) -> str:
        """All text, white space taken together."""
        return " ".join(" ".join(self.text).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all elements of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def parsed(text: str) -> Page:
    """A page whose elements are all closed."""
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def rendered(report: dict[str, Any], *earlier: dict[str, Any]) -> Page:
    """The page of a report."""
    return parsed(render_page(report, earlier))
