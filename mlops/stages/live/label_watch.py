"""The champion on dates whose labels were not known to its training: whether its relation to the label has changed.

Called by the drift stage of each day. It needs no stored predictions: the champion is asked anew about those dates,
as far as their labels are known as of the check. What keeps the question from being asked is said, and fails no check.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from mlops.domain.errors import InsufficientData, UnusableModelFile
from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.label_watch import LabelWatch, watch_labels
from mlops.domain.ports import Ledger
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.records import Grant, Kind, RunState, RunView, Stage
from mlops.domain.training.feature_names import feature_names
from mlops.domain.training.judged_twin import judged_of
from mlops.domain.training.since_change import least_dates, next_dates
from mlops.stages.champion import NOT_ASKED
from mlops.stages.labelled_rows import read_labelled
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    import numpy.typing as npt
    import xgboost as xgb

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.promotion.records import Champion
    from mlops.stages.labelled_rows import LabelledRows
    from mlops.stages.table import DriftServices

log = structlog.get_logger(__name__)

#: Newest calendar days that are asked about: a change is found within weeks or is none.
_DAYS = 400
#: Both parts are read at once where no more lie between them.
_NEAR_DAYS = 31
_ROWS_AT_ONCE = 250_000
"""45 features of so many rows are 45 MB."""
_DAY = timedelta(days=1)


def watch_champion(
    services: DriftServices, source: FeatureSource, strategy: Strategy, champion: Champion, *, as_of: date
) -> dict[str, Any]:
    """The report's `label_watch`: what was found, or `why_not` in words. Raises SourceUnavailable."""
    if strategy.drift.label_alpha == 0.0:
        return _untold("drift.label_alpha is 0, so labels are not watched")
    if champion.version is None:
        return _untold("there is no champion to ask")
    try:
        return _watched(services, source, strategy, champion, champion.version, as_of=as_of)
    except NOT_ASKED as exc:
        log.warning("labels.not_watched", strategy=strategy.name, version=champion.version, error=str(exc))
        return _untold(f"champion {champion.version} cannot be asked about newly known labels: {exc}")


def _untold(why_not: str) -> dict[str, Any]:
    return {"why_not": why_not, "fired_on": None, "change_at": None, "words": f"not looked at: {why_not}"}


def _watched(
    services: DriftServices, source: FeatureSource, strategy: Strategy, champion: Champion, version: str, *, as_of: date
) -> dict[str, Any]:
    judged, tags = services.champions.judged(services.ledger, strategy.model_name, version, champion.identity)
    held = judged_of(tags).holdout
    ends = [_date_of(tags.get(name)) for name in ("train_end", "training_date")]
    learnt_to, trained_as_of = ends
    if held is None or learnt_to is None or trained_as_of is None:
        raise InsufficientData("it does not say which dates its training learnt from and held out; train it here")
    if judged.finding is not None:
        raise InsufficientData(judged.finding)
    if trained_as_of > as_of:
        raise InsufficientData(f"it was trained as of {trained_as_of}, and would know what came after {as_of}")
    first = max(learnt_to + _DAY, held[1] + _DAY, as_of - timedelta(days=_DAYS))
    is_near = (first - held[1]).days <= _NEAR_DAYS
    rows = _read(source, strategy, judged.itself, first=held[0] if is_near else first, as_of=as_of)
    of_judged = rows if is_near else _read(source, strategy, judged.classifier, first=held[0], as_of=trained_as_of)
    days = _scores(rows, judged.itself, first, as_of)
    found = watch_labels(
        days,
        held_out={day: one for day, one in _scores(of_judged, judged.classifier, *held).items() if one.n_labelled},
        as_of=as_of,
        horizon_dates=strategy.training.horizon_dates,
        alpha=strategy.drift.label_alpha,
    )
    since = found.change_at
    n_since = sum(day >= since and score.n_labelled > 0 for day, score in days.items()) if since else 0
    return {
        "why_not": None,
        "version": version,
        "model_sha256": champion.identity.sha256,
        **_as_json(found),
        "n_since": n_since,
        "least_dates": least_dates(strategy.training.horizon_dates),
    }


def _read(
    source: FeatureSource, strategy: Strategy, model: xgb.XGBClassifier, *, first: date, as_of: date
) -> LabelledRows | None:
    """Rows of the dates from `first` to `as_of`, with the labels that are known as of then; None where none is."""
    if first > as_of:
        return None
    features = feature_names(model.get_booster())
    if not features:
        raise InsufficientData("it does not say the names of its features; train it again here")
    window = replace(strategy.training, training_days=(as_of - first).days + 1)
    return read_labelled(source, replace(strategy, training=window), as_of=as_of, features=features)


def _scores(rows: LabelledRows | None, model: xgb.XGBClassifier, first: date, last: date) -> dict[date, DayScore]:
    """Scores of the labelled rows of the dates from one to another; a date without any has an empty one."""
    if rows is None:
        return {}
    between = (rows.dates >= np.datetime64(first)) & (rows.dates <= np.datetime64(last))
    empty = score_day(np.empty(0), np.empty(0, dtype=np.int8), np.empty(0, dtype=np.bool_))
    found = dict.fromkeys(np.unique(rows.dates[between]).tolist(), empty)
    on = between & rows.known
    if not on.any():
        return found
    probability, y = _probabilities(rows, model, on), rows.y[on]
    days, starts = np.unique(rows.dates[on], return_index=True)
    for day, start, end in zip(days.tolist(), starts, np.append(starts[1:], len(y)), strict=True):
        found[day] = score_day(probability[start:end], y[start:end], np.ones(end - start, dtype=np.bool_))
    return found


def _probabilities(rows: LabelledRows, model: xgb.XGBClassifier, on: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The model's probability of those rows; of many, a part at a time, since they may lie in a file.

    Raises UnusableModelFile.
    """
    import xgboost as xgb  # noqa: PLC0415 -- loaded with the model

    places = np.flatnonzero(on)
    found = []
    for part in np.array_split(places, 1 + len(places) // _ROWS_AT_ONCE):
        chosen = np.zeros(len(on), dtype=np.bool_)
        chosen[part] = True
        try:
            found.append(positive_probability(model, rows.x[chosen]))
        except (xgb.core.XGBoostError, ValueError) as exc:
            raise UnusableModelFile(f"it cannot be scored: {str(exc).splitlines()[0]}") from exc
    return np.concatenate(found)


def _as_json(found: LabelWatch) -> dict[str, Any]:
    document = asdict(found)
    for name in ("fired_on", "change_at"):
        document[name] = document[name].isoformat() if document[name] else None
    document["path"] = [[day.isoformat(), round(value, 6)] for day, value in found.path]
    return document


def _date_of(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


# ---- The retraining that a changed relation opens


def settle_labels(ledger: Ledger, grant: Grant, watched: dict[str, Any], *, as_of: date) -> dict[str, Any]:
    """The report's `label_watch` with `retrain` and, in `retrain_words`, what follows from it and why.

    One retraining for a found change of one champion, whatever the cooldown of drift: it begins when as many dates
    since the change have labels as a training needs. Where its version did not replace the champion, another follows
    when an eighth more of them have; none where a person took it back.
    """
    if watched["fired_on"] is None:
        return {**watched, "retrain": False, "retrain_words": None}
    retrain, words = _what_follows(ledger, grant, watched, as_of=as_of)
    if retrain and grant.kind is Kind.CHECK:
        words = f"a check trains nothing; a pipeline would open {words}"
    fired_on = date.fromisoformat(watched["fired_on"])
    is_first = not ledger.checked_days(grant.strategy, since=fired_on, before=as_of, namespace=grant.namespace)
    tell = log.warning if is_first or retrain else log.info
    tell(
        "labels.changed",
        strategy=grant.strategy,
        version=watched["version"],
        change_at=watched["change_at"],
        follows=words,
        action="none: what follows is said",
    )
    return {**watched, "retrain": retrain, "retrain_words": words}


def _what_follows(ledger: Ledger, grant: Grant, watched: dict[str, Any], *, as_of: date) -> tuple[bool, str]:
    n_since, least, since = watched["n_since"], watched["least_dates"], watched["change_at"]
    have = f"{n_since} {'date' if n_since == 1 else 'dates'} since {since} {'has' if n_since == 1 else 'have'} labels"
    if n_since < least:
        return False, f"{have}, and a training needs {least}: it waits for {least - n_since} more"
    tries = _tries(ledger, grant, watched, as_of=as_of)
    if not tries:
        return True, f"a training on the dates since {since}, of which {n_since} have labels"
    for run, _ in tries:
        if version := _taken_back(ledger, grant, run):
            return False, (
                f"version {version} of run {run.run_id} is trained since then and was promoted, and a person brought "
                f"the champion before it back: no training follows unless one is asked for"
            )
    last, n_last = tries[0]
    if last.state is RunState.AWAITING_APPROVAL:
        return False, f"the version of run {last.run_id} is trained since then, and waits for a person's approval"
    again = next_dates(n_last)
    before = f"run {last.run_id} trained on {n_last} of them as of {last.as_of}, and its version is not the champion"
    if n_since < again:
        return False, f"{have}; {before}: another training follows at {again}"
    return True, f"another training on the dates since {since}, of which {n_since} have labels; {before}"


def _taken_back(ledger: Ledger, grant: Grant, run: RunView) -> str | None:
    """The version that a run trained for the present champion, where it had replaced it; None where it had not."""
    made = next(stage.result for stage in run.stages if stage.stage is Stage.TRAIN and stage.result)
    identity = ModelIdentity(sha256=made["model_sha256"], made_by=run.run_id)
    decided = ledger.newest_decision(grant.strategy, made["version"], identity, namespace=grant.namespace)
    return decided.version if decided is not None and decided.target_stage == "Production" else None


def _tries(ledger: Ledger, grant: Grant, watched: dict[str, Any], *, as_of: date) -> list[tuple[RunView, int]]:
    """Runs that trained for a change of this champion as of earlier dates, the newest first, with their dates."""
    found = []
    for run in ledger.trained_for_labels(
        grant.strategy, until=as_of, without_run=grant.run_id, namespace=grant.namespace
    ):
        drift = next(stage.result for stage in run.stages if stage.stage is Stage.DRIFT and stage.result)
        before = drift["label_watch"]
        if before["model_sha256"] == watched["model_sha256"] and before["version"] == watched["version"]:
            found.append((run, int(before["n_since"])))
    return sorted(found, key=lambda one: (one[0].as_of, one[1]), reverse=True)
