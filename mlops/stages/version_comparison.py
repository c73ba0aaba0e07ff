"""Two versions of one strategy side by side, with the paired test where both can be scored on common dates.

Called by `acis compare`; nothing is decided and nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.domain.promotion.paired import PairedTest, Untestable, compare_on_dates, paired_test_in_words
from mlops.registry.adoption import trained_as_of
from mlops.stages.common_dates import UNSCORED, evaluate_pair

if TYPE_CHECKING:
    from datetime import date

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, ModelRegistry, ModelVersion
    from mlops.domain.promotion.evidence import CommonDates


@dataclass(frozen=True, kw_only=True)
class VersionComparison:
    """Both versions as they were logged, and what a test says of them."""

    champion: ModelVersion
    challenger: ModelVersion
    test: PairedTest | None
    words: str
    """The test as a sentence, or why there is none."""
    findings: tuple[str, ...]


def compare_versions(
    registry: ModelRegistry, source: FeatureSource, strategy: Strategy, champion: str, challenger: str, *, today: date
) -> VersionComparison:
    """Test `challenger` on the dates that it held out and `champion` was not trained on either.

    Not deflated: it is a look, not a decision. Raises ModelNotFound, VersionNotFound, and what the registry and the
    features raise.
    """
    old = registry.version(strategy.model_name, champion)
    new = registry.version(strategy.model_name, challenger)
    test: PairedTest | Untestable
    findings: tuple[str, ...] = ()
    try:
        paired = evaluate_pair(registry, source, strategy, new, champion, as_of=trained_as_of(new) or today)
    except UNSCORED as exc:
        test = Untestable(words=str(exc))
    else:
        findings = paired.findings
        test = Untestable(words=str(paired.unusable)) if paired.common is None else _test(strategy, paired.common)
    return VersionComparison(
        champion=old,
        challenger=new,
        test=test if isinstance(test, PairedTest) else None,
        words=paired_test_in_words(test, champion)
        if isinstance(test, PairedTest)
        else f"they cannot be tested: {test.words}",
        findings=findings,
    )


def _test(strategy: Strategy, common: CommonDates) -> PairedTest | Untestable:
    if common.parts_challenger is None or common.parts_champion is None:
        return Untestable(words=common.why_no_parts or "nothing is known of these dates")
    policy = strategy.promotion
    return compare_on_dates(
        policy.main_metric,
        challenger=common.parts_challenger,
        champion=common.parts_champion,
        horizon_dates=strategy.training.horizon_dates,
        margin=policy.margin,
        confidence=policy.confidence,
    )
