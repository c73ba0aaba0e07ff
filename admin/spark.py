"""The last checks of a strategy as small bars, newest at the right; a filter of the templates.

A bar is as high as the shift is rare: p on a logarithmic scale. One path for each verdict: fifty strategies have
1,500 bars.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from admin.heat import rounded
from mlops.ledger.check_lines import CheckPoint

STEP, HEIGHT = 5, 20
"""Units of the picture: from bar to bar, and of the highest bar."""
RAREST = 0.001
"""A p that has the highest bar; 1 has the lowest, and 0.05 one of 43 %."""
_CLASSES = {"drifted": "drifted", "stable": "stable"}


def spark(checks: Sequence[CheckPoint]) -> Markup:
    """An SVG that says in words what it shows; empty without checks. checks : oldest first"""
    if not checks:
        return Markup("")
    parts: dict[str, list[str]] = defaultdict(list)
    for place, check in enumerate(checks):
        name = _CLASSES.get(check.verdict or "", "unknown")
        parts[name].append(f"M{place * STEP + 2} {HEIGHT}v-{_height(check):.1f}")
    n_drifted = sum(check.verdict == "drifted" for check in checks)
    newest = checks[-1].p_value
    words = f"Drifted in {n_drifted} of the last {len(checks)} checks; " + (
        "the newest has no p" if newest is None else f"p of the newest {rounded(newest)}"
    )
    paths = "".join(f'<path class="{name}" d="{"".join(found)}"/>' for name, found in parts.items())
    # Of numbers and our own words alone: nothing in it needs escaping.
    return Markup(  # noqa: S704
        f'<svg class="spark" viewBox="0 0 {len(checks) * STEP} {HEIGHT}" role="img" aria-label="{words}">{paths}</svg>'
    )


def _height(check: CheckPoint) -> float:
    """Of a check without p: whole where it drifted, by the rule that asks for the share alone, else a stub."""
    if check.p_value is None:
        return float(HEIGHT) if check.verdict == "drifted" else 1.0
    rarity = math.log(max(check.p_value, RAREST)) / math.log(RAREST)
    return max(1.0, rarity * HEIGHT)
