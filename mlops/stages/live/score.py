"""The score stage: predictions against what came of them, day by day, and what is made of the days.

Safe to run twice: scores and report are written with the stage's end, fenced by its grant, and a day's score only
where it says something new. No model is needed for the scores, so that they are made while MLflow is away.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from mlops.domain.errors import ConfigurationError, EmptyWindow, RegistryError, RegistryUnavailable, TemporaryError
from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.ports import Progress
from mlops.domain.promotion.records import Champion
from mlops.domain.records import LIVE, DayScored, Grant, Kind, LiveFindings, RunState, StageOutcome
from mlops.domain.run_states import FAILURES
from mlops.domain.sampling import group_starts
from mlops.domain.training.trading import is_long_label
from mlops.domain.windows import newest_complete_date
from mlops.reporting.narrative import decay_words, rollback_words
from mlops.runs.request import run_request
from mlops.stages.live.look import look_at_experiment
from mlops.stages.live.outcomes import SCORED_DAYS, Outcomes, read_outcomes
from mlops.stages.live.pairs import CHAMPION, of_variant
from mlops.stages.live.report import LiveData, live_document
from mlops.stages.live.rollback import Watch, rollback_headline, watch_former
from mlops.stages.live.served_champion import ServedChampion, judged_twin, load_champion
from mlops.strategies.file import restore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from mlops.domain.policies import Strategy
    from mlops.ledger.queries.live import LiveDay
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.table import ScoreServices

log = structlog.get_logger(__name__)

_READ_DAYS = 31


@dataclass(frozen=True, kw_only=True)
class JoinedPredictions:
    """Predictions with what came of each, by date, version, model, variant and ticker."""

    said: pa.Table
    y: npt.NDArray[np.int8]
    """(n,); 0 where not known"""
    known: npt.NDArray[np.bool_]
    """(n,)"""
    next_return: npt.NDArray[np.float64] | None
    """(n,) nan where not known; None: there is no such column"""
    increment: npt.NDArray[np.float64] | None
    """(n,) the next date's own part of the label (`Outcomes.increment`)"""
    is_there: npt.NDArray[np.bool_]
    """(n,) the source still has the row that was predicted"""

    def only(self, on: npt.NDArray[np.bool_]) -> JoinedPredictions:
        """Those of the predictions. on : (n,)"""
        return JoinedPredictions(
            said=self.said.filter(pa.array(on)),
            y=self.y[on],
            known=self.known[on],
            next_return=None if self.next_return is None else self.next_return[on],
            increment=None if self.increment is None else self.increment[on],
            is_there=self.is_there[on],
        )

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """(n,) of the positive class."""
        return np.asarray(self.said.column("probability").to_numpy(), dtype=np.float64)

    @property
    def dates(self) -> npt.NDArray[np.datetime64]:
        """(n,) datetime64[D], ascending."""
        return np.asarray(self.said.column("as_of").to_numpy(), dtype="datetime64[D]")


def score_predictions(grant: Grant, services: ScoreServices, keeper: LeaseKeeper) -> StageOutcome:
    """What is known of each day, and the report beside it; refused where nothing was predicted."""
    strategy = restore(grant.policy)
    ledger = services.ledger
    keeper.report(Progress(done=0, total=4, unit="steps"))
    champion = ledger.champion(strategy.name, namespace=grant.namespace)
    today = services.feature_day()
    as_of = grant.as_of or newest_complete_date(strategy, services.source, today=today)
    if as_of > today:
        message = f"a scoring was asked for as of {as_of}, and it is {today}; give a date that has begun"
        raise EmptyWindow(message)
    earlier = ledger.live_report(strategy.name, namespace=grant.namespace)
    if earlier is not None and earlier.as_of > as_of:
        words = f"it was scored as of {earlier.as_of}; a scoring as of {as_of} would take back what is known since"
        return _refused(as_of, words)
    everything = _predictions(services, strategy.name, as_of, namespace=grant.namespace)
    said = without_hindsight(everything, ledger.trained_as_of(strategy.name, namespace=grant.namespace))
    n_hindsight = _n_of_champion(everything) - _n_of_champion(said)
    if not _n_of_champion(said):
        words = (
            f"nothing was predicted for {strategy.name!r} in the {SCORED_DAYS} days up to {as_of}; "
            f"`acis predict {strategy.name}` does"
        )
        return _refused(as_of, words)
    served, why_not, is_away = _champion_model(services, strategy, champion)
    keeper.report(Progress(done=1, total=4, unit="steps"))
    keeper.check()
    first = said.filter(pc.equal(said.column("variant"), CHAMPION)).column("as_of")[0].as_py()
    with services.source.snapshot() as source:
        outcomes = read_outcomes(source, strategy, first=first, last=as_of)
        joined = join_outcomes(said, outcomes)
        days = [*_scored_days(joined, is_long=is_long_label(strategy.training.label))]
        # What is reported is the champion's; of other variants there are scores of days, and the looks.
        own = [day for day in days if day.variant == CHAMPION]
        known = [day for day in ledger.live_days(strategy.name, namespace=grant.namespace) if day.variant == CHAMPION]
        keeper.report(Progress(done=2, total=4, unit="steps"))
        keeper.check()
        data = LiveData(
            strategy=strategy,
            as_of=as_of,
            champion=champion,
            served=served,
            judge=lambda found: judged_twin(ledger, services.registry, strategy, champion.identity, found),
            why_not_served=why_not,
            days=_all_days(known, own),
            joined=of_variant(joined, CHAMPION),
            outcomes=outcomes,
            earlier=earlier.document if earlier else {},
        )
        document = live_document(data, source)
    _note_decay_test(document, earlier.document if earlier else {})
    keeper.report(Progress(done=3, total=4, unit="steps"))
    new, restated = _news(known, own)
    keeper.check_before_write()
    watch = Watch(
        strategy=strategy,
        champion=champion,
        joined=joined,
        outcomes=outcomes,
        earlier=(earlier.document if earlier else {}).get("rollback") or {},
        as_of=as_of,
    )
    document["rollback"] = watch_former(grant, services, watch, keeper)
    document["words"] += rollback_words(document["rollback"])
    document["headline"]["rollback"] = rollback_headline(document["rollback"])
    retrain_words, retrain_run = _retraining(grant, services, strategy, champion, document, as_of=as_of)
    looked = look_at_experiment(grant, services, keeper, strategy, joined, as_of)
    document["outcomes"]["champion_not_asked"] = why_not if is_away else None
    document["decay"] |= {"retrain_words": retrain_words, "retrain_run_id": retrain_run}
    counts = document["counts"]
    counts["n_hindsight"] = n_hindsight
    if counts["n_hindsight"]:
        document["notes"].append(
            f"{counts['n_hindsight']:,} answers about dates before their version's training are no predictions, "
            "and are left out"
        )
    result = {
        "as_of": as_of.isoformat(),
        "n_days": len({day.as_of for day in own}),
        "n_predictions": counts["n_predictions"],
        "n_labelled": counts["n_labelled"],
        "n_unripe": counts["n_unripe"],
        "n_new_days": new,
        "n_restated_days": restated,
        "headline": document["headline"],
        "decayed_on": document["headline"]["decayed_on"],
        "words": document["words"],
        "retrain_words": retrain_words,
        "retrain_run_id": retrain_run,
        **({"experiment": looked.result} if looked else {}),
    }
    log.info("live.scored", as_of=as_of.isoformat(), days=len(own), new=new, restated=restated)
    return StageOutcome(
        result=result,
        run_state=RunState.AWAITING_APPROVAL if looked and looked.awaits_approval else RunState.SUCCEEDED,
        as_of=as_of,
        live=LiveFindings(days=tuple(days), document=document),
    )


def _n_of_champion(predictions: pa.Table) -> int:
    return int(pc.sum(pc.equal(predictions.column("variant"), CHAMPION)).as_py() or 0)


def _refused(as_of: date, *reasons: str) -> StageOutcome:
    result = {"as_of": as_of.isoformat(), "n_days": 0, "reasons": list(reasons)}
    return StageOutcome(result=result, run_state=RunState.REFUSED, as_of=as_of)


def _predictions(services: ScoreServices, strategy: str, as_of: date, *, namespace: str) -> pa.Table:
    """What counts of the scored days, a month at a time: a statement of the ledger has 15 s."""
    parts = []
    start = as_of - timedelta(days=SCORED_DAYS)
    while start <= as_of:
        end = min(start + timedelta(days=_READ_DAYS - 1), as_of)
        parts.append(services.ledger.predictions(strategy, start, end, namespace=namespace))
        start = end + timedelta(days=1)
    return pa.concat_tables(parts)


def without_hindsight(predictions: pa.Table, trained_as_of: Mapping[str, date]) -> pa.Table:
    """Leave out what a version said of dates before its training, which its training or its judgement knew.

    The predict stage refuses such dates; a backend may ask a router or the service about any.
    """
    shas = predictions.column("model_sha256").to_pylist()
    began = np.array([trained_as_of.get(sha, date.min) for sha in shas], dtype="datetime64[D]")
    dates = np.asarray(predictions.column("as_of").to_numpy(), dtype="datetime64[D]")
    return predictions.filter(pa.array(dates >= began))


# ---- The join, and a score for each day of each version


def join_outcomes(said: pa.Table, outcomes: Outcomes) -> JoinedPredictions:
    """Each prediction with the outcome of its ticker and date. said : as `SqlLedger.predictions` gives it"""
    n = said.num_rows
    tickers = pa.chunked_array([*said.column("ticker").chunks, outcomes.tickers.cast(pa.string())])
    codes = tickers.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    said_dates = np.asarray(said.column("as_of").to_numpy(), dtype="datetime64[D]")
    days = np.concatenate([said_dates, outcomes.dates]).astype(np.int64)
    keys = codes.astype(np.int64) * 2**32 + days
    order = np.argsort(keys[n:], kind="stable")
    came = keys[n:][order]
    place = np.searchsorted(came, keys[:n])
    is_there = place < len(came)
    is_there[is_there] &= came[place[is_there]] == keys[:n][is_there]
    row = order[place[is_there]]
    y, known = np.zeros(n, dtype=np.int8), np.zeros(n, dtype=np.bool_)
    y[is_there], known[is_there] = outcomes.y[row], outcomes.known[row]

    def of_predictions(values: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
        if values is None:
            return None
        found = np.full(n, np.nan)
        found[is_there] = values[row]
        return found

    return JoinedPredictions(
        said=said,
        y=y,
        known=known,
        next_return=of_predictions(outcomes.next_return),
        increment=of_predictions(outcomes.increment),
        is_there=is_there,
    )


def _scored_days(joined: JoinedPredictions, *, is_long: bool) -> Iterator[DayScored]:
    """Yield a score for each day of each version, model and variant, in the order of the predictions."""
    key = ["as_of", "version", "model_sha256", "variant"]
    names = [joined.said.column(name).combine_chunks().dictionary_encode().indices.to_numpy() for name in key]
    groups = np.zeros(joined.said.num_rows, dtype=np.int64)
    for name in names:
        groups = groups * (int(name.max(initial=0)) + 1) + name
    changes = np.cumsum(np.append(0, groups[1:] != groups[:-1]))
    starts = group_starts(changes)
    probability = joined.probability
    for start, end in zip(starts, np.append(starts[1:], len(groups)), strict=True):
        on = slice(int(start), int(end))
        score = score_day(
            probability[on],
            joined.y[on],
            joined.known[on],
            None if joined.next_return is None else joined.next_return[on],
            is_long=is_long,
        )
        day, version, sha256, variant = (joined.said.column(name)[int(start)].as_py() for name in key)
        yield _day_scored(day, version, sha256, variant, score)


def _day_scored(day: date, version: str, sha256: str, variant: str, score: DayScore) -> DayScored:
    document = score.to_json()
    content = json.dumps(document, sort_keys=True).encode()
    return DayScored(
        version=version,
        model_sha256=sha256,
        variant=variant,
        as_of=day,
        n_predictions=score.n_predictions,
        n_labelled=score.n_labelled,
        score=document,
        digest=hashlib.sha256(content).hexdigest(),
    )


def _all_days(known: list[LiveDay], days: list[DayScored]) -> list[DayScored]:
    """Every day's newest score, of before this scoring's window too, by date."""
    found = {_key(day): day for day in (*known, *days)}
    return [found[key] for key in sorted(found)]


def _news(known: list[LiveDay], days: list[DayScored]) -> tuple[int, int]:
    """How many days say something new, and how many of them restate outcomes that were known."""
    before = {_key(day): day for day in known}
    new = [(day, was) for day in days if (was := before.get(_key(day))) is None or was.digest != day.digest]
    return len(new), sum(was is not None and was.n_labelled == day.n_labelled > 0 for day, was in new)


def _key(day: DayScored) -> tuple[date, str, str, str]:
    return day.as_of, day.version, day.model_sha256, day.variant


def _champion_model(
    services: ScoreServices, strategy: Strategy, champion: Champion
) -> tuple[ServedChampion | None, str | None, bool]:
    """The champion's model, or why it cannot be asked, and whether that is for a while only."""
    if champion.version is None:
        return None, "there is no champion", False
    try:
        return load_champion(services.registry, strategy, champion), None, False
    except (RegistryUnavailable, RegistryError, ConfigurationError) as exc:
        log.warning("live.champion_not_asked", version=champion.version, error=str(exc), next="the days are scored")
        return None, f"champion {champion.version} cannot be asked: {exc}", isinstance(exc, TemporaryError)


def _note_decay_test(document: dict[str, Any], earlier: Mapping[str, Any]) -> None:
    """Say in the headline whether decay was tested; what was found of the same model stands while it is not."""
    decay, headline = document["decay"], document["headline"]
    why_not = decay["why_not"]
    headline |= {"decay_tested": why_not is None, "decay_why_not": why_not}
    found = earlier.get("decay") or {}
    same = [(one.get("champion") or {}).get("model_sha256") for one in (document, earlier)]
    if why_not is not None and found.get("fired_on") and same[0] is not None and same[0] == same[1]:
        decay |= {name: found.get(name) for name in ("fired_on", "words", "retrain_words", "retrain_run_id")}
        headline["decayed_on"] = found["fired_on"]
        document["words"] = [*document["words"], *decay_words(decay)]


# ---- The retraining that decay opens


def _retraining(
    grant: Grant,
    services: ScoreServices,
    strategy: Strategy,
    champion: Champion,
    document: Mapping[str, Any],
    *,
    as_of: date,
) -> tuple[str | None, str | None]:
    """What follows from a champion's decay, in words, and the run that was opened for it.

    One for each version and day on which it was found, however often it is found again; another where that one died.
    """
    decay = document["decay"]
    fired_on = decay.get("fired_on")
    if fired_on is None or champion.version is None or grant.namespace != LIVE:
        return None, None
    if decay["why_not"] is not None:  # found earlier, and followed then
        return decay.get("retrain_words"), decay.get("retrain_run_id")
    cooldown = strategy.cooldown_days
    retrained = services.ledger.retrained_days(
        strategy.name, until=as_of, without_run=grant.run_id, namespace=grant.namespace
    )
    last = max(retrained, default=None)
    since = (as_of - last).days if last is not None else None
    if since is not None and 0 <= since < cooldown:
        return (
            f"decay opens no retraining: retrained {since} days ago, as of {last}; the cooldown is {cooldown} days",
            None,
        )
    if not strategy.live.retrain_on_decay:
        return "decay would have opened a retraining; live.retrain_on_decay is off", None
    place = f"decay of {champion.version} on {fired_on}"
    request = run_request(
        services.policies,
        strategy.name,
        Kind.RETRAIN,
        reason=str(decay["words"]),
        requested_by=f"run {grant.run_id}",
        as_of=as_of,
        slot=place,
    )
    for number in itertools.count(2):
        accepted = services.ledger.accept(replace(request, namespace=grant.namespace))
        if accepted.created or accepted.state not in FAILURES:
            break
        request = replace(request, slot=f"{place}/{number}")
    if accepted.created:
        log.warning("decay.retraining_opened", version=champion.version, fired_on=fired_on, run_id=accepted.run_id)
        return f"decay opened retraining {accepted.run_id}", accepted.run_id
    return f"decay: retraining {accepted.run_id} is {accepted.state}", accepted.run_id
