"""Findings on a version that is too good to be true or unfit in its data; they block its promotion until accepted.

Pure. A training writes its findings into the version's tag `findings`, so a promotion of a version by name reads
them too; `promotion.accepted_findings` names those that may pass. Rollbacks are not held back.

    random_split_gap                    the documented random split scores far above the held-out dates
    too_good:accuracy, too_good:roc_auc the held-out dates are predicted implausibly well
    single_feature_predicts_label:NAME  one feature alone does it
    target_like_column:NAME             a feature is called, or moves, like what is to be predicted
    stale_features                      the newest date that counts is old
    stale_labels                        the newest label is much older than one that could be known
    incomplete_features                 dates do not count, few rows were held out, or names or features have ended
    refit_differs                       the refit's probabilities are further from its judged twin's than data explain
    more_findings                       there are more than the tag holds
    unreadable_findings                 the tag cannot be read
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops.domain.promotion.policy import Decision

FINDINGS_TAG = "findings"
RANDOM_SPLIT_GAP = "random_split_gap"
TOO_GOOD = "too_good"
SINGLE_FEATURE = "single_feature_predicts_label"
TARGET_LIKE = "target_like_column"
STALE, STALE_LABELS, INCOMPLETE = "stale_features", "stale_labels", "incomplete_features"
REFIT_DIFFERS = "refit_differs"
MORE, UNREADABLE = "more_findings", "unreadable_findings"
MAX_FINDINGS = 24
"""So many are kept, the first ones: 24 of 250 characters fit into a tag of MLflow's runs (8,000)."""
_MAX_WORDS = 200
_CODE = re.compile(
    rf"{RANDOM_SPLIT_GAP}|{TOO_GOOD}:(accuracy|roc_auc)|({SINGLE_FEATURE}|{TARGET_LIKE}):.+|{STALE}|{STALE_LABELS}|{INCOMPLETE}"
    rf"|{REFIT_DIFFERS}|{MORE}|{UNREADABLE}"
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about a version that is, or may be, too good to be true or unfit."""

    code: str
    """Stable; what a policy accepts."""
    words: str
    """A sentence for a person."""


def code_fault(code: str) -> str:
    """Describe what is wrong with an entry of `promotion.accepted_findings`; empty where nothing is."""
    if _CODE.fullmatch(code):
        return ""
    known = (
        f"{RANDOM_SPLIT_GAP}, {TOO_GOOD}:accuracy, {TOO_GOOD}:roc_auc, {SINGLE_FEATURE}:NAME, {TARGET_LIKE}:NAME, "
        f"{STALE}, {STALE_LABELS}, {INCOMPLETE}, {REFIT_DIFFERS}"
    )
    return f"promotion.accepted_findings: {code!r} is no finding; write one of {known}, {MORE}"


def written(findings: Sequence[Finding]) -> str:
    """Write the findings as the tag's text."""
    kept = list(findings[:MAX_FINDINGS])
    if len(findings) > len(kept):
        kept.append(Finding(code=MORE, words=f"{len(findings) - len(kept)} more findings are not listed"))
    return json.dumps([asdict(replace(found, words=found.words[:_MAX_WORDS])) for found in kept])


def read(tags: Mapping[str, str]) -> tuple[Finding, ...]:
    """Read the findings of a version's tags; none where it was registered without being checked."""
    text = tags.get(FINDINGS_TAG)
    if text is None:
        return ()
    try:
        return tuple(Finding(code=str(item["code"]), words=str(item["words"])) for item in _items(text))
    except (ValueError, TypeError, KeyError):
        words = f"the tag {FINDINGS_TAG!r} cannot be read: {text[:40]!r}; train the version again"
        return (Finding(code=UNREADABLE, words=words),)


def held_back(decision: Decision, findings: Iterable[Finding], accepted: Iterable[str]) -> Decision:
    """Refuse a decision that would promote a version with findings that nobody accepted.

    A refusal names them too, after its own reasons; where the champion stays anyway, nothing is to be held back.
    """
    accepted = set(accepted)
    open_ones = [found for found in findings if found.code not in accepted]
    if not open_ones or decision.decision in ("keep", "inconclusive"):
        return decision
    codes = ", ".join(json.dumps(found.code) for found in open_ones)
    reasons = (
        f"findings that nobody accepted: {'; '.join(found.words for found in open_ones)}",
        f"accept by promotion.accepted_findings = [{codes}]",
    )
    if decision.decision == "refuse":
        return replace(decision, reasons=(*decision.reasons, *reasons))
    return replace(decision, decision="refuse", reasons=(*reasons, *decision.reasons))


def _items(text: str) -> list[Any]:
    items = json.loads(text)
    if not isinstance(items, list):
        raise TypeError(text)
    return items
