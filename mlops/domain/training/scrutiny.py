"""All that was looked at beside the held-out metrics: folds, the random split, findings; as metrics, tags and a card.

Pure. The train stage makes it, the tags keep it, so a retried stage and a promotion by name read it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlops.domain.promotion.findings import FINDINGS_TAG, Finding, read, written
from mlops.domain.training.fold_table import FoldScore, folds_csv
from mlops.domain.training.random_split import RandomSplit
from mlops.domain.training.stability import summarise

if TYPE_CHECKING:
    from pathlib import Path

FOLDS_TAG, SPLIT_TAG, GAP_TAG, NOTES_TAG = "folds", "random_split", "random_split_gap", "scrutiny_notes"
MAX_NOTE = 300
"""Characters of a note that the tag keeps."""


@dataclass(frozen=True, kw_only=True)
class Scrutiny:
    """What a version was subjected to; empty parts were not asked for."""

    folds: tuple[FoldScore, ...] = ()
    random_split: RandomSplit | None = None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """Why something that was asked for is not here."""

    def metrics(self) -> dict[str, float]:
        """Logged beside the held-out ones."""
        return summarise(self.folds) | (self.random_split.metrics() if self.random_split else {})

    def tags(self) -> dict[str, str]:
        """Of the run and of the version."""
        tags = {FINDINGS_TAG: written(self.findings)}
        if self.folds:
            tags[FOLDS_TAG] = json.dumps([_compact(asdict(score)) for score in self.folds])
        if self.random_split is not None:
            tags[SPLIT_TAG] = json.dumps(_compact(asdict(self.random_split)))
            tags[GAP_TAG] = f"{self.random_split.gap:+.3f}"
        if self.notes:
            tags[NOTES_TAG] = json.dumps([note[:MAX_NOTE] for note in self.notes])
        return tags

    def files(self, folder: Path) -> dict[str, Path]:
        """Write the stability table into `folder`; artifact path → file."""
        if not self.folds:
            return {}
        path = folder / "folds.csv"
        path.write_text(folds_csv(self.folds), encoding="utf-8")
        return {path.name: path}


def read_scrutiny(tags: Mapping[str, str]) -> Scrutiny:
    """From a version's tags; parts that are not there or cannot be read are empty (findings: see `findings.read`)."""
    folds, split = _json(tags, FOLDS_TAG), _json(tags, SPLIT_TAG)
    try:
        return Scrutiny(
            folds=tuple(FoldScore(**score) for score in folds or ()),
            random_split=RandomSplit(**split) if split else None,
            findings=read(tags),
            notes=tuple(map(str, _json(tags, NOTES_TAG) or ())),
        )
    except TypeError:  # written by another version of this system
        return Scrutiny(findings=read(tags))


def as_result(scrutiny: Scrutiny) -> dict[str, Any]:
    """Its part of the train stage's result: JSON, without what was not asked for."""
    split = scrutiny.random_split
    return {
        "findings": [asdict(found) for found in scrutiny.findings],
        **({"notes": list(scrutiny.notes)} if scrutiny.notes else {}),
        **({"folds": [asdict(score) for score in scrutiny.folds]} if scrutiny.folds else {}),
        **({"random_split": asdict(split) | {"gap": split.gap}} if split else {}),
    }


def _json(tags: Mapping[str, str], name: str) -> Any:  # noqa: ANN401 -- JSON is any
    try:
        return json.loads(tags.get(name, "null"))
    except ValueError:
        return None


def _compact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rounded, and without what is empty: tags are short."""
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
    return {name: value for name, value in rounded.items() if value != ""}
