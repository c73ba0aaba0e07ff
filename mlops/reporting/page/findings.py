"""Findings on the data by kind, those that count as drift first; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FindingGroup:
    """Findings of one kind."""

    heading: str
    counts_as_drift: bool
    messages: tuple[str, ...]


def findings(document: Mapping[str, Any]) -> list[FindingGroup]:
    """Group a report's findings, the largest first among those that count alike."""

    def kind(finding: Mapping[str, Any]) -> tuple[bool, str]:
        return not finding.get("is_drift", False), str(finding["code"])

    groups = []
    for (counts_not, code), group in groupby(sorted(document.get("findings") or (), key=kind), key=kind):
        messages = tuple(str(finding["message"]) for finding in group)
        heading = code.replace("_", " ").capitalize()
        groups.append(FindingGroup(heading=heading, counts_as_drift=not counts_not, messages=messages))
    return sorted(groups, key=lambda group: (not group.counts_as_drift, -len(group.messages), group.heading))
