"""The last checks of a strategy as small bars, newest at the right; a filter of the templates.

A bar's height is the share of drifted features. One path for each verdict: fifty strategies have 1,500 bars.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from mlops.ledger.check_lines import CheckPoint

STEP, HEIGHT = 5, 20
"""Units of the picture: from bar to bar, and of a share of 1."""
_CLASSES = {"drifted": "drifted", "stable": "stable"}


def spark(checks: Sequence[CheckPoint]) -> Markup:
    """An SVG that says in words what it shows; empty without checks. checks : oldest first"""
    if not checks:
        return Markup("")
    parts: dict[str, list[str]] = defaultdict(list)
    for place, check in enumerate(checks):
        height = max(1.0, (check.share or 0.0) * HEIGHT)
        name = _CLASSES.get(check.verdict or "", "unknown")
        parts[name].append(f"M{place * STEP + 2} {HEIGHT}v-{height:.1f}")
    n_drifted = sum(check.verdict == "drifted" for check in checks)
    words = (
        f"Drifted in {n_drifted} of the last {len(checks)} checks; "
        f"share of features in the newest {(checks[-1].share or 0.0) * 100:.0f} %"
    )
    paths = "".join(f'<path class="{name}" d="{"".join(found)}"/>' for name, found in parts.items())
    # Of numbers and our own words alone: nothing in it needs escaping.
    return Markup(  # noqa: S704
        f'<svg class="spark" viewBox="0 0 {len(checks) * STEP} {HEIGHT}" role="img" aria-label="{words}">{paths}</svg>'
    )
