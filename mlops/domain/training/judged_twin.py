"""What is registered of a training that refits, and what judged it; pure.

    judged twin   trained on the dates before the held-out ones and scored on them: its metrics are the version's
    refit         the same code, parameters, seed and rounds on every row whose label is known: this is registered

A refit knows the held-out dates, so it is never scored on them: promotion compares twins, and decay is measured from
the twin's level. The twin's file lies with the version's run and is known by its digest. Called by the train stage, by
promotion and by the score stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

TWIN_ARTIFACT = "judged_twin.ubj"
"""Name of the twin's model file among the files of a version's run."""
TWIN_TAG = "acis.twin_sha256"
"""Tag of a refitted version: SHA-256 of that file. It informs; the digest that counts is in the training's result."""
SINCE_TAG = "trained_since"
"""Tag of a version, and part of its training's result: the first date from which rows were taken; absent where it is
the policy's window alone that decides."""
HORIZON_TAG = "horizon_dates"
"""Tag of a version, and part of its training's result: how many dates its label looks ahead."""
OF_TWIN = "/judged_twin"
"""Follows a model's name where the ledger notes the digest of a twin that a training made."""
_OF_TWIN = " (of the judged twin)"
"""Follows the held-out dates of a refitted version. The release before does not read them then, and so does not score
a refit on dates that it knows: it refuses the comparison."""
_TWIN_FACTS = ("twin_train_start", "twin_train_end", "twin_n_train", "refit_distance")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a version's tags say of the model that was scored for it: its twin, or the version itself."""

    twin_sha256: str | None
    """None: the version has no twin, it was judged itself."""
    train_end: date | None
    """Last date that the judged model was trained on; None where the version does not say."""
    holdout: tuple[date, date] | None
    """First and last held-out date; None where the version does not say."""


def judged_of(tags: Mapping[str, str]) -> Judged:
    """Read what was judged from a version's tags, of this release or of one that did not refit."""
    first, last = (_day(tags.get(name, "").removesuffix(_OF_TWIN)) for name in ("holdout_start", "holdout_end"))
    twin = tags.get(TWIN_TAG)
    return Judged(
        twin_sha256=twin,
        train_end=_day(tags.get("train_end" if twin is None else "twin_train_end")),
        holdout=(first, last) if first is not None and last is not None else None,
    )


def held_out_by_twin(day: date | str) -> str:
    """Write a held-out date, in ISO's form or as it is, as the tags of a refitted version have it."""
    return f"{day}{_OF_TWIN}"


def twin_result(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the train stage's result on the twin; nothing for a version that was judged itself."""
    if TWIN_TAG not in tags:
        return {}
    start, end, n_train, distance = (tags[name] for name in _TWIN_FACTS)
    return {
        "twin": {
            "model_sha256": tags[TWIN_TAG],
            "train_start": start,
            "train_end": end,
            "n_train": int(n_train),
            "distance": float(distance),
        }
    }


def tags_of_result(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that `twin_result` was made of, with the held-out dates as those tags have them."""
    twin = result.get("twin")
    if not twin:
        return {}
    values = (twin["train_start"], twin["train_end"], twin["n_train"], twin["distance"])
    held_out = {name: held_out_by_twin(result[name]) for name in ("holdout_start", "holdout_end")}
    return {TWIN_TAG: twin["model_sha256"], **dict(zip(_TWIN_FACTS, map(str, values), strict=True)), **held_out}


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def since_of(
    facts: Mapping[str, str], *, as_of: date, training_days: int, label: str, horizon_dates: int
) -> date | None:
    """Return the date since which a model was trained, where it lies within a training window; else None.

    None, too, of a model that was trained as of a later date, or whose label or horizon is another.
    facts : tags of its training, as the ledger has them
    """
    since, trained_as_of = (_day(facts.get(name)) for name in (SINCE_TAG, "training_date"))
    if since is None or trained_as_of is None or trained_as_of > as_of:
        return None
    horizon = str(horizon_dates)
    if facts.get("label") != label or facts.get(HORIZON_TAG, horizon) != horizon:
        return None
    return since if 0 <= (as_of - since).days < training_days else None
