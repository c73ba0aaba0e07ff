"""Models and their versions as the ledger knows them, in a few queries however many strategies and runs there are.

What MLflow alone knows (stages that were set by hand, versions that were registered elsewhere) is not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import CTE, Select, and_, func, literal, select, tuple_

from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, Timestamp
from mlops.ledger.names import as_rows, pairs_as_rows
from mlops.ledger.part import LedgerPart
from mlops.ledger.records import LIVE

_run = tables.run.c
_stage = tables.stage.c
_promotion = tables.promotion.c
_champion = tables.champion.c


@dataclass(frozen=True, kw_only=True)
class TrainedLine:
    """A version that a run trained."""

    run_id: str
    strategy: str
    version: str
    trained_at: datetime
    as_of: date | None
    metrics: Mapping[str, float]
    """On the dates that its training held out."""
    registry_run_id: str | None
    train_end: str | None
    holdout_start: str | None
    holdout_end: str | None
    n_train: int | None
    run_s: float
    is_incremental: bool
    n_trials: int
    """Of a tuning; 0: none."""


@dataclass(frozen=True, kw_only=True)
class DecisionLine:
    """The newest decision about anything of a strategy."""

    run_id: str | None
    version: str
    decision: str
    actor: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ModelLine:
    """One strategy's model."""

    version: str | None
    """Of the champion; None: there is none."""
    as_of: date | None
    changed_at: datetime | None
    trained: TrainedLine | None
    """The champion's training; None: no run of the ledger trained it."""
    newest: TrainedLine | None
    decision: DecisionLine | None


class ModelList(LedgerPart):
    """What a list of models shows."""

    def model_lines(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, ModelLine]:
        """By strategy; four queries."""
        if not strategies:
            return {}
        asked = as_rows(self.database, strategies)
        champions = (
            select(tables.champion)
            .select_from(asked)
            .join(tables.champion, and_(_champion.namespace == namespace, _champion.strategy == asked.c.strategy))
        )
        with self.database.reading() as connection:
            champion_of = {row.strategy: row for row in connection.execute(champions)}
            wanted = [(name, row.version) for name, row in champion_of.items() if row.version is not None]
            trained = {
                line.strategy: line
                for line in map(_trained_of, connection.execute(self._training_of(wanted, namespace)) if wanted else ())
            }
            newest = {line.strategy: line for line in map(_trained_of, connection.execute(_newest(asked, namespace)))}
            decision_of = {row.strategy: _decision_of(row) for row in connection.execute(_decided(asked, namespace))}
        return {
            name: _model_line(champion_of.get(name), trained.get(name), newest.get(name), decision_of.get(name))
            for name in strategies
        }

    def version_lines(
        self,
        strategy: str = "",
        *,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
        namespace: str = LIVE,
    ) -> list[TrainedLine]:
        """Versions of a strategy or of all, newest first; `before`: time and run of the page before's last line."""
        query = _trainings(namespace)
        if strategy:
            query = query.where(_stage.strategy == strategy)
        if before is not None:
            place = tuple_(literal(before[0], Timestamp()), literal(before[1]))
            query = query.where(tuple_(_stage.finished_at, _stage.run_id) < place)
        query = query.order_by(_stage.finished_at.desc(), _stage.run_id.desc()).limit(limit)
        with self.database.reading() as connection:
            return [_trained_of(row) for row in connection.execute(query)]

    def version_names(self, strategy: str, *, namespace: str = LIVE) -> list[str]:
        """All versions that runs of a strategy trained, newest first."""
        version = _stage.result["version"].as_string()
        query = (
            select(version)
            .join(tables.run, _run.run_id == _stage.run_id)
            .where(
                _stage.strategy == strategy,
                _stage.stage == "train",
                _stage.state == "succeeded",
                _run.namespace == namespace,
            )
            .order_by(_stage.finished_at.desc())
        )
        with self.database.reading() as connection:
            return [name for name in connection.scalars(query) if name]

    def trained(self, strategy: str, versions: Sequence[str], *, namespace: str = LIVE) -> dict[str, TrainedLine]:
        """The trainings of some versions, by version; those that no run trained are left out."""
        if not versions:
            return {}
        query = self._training_of([(strategy, version) for version in versions], namespace)
        with self.database.reading() as connection:
            return {line.version: line for line in map(_trained_of, connection.execute(query))}

    def stages_decided(self, strategy: str, versions: Sequence[str], *, namespace: str = LIVE) -> dict[str, str]:
        """By version, the registry stage that its newest decision gave it; what nobody decided about is left out."""
        if not versions:
            return {}
        newest = (
            select(func.max(_promotion.id))
            .where(
                _promotion.namespace == namespace,
                _promotion.strategy == strategy,
                _promotion.version.in_(list(versions)),
            )
            .group_by(_promotion.version)
        )
        query = select(_promotion.version, _promotion.target_stage).where(_promotion.id.in_(newest))
        with self.database.reading() as connection:
            return {row.version: row.target_stage for row in connection.execute(query)}

    def _training_of(self, wanted: Sequence[tuple[str, str]], namespace: str) -> Select[*tuple[Any, ...]]:
        """The newest training of each strategy's version."""
        pairs = pairs_as_rows(self.database, wanted, "strategy", "version")
        inner = tables.stage.alias("found")
        found = (
            select(inner.c.run_id)
            .where(
                inner.c.strategy == pairs.c.strategy,
                inner.c.stage == "train",
                inner.c.state == "succeeded",
                inner.c.result["version"].as_string() == pairs.c.version,
            )
            .order_by(inner.c.finished_at.desc())
            .limit(1)
            .correlate(pairs)
            .scalar_subquery()
        )
        return _trainings(namespace).join(pairs, and_(_stage.run_id == found, _stage.strategy == pairs.c.strategy))


def _trainings(namespace: str) -> Select[*tuple[Any, ...]]:
    """Stages that trained. Of the result only what a line shows is read."""
    result = _stage.result
    return (
        select(
            _stage.run_id,
            _stage.strategy,
            _stage.started_at,
            _stage.finished_at,
            _run.as_of,
            result["version"].as_string().label("version"),
            result["metrics"].label("metrics"),
            result["mlflow_run_id"].as_string().label("registry_run_id"),
            result["train_end"].as_string().label("train_end"),
            result["holdout_start"].as_string().label("holdout_start"),
            result["holdout_end"].as_string().label("holdout_end"),
            result["n_train"].as_integer().label("n_train"),
            _run.params["incremental"].as_boolean().label("incremental"),
            _run.params["tune"].as_integer().label("tune"),
        )
        .select_from(tables.stage)
        .join(tables.run, _run.run_id == _stage.run_id)
        .where(_stage.stage == "train", _stage.state == "succeeded", _run.namespace == namespace)
    )


def _newest(asked: CTE, namespace: str) -> Select[*tuple[Any, ...]]:
    """The newest training of each strategy."""
    inner = tables.stage.alias("found")
    owner = tables.run.alias("owner")
    found = (
        select(inner.c.run_id)
        .join(owner, owner.c.run_id == inner.c.run_id)
        .where(
            inner.c.strategy == asked.c.strategy,
            inner.c.stage == "train",
            inner.c.state == "succeeded",
            owner.c.namespace == namespace,
        )
        .order_by(inner.c.finished_at.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )
    return _trainings(namespace).join(asked, _stage.run_id == found)


def _decided(asked: CTE, namespace: str) -> Select[*tuple[Any, ...]]:
    newest = (
        select(_promotion.id)
        .where(_promotion.namespace == namespace, _promotion.strategy == asked.c.strategy)
        .order_by(_promotion.id.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )
    columns = (
        _promotion.run_id,
        _promotion.strategy,
        _promotion.version,
        _promotion.decision,
        _promotion.actor,
        _promotion.created_at,
    )
    return select(*columns).select_from(asked).join(tables.promotion, _promotion.id == newest)


def _model_line(
    champion: AnyRow | None, trained: TrainedLine | None, newest: TrainedLine | None, decision: DecisionLine | None
) -> ModelLine:
    return ModelLine(
        version=champion.version if champion else None,
        as_of=champion.as_of if champion and champion.version else None,
        changed_at=champion.changed_at if champion else None,
        trained=trained,
        newest=newest,
        decision=decision,
    )


def _decision_of(row: AnyRow) -> DecisionLine:
    return DecisionLine(
        run_id=row.run_id, version=row.version, decision=row.decision, actor=row.actor, created_at=row.created_at
    )


def _trained_of(row: AnyRow) -> TrainedLine:
    return TrainedLine(
        run_id=row.run_id,
        strategy=row.strategy,
        version=row.version or "",
        trained_at=row.finished_at,
        as_of=row.as_of,
        metrics=row.metrics or {},
        registry_run_id=row.registry_run_id,
        train_end=row.train_end,
        holdout_start=row.holdout_start,
        holdout_end=row.holdout_end,
        n_train=row.n_train,
        run_s=(row.finished_at - row.started_at).total_seconds() if row.started_at else 0.0,
        is_incremental=bool(row.incremental),
        n_trials=int(row.tune or 0),
    )
