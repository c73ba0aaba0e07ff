"""The last checks of a strategy as small bars, newest at the right; a filter of the templates.

A bar's height is the share of drifted features. One path for each verdict: fifty strategies have 1,500 bars.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from mlops.ledger.standings import CheckLine

STEP, HEIGHT = 5, 20
"""Units of the picture: from bar to bar, and of a share of 1."""
_CLASSES = {"drifted": "drifted", "stable": "stable"}


def spark(checks: Sequence[CheckLine]) -> Markup:
    """An SVG that says in words what it shows; empty without checks. checks : oldest first"""
    if not checks:
        return Markup("")
    parts: dict[str, list[str]] = defaultdict(list)
    for place, check in enumerate(checks):
        height = max(1.0, round((check.share or 0.0) * HEIGHT, 1))
        name = _CLASSES.get(check.verdict or "", "unknown")
        parts[name].append(f"M{place * STEP + 2} {HEIGHT}v-{height:g}")
    paths = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(name, "".join(found)) for name, found in parts.items()
    )
    n_drifted = sum(check.verdict == "drifted" for check in checks)
    newest = f"{(checks[-1].share or 0.0) * 100:.0f} %"
    words = f"Drifted in {n_drifted} of the last {len(checks)} checks; share of features in the newest {newest}"
    return Markup('<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        len(checks) * STEP, HEIGHT, words, paths
    )
