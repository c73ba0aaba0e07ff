"""What pages and commands read of predictions and their outcomes, in few queries however many strategies there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Date,
    ScalarSelect,
    Select,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on

from mlops.domain.promotion.records import Champion
from mlops.domain.records import LIVE, DayScored, Kind, RunState, Stage
from mlops.ledger import tables
from mlops.ledger.columns import as_rows, columns_of, mapped
from mlops.ledger.engine import Repository

_run = tables.run.c
_score = tables.live_score.c
_report = tables.live_report.c
_prediction = tables.prediction.c
_promotion = tables.promotion.c


@dataclass(frozen=True, kw_only=True)
class LiveDay(DayScored):
    """A day's score with when it became known, and by which scoring."""

    strategy: str
    known_at: datetime
    run_id: str | None
    """The scoring that wrote it."""


@dataclass(frozen=True, kw_only=True)
class LiveReport:
    """The document of a scoring: performance, estimate, decay and the other parts."""

    run_id: str
    strategy: str
    as_of: date
    document: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class LiveLine:
    """A strategy's live performance in a line."""

    strategy: str
    as_of: date
    """Date of the newest scoring."""
    created_at: datetime
    headline: Mapping[str, Any]
    """`document["headline"]` of the newest report: `version`, `metric`, `value`, `low`, `high`, `n_days`,
    `n_labelled`, `n_unripe`, `n_without_outcome`, `n_gone`, `is_estimate`, `decayed_on`, `decay_tested`,
    `decay_why_not`; a report of an older release may lack some."""


@dataclass(frozen=True, kw_only=True)
class LiveMeasures:
    """What a strategy's newest scoring measured of its champion, for a table; each a `Measured` as JSON, or None."""

    strategy: str
    accuracy: Mapping[str, Any] | None
    roc_auc: Mapping[str, Any] | None
    log_loss: Mapping[str, Any] | None
    estimates: Sequence[Mapping[str, Any]]
    """`mlops.domain.live.estimate.Estimate` of each metric, of the newest month"""
    parity: Mapping[str, Any] | None
    """`n_rows`, `n_equal`, `n_other`, `n_gone` of the newest dates"""


@dataclass(frozen=True, kw_only=True)
class UnripeCount:
    """Predictions of a strategy whose horizon has not passed."""

    n_predictions: int
    first: date | None
    """The oldest date that has one."""
    last: date | None


@dataclass(frozen=True, kw_only=True)
class DatedRun:
    """A run about one date: that predicted it, or scored as of it, or was to."""

    run_id: str
    strategy: str
    state: RunState
    slot: str | None
    as_of: date | None
    created_at: datetime
    version: str | None
    """The version that predicted; None: none has."""
    model_sha256: str | None
    n_rows: int | None
    n_found: int | None
    """Rows that the date had then, with those that no ticker names; None: not recorded"""
    requested_by: str
    beside: Sequence[Mapping[str, Any]] | None = None
    """What predicted beside the champion (`mlops.stages.live.beside`); None: nothing was to"""

    def has_grown(self, n_rows: int) -> bool:
        """Whether the date has more rows now than when it was predicted, or refused for having too few."""
        before = self.n_rows if self.n_found is None else self.n_found
        return before is not None and before < n_rows

    @property
    def has_predicted(self) -> bool:
        """Whether its predictions are in the ledger."""
        return self.state is RunState.SUCCEEDED and self.version is not None

    def is_of(self, champion: Champion) -> bool:
        """Whether the champion's model predicted."""
        sha256 = champion.identity.sha256
        return self.version == champion.version and (sha256 is None or self.model_sha256 == sha256)


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What a run wrote into the prediction log."""

    run_id: str
    as_of: date
    version: str
    model_sha256: str
    n_rows: int
    positive_share: float


@dataclass(frozen=True, kw_only=True)
class LiveStanding:
    """What decides whether a strategy's next step in use is due."""

    strategy: str
    champion_since: datetime | None
    """When it became the champion; None: there is none."""
    has_predictions: bool
    scored_as_of: date | None
    """Date of the newest scoring; None: nothing was scored yet."""
    outcomes: Mapping[str, Any] | None
    """`document["outcomes"]` of that scoring: `first`, `last` and `digest` of what was known."""


class LiveQueries(Repository):
    """Predictions, scores of days, and reports."""

    def live_days(self, strategy: str, *, namespace: str = LIVE) -> list[LiveDay]:
        """Each day of each version with its newest row, by date and version."""
        query = _newest_rows([_score.namespace == namespace, _score.strategy == strategy])
        with self.database.reading() as connection:
            return [mapped(LiveDay, row) for row in connection.execute(query)]

    def live_day_history(self, strategy: str, as_of: date, *, namespace: str = LIVE) -> list[LiveDay]:
        """Every score of a day, oldest first: more than one row of a version is a restated outcome."""
        query = (
            select(*columns_of(LiveDay, _score))
            .where(_score.namespace == namespace, _score.strategy == strategy, _score.as_of == as_of)
            .order_by(_score.id)
        )
        with self.database.reading() as connection:
            return [mapped(LiveDay, row) for row in connection.execute(query)]

    def live_report(self, strategy: str, *, namespace: str = LIVE) -> LiveReport | None:
        """The newest; None: nothing was scored yet."""
        found = self.live_reports(strategy, limit=1, namespace=namespace)
        return found[0] if found else None

    def live_reports(self, strategy: str, *, limit: int = 90, namespace: str = LIVE) -> list[LiveReport]:
        """Reports, newest first."""
        query = (
            select(*columns_of(LiveReport, _report))
            .where(_report.namespace == namespace, _report.strategy == strategy)
            .order_by(_report.as_of.desc(), _report.id.desc())
            .limit(limit)
        )
        with self.database.reading() as connection:
            return [mapped(LiveReport, row) for row in connection.execute(query)]

    def live_lines(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, LiveLine]:
        """By strategy, its newest scoring in a line; those that were never scored are not there. One query."""
        if not strategies:
            return {}
        asked = as_rows(strategies)
        newest = _newest_report(asked, namespace)
        query = (
            select(*columns_of(LiveLine, _report, headline=_report.document["headline"]))
            .select_from(asked)
            .join(tables.live_report, _report.id == newest)
        )
        with self.database.reading() as connection:
            lines = [mapped(LiveLine, row, headline=row.headline or {}) for row in connection.execute(query)]
        return {line.strategy: line for line in lines}

    def asked_rollbacks(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, str]:
        """By strategy, why its present champion should give its place back and has not, in words. One query."""
        if not strategies:
            return {}
        asked = as_rows(strategies)
        found, champion = _report.document["headline"]["rollback"], tables.champion.c
        query = (
            select(asked.c.strategy, found["words"].as_string().label("words"))
            .select_from(asked)
            .join(tables.live_report, _report.id == _newest_report(asked, namespace))
            .join(tables.champion, and_(champion.namespace == namespace, champion.strategy == asked.c.strategy))
            .where(found["action"].as_string().in_(["ask", "wait"]), found["seq"].as_integer() == champion.seq)
            .order_by(asked.c.strategy)
        )
        with self.database.reading() as connection:
            return {row.strategy: row.words for row in connection.execute(query)}

    def live_measures(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, LiveMeasures]:
        """By strategy, of its newest scoring; of the document only these parts are read. One query."""
        if not strategies:
            return {}
        asked = as_rows(strategies)
        newest = _newest_report(asked, namespace)
        document = _report.document
        names = ("accuracy", "roc_auc", "log_loss")
        found = [func.jsonb_path_query_array(document, f"$.performance[*].{name}").label(name) for name in names]
        query = (
            select(
                asked.c.strategy,
                document["champion"]["version"].as_string().label("champion"),
                func.jsonb_path_query_array(document, "$.performance[*].version").label("versions"),
                *found,
                document["estimate"].label("estimates"),
                document["parity"].label("parity"),
            )
            .select_from(asked)
            .join(tables.live_report, _report.id == newest)
        )
        measures = {}
        with self.database.reading() as connection:
            for row in connection.execute(query):
                # The last of a version: its model of the same number, were it registered twice.
                index = {version: n for n, version in enumerate(row.versions)}.get(row.champion)
                of = {name: None if index is None else getattr(row, name)[index] for name in names}
                measures[row.strategy] = LiveMeasures(
                    strategy=row.strategy, **of, estimates=row.estimates or (), parity=row.parity
                )
        return measures

    def predicted_to(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, date]:
        """By strategy, the newest date that was predicted; each is looked up in an index. One query."""
        if not strategies:
            return {}
        asked = as_rows(strategies)
        newest = (
            select(func.max(_prediction.as_of))
            .where(_prediction.namespace == namespace, _prediction.strategy == asked.c.strategy)
            .correlate(asked)
            .scalar_subquery()
        )
        query = select(asked.c.strategy, newest.label("as_of")).select_from(asked)
        with self.database.reading() as connection:
            return {row.strategy: row.as_of for row in connection.execute(query) if row.as_of is not None}

    def trained_as_of(self, strategy: str, *, namespace: str = LIVE) -> dict[str, date]:
        """The date as of which each model that a decision was made about was trained, by the digest of its file."""
        query = (
            select(_promotion.model_sha256, func.max(_promotion.trained_as_of).label("day"))
            .where(
                _promotion.namespace == namespace,
                _promotion.strategy == strategy,
                _promotion.model_sha256.is_not(None),
                _promotion.trained_as_of.is_not(None),
            )
            .group_by(_promotion.model_sha256)
        )
        with self.database.reading() as connection:
            return {row.model_sha256: row.day for row in connection.execute(query)}

    def unripe_predictions(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, UnripeCount]:
        """By strategy, how many predictions are not ripe: of scored days after the last ripe one, and of later days."""
        found: dict[str, UnripeCount] = {}
        with self.database.reading() as connection:
            for name in strategies:
                days = connection.execute(_unripe_days(name, namespace)).all()
                found[name] = UnripeCount(
                    n_predictions=sum(row.n for row in days),
                    first=min((row.as_of for row in days), default=None),
                    last=max((row.as_of for row in days), default=None),
                )
        return found

    def batch_summary(self, run_id: str, *, threshold: float) -> BatchSummary | None:
        """What a run wrote; None: nothing yet. threshold : from which on a probability is called positive"""
        newest = select(tables.prediction_batch.c.newest).where(tables.prediction_batch.c.batch_id == run_id)
        query = (
            select(
                _prediction.batch_id.label("run_id"),
                _prediction.as_of,
                _prediction.version,
                _prediction.model_sha256,
                func.count().label("n_rows"),
                func.avg(case((_prediction.probability >= threshold, 1.0), else_=0.0)).label("positive_share"),
            )
            .join(tables.run, and_(_run.namespace == _prediction.namespace, _run.strategy == _prediction.strategy))
            .where(_run.run_id == run_id, _prediction.batch_id == run_id, _prediction.as_of == newest.scalar_subquery())
            .group_by(_prediction.batch_id, _prediction.as_of, _prediction.version, _prediction.model_sha256)
        )
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else mapped(BatchSummary, row, positive_share=float(row.positive_share))

    def live_standings(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, LiveStanding]:
        """By strategy; one query."""
        if not strategies:
            return {}
        asked = as_rows(strategies)
        name = asked.c.strategy
        newest = _newest_report(asked, namespace)
        champion = tables.champion.c
        query = (
            select(
                name,
                champion.changed_at.label("champion_since"),
                exists()
                .where(_prediction.namespace == namespace, _prediction.strategy == name)
                .correlate(asked)
                .label("has_predictions"),
                _report.as_of.label("scored_as_of"),
                _report.document["outcomes"].label("outcomes"),
            )
            .select_from(asked)
            .outerjoin(
                tables.champion,
                and_(champion.namespace == namespace, champion.strategy == name, champion.version.is_not(None)),
            )
            .outerjoin(tables.live_report, _report.id == newest)
        )
        with self.database.reading() as connection:
            return {row.strategy: mapped(LiveStanding, row) for row in connection.execute(query)}

    def predict_runs(self, strategies: Sequence[str], *, since: date, namespace: str = LIVE) -> list[DatedRun]:
        """Runs that predicted dates from `since` on, or were to, oldest first. One query for all strategies."""
        return self._runs_of_dates(Kind.PREDICT, strategies, since=since, namespace=namespace)

    def score_runs(self, strategies: Sequence[str], *, since: date, namespace: str = LIVE) -> list[DatedRun]:
        """Runs that scored as of dates from `since` on, or were to, oldest first; nothing of them was predicted."""
        return self._runs_of_dates(Kind.SCORE, strategies, since=since, namespace=namespace)

    def _runs_of_dates(self, kind: Kind, strategies: Sequence[str], *, since: date, namespace: str) -> list[DatedRun]:
        result = _run.outcome[("stages", Stage.PREDICT.value)]
        query = (
            select(
                *columns_of(
                    DatedRun,
                    _run,
                    version=result["version"].as_string(),
                    model_sha256=result["model_sha256"].as_string(),
                    n_rows=result["n_rows"].as_integer(),
                    n_found=result["n_found"].as_integer(),
                    beside=result["beside"],
                )
            )
            .where(
                _run.namespace == namespace,
                _run.kind == kind,
                _run.strategy.in_(list(strategies)),
                _run.as_of >= since,
            )
            .order_by(_run.created_at)
        )
        with self.database.reading() as connection:
            return [mapped(DatedRun, row, state=RunState(row.state)) for row in connection.execute(query)]


def _newest_report(asked: CTE, namespace: str) -> ScalarSelect[Any]:
    """The id of the newest report of each strategy that is asked for."""
    return (
        select(_report.id)
        .where(_report.namespace == namespace, _report.strategy == asked.c.strategy)
        .order_by(_report.as_of.desc(), _report.id.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )


def _newest_rows(where: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Select the newest row of each version, model, variant and day among those that `where` leaves."""
    key = (_score.as_of, _score.version, _score.model_sha256, _score.variant)
    return select(*columns_of(LiveDay, _score)).ext(distinct_on(*key)).where(*where).order_by(*key, _score.id.desc())


def _unripe_days(strategy: str, namespace: str) -> CompoundSelect[Any]:
    """Rows of `as_of` and `n`. A report of an older release names no last ripe date: the last labelled one is taken."""
    newest = _newest_rows([_score.namespace == namespace, _score.strategy == strategy]).subquery()
    of_report = (
        select(cast(_report.document[("outcomes", "ripe_to")].as_string(), Date))
        .where(_report.namespace == namespace, _report.strategy == strategy)
        .order_by(_report.as_of.desc(), _report.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    labelled = select(func.max(newest.c.as_of)).where(newest.c.n_labelled > 0).scalar_subquery()
    ripe_to = func.coalesce(of_report, labelled, literal(date.min, Date))
    of_scored = select(newest.c.as_of, (newest.c.n_predictions - newest.c.n_labelled).label("n")).where(
        newest.c.n_predictions > newest.c.n_labelled, newest.c.as_of > ripe_to
    )
    last = (
        select(func.coalesce(func.max(_score.as_of), literal(date.min, Date)))
        .where(_score.namespace == namespace, _score.strategy == strategy)
        .scalar_subquery()
    )
    of_later = (
        select(_prediction.as_of, func.count(func.distinct(_prediction.ticker)).label("n"))
        .where(and_(_prediction.namespace == namespace, _prediction.strategy == strategy, _prediction.as_of > last))
        .group_by(_prediction.as_of)
    )
    return of_scored.union_all(of_later)
