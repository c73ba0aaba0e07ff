"""What the headline of a scoring says of the present champion: another version may have been scored; pure.

Called by the pages and the commands. Keys that an older report lacks are taken as not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any


def measured_version(headline: Mapping[str, Any], champion: str | None) -> str | None:
    """Return the version that was measured where it is not the champion any more, else None."""
    version = headline.get("version")
    return None if version in (None, champion) else str(version)


def decayed_on(headline: Mapping[str, Any], champion: str | None) -> date | None:
    """Return the day from which on the champion is said to decay; None where it is not, or was not scored."""
    found = headline.get("decayed_on")
    return date.fromisoformat(found) if found and measured_version(headline, champion) is None else None


def why_not_tested(headline: Mapping[str, Any], champion: str | None) -> str | None:
    """Return why nothing is said of the champion's decay; None where it was tested."""
    version = measured_version(headline, champion)
    if version is not None:
        return f"v{champion} was not scored yet" if champion else "there is no champion"
    if headline.get("decay_tested", True):
        return None
    return headline.get("decay_why_not") or "the scoring does not say why"


def why_no_value(headline: Mapping[str, Any]) -> str | None:
    """Return why there is no number; None where there is one."""
    if headline.get("value") is not None:
        return None
    return "no AUC: all outcomes are alike" if headline.get("n_labelled") else "no outcomes yet"
