"""Champion against challenger on the same held-out dates.

Pure; called by the promote stage. The rule is "not worse on the policy's main metric"; a paired test per date
with a block bootstrap takes this place later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.training.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from mlops.strategies import PromotionPolicy

_ALWAYS_DEFINED = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Both versions' scores on the same rows."""

    metric: str
    challenger: float
    champion: float
    champion_version: str
    not_worse: bool
    words: str
    """A sentence for a person."""


def compare_on(
    policy: PromotionPolicy,
    *,
    challenger: Mapping[str, float],
    champion: Mapping[str, float],
    champion_version: str,
) -> Comparison:
    """Compare on the policy's main metric; on accuracy, and said so, where that one is undefined for these dates."""
    metric = (
        policy.main_metric if policy.main_metric in challenger and policy.main_metric in champion else _ALWAYS_DEFINED
    )
    ours, theirs = challenger[metric], champion[metric]
    # Comparisons with nan are False: a challenger that cannot be measured is not "not worse".
    not_worse = ours <= theirs if metric in LOWER_IS_BETTER else ours >= theirs
    relation = "is not worse than" if not_worse else "is worse than"
    instead = "" if metric == policy.main_metric else f" ({policy.main_metric} is undefined on these dates)"
    return Comparison(
        metric=metric,
        challenger=ours,
        champion=theirs,
        champion_version=champion_version,
        not_worse=not_worse,
        words=(
            f"{metric} {ours:.4f} {relation} the {theirs:.4f} of champion {champion_version} on the same dates{instead}"
        ),
    )
