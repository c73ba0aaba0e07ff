"""Whether the data of a training are recent and complete enough to promote what comes of them; pure.

Called by the train stage. Each finding holds a promotion back until the policy accepts it by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from mlops.promotion.findings import INCOMPLETE, STALE, Finding

if TYPE_CHECKING:
    from mlops.features.panel import Panel
    from mlops.strategies import DataPolicy

#: With a larger share of the window's dates left out, what remains is another panel than the one that was meant.
MAX_LEFT_OUT = 0.1


def unfit_dates(panel: Panel, policy: DataPolicy, *, as_of: date) -> Iterator[Finding]:
    """A newest date that is old, and many dates that do not count."""
    newest = panel.newest
    if newest is not None and panel.is_stale(as_of, max_days=policy.max_stale_days):
        words = f"the newest features are of {newest}, {(as_of - newest).days} days before {as_of}"
        yield Finding(code=STALE, words=f"{words}: load newer ones, or correct the feed")
    n_dates, n_left_out = len(panel.rows) + len(panel.left_out), len(panel.left_out)
    if n_left_out > MAX_LEFT_OUT * n_dates:
        words = f"{n_left_out} of {n_dates} dates of the training window do not count, most of them for want of rows"
        yield Finding(code=INCOMPLETE, words=words)


def thin_holdout(n_rows: int, policy: DataPolicy) -> Iterator[Finding]:
    """Fewer held-out rows than a check needs for a verdict."""
    if n_rows < policy.min_current_rows:
        words = f"{n_rows} rows were held out; data.min_current_rows asks for {policy.min_current_rows}"
        yield Finding(code=INCOMPLETE, words=words)
