"""Models and their versions as the ledger knows them, in a few queries however many strategies and runs there are.

What MLflow alone knows (stages that were set by hand, versions that were registered elsewhere) is not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Select, String, column, func, select, values

from mlops.domain.records import LIVE
from mlops.ledger import tables
from mlops.ledger.champions import champion_date
from mlops.ledger.columns import AnyRow, columns_of, mapped, older_than
from mlops.ledger.engine import Repository

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
    """On the dates that its training held out; of a version that was refitted, its judged twin's"""
    registry_run_id: str | None
    train_end: str | None
    twin_train_end: str | None
    """None: it was judged itself"""
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
    """As of when the champion was trained."""
    changed_at: datetime | None
    made_by: str | None
    """The run that made the champion; None: not recorded, or none."""
    trained: TrainedLine | None
    """The champion's training; None: no run of the ledger trained it."""
    newest: TrainedLine | None
    decision: DecisionLine | None


@dataclass(frozen=True, kw_only=True)
class ModelKey:
    """As much of a model as a long list is sorted and filtered by; cheap for all strategies at once."""

    version: str | None
    """Of the champion; None: there is none."""
    as_of: date | None
    """As of when the champion was trained."""
    changed_at: datetime | None
    trained_at: datetime | None
    """End of the newest training."""
    decision_id: int | None
    """Of the newest decision; grows with time."""


class ModelList(Repository):
    """What a list of models shows."""

    def model_keys(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, ModelKey]:
        """By strategy; three queries that read indexes. A replay's trainings count too."""
        trainings = (
            select(_stage.strategy, func.max(_stage.finished_at).label("at"))
            .where(_stage.stage == "train", _stage.state == "succeeded")
            .group_by(_stage.strategy)
        )
        decisions = (
            select(_promotion.strategy, func.max(_promotion.id).label("id"))
            .where(_promotion.namespace == namespace)
            .group_by(_promotion.strategy)
        )
        with self.database.reading() as connection:
            champions = {row.strategy: row for row in connection.execute(_champions(namespace))}
            trained = {row.strategy: row.at for row in connection.execute(trainings)}
            decided = {row.strategy: row.id for row in connection.execute(decisions)}
        found = {}
        for name in strategies:
            champion = champions.get(name)
            found[name] = ModelKey(
                version=champion.version if champion else None,
                as_of=champion.as_of if champion and champion.version else None,
                changed_at=champion.changed_at if champion else None,
                trained_at=trained.get(name),
                decision_id=decided.get(name),
            )
        return found

    def model_lines(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, ModelLine]:
        """By strategy, in a handful of queries; each row is looked up by its key, so that few strategies are quick."""
        if not strategies:
            return {}
        with self.database.reading() as connection:
            champions = _champions(namespace).where(_champion.strategy.in_(list(strategies)))
            champion_of = {row.strategy: row for row in connection.execute(champions)}
            newest = _looked_up(connection, _newest_ids(strategies, namespace), namespace)
            makers = {name: row.made_by or row.run_id for name, row in champion_of.items() if row.version is not None}
            trained = _looked_up(connection, {name: run_id for name, run_id in makers.items() if run_id}, namespace)
            # A champion that was restored to a registry has another number than its training gave it.
            trained = {
                name: replace(line, version=champion_of[name].version) if champion_of[name].made_by else line
                for name, line in trained.items()
            }
            # Promoted by a run that did not train it, e.g. a rollback.
            missing = [
                (name, row.version)
                for name, row in champion_of.items()
                if row.version is not None and (name not in trained or trained[name].version != row.version)
            ]
            for name, _ in missing:
                trained.pop(name, None)
            if missing:
                trained |= _looked_up(connection, _ids_of_versions(missing), namespace)
            decision_of = _newest_decisions(connection, strategies, namespace)
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
            query = query.where(older_than(before, _stage.finished_at, _stage.run_id))
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
        with self.database.reading() as connection:
            ids = [row.run_id for row in connection.execute(_ids_of_versions([(strategy, one) for one in versions]))]
            query = _trainings(namespace).where(_stage.run_id.in_([run_id for run_id in ids if run_id]))
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
            result["twin", "train_end"].as_string().label("twin_train_end"),
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


def _champions(namespace: str) -> Select[*tuple[Any, ...]]:
    """With the run that made each the champion."""
    return (
        select(
            _champion.strategy,
            _champion.version,
            champion_date.label("as_of"),
            _champion.changed_at,
            _promotion.run_id,
            _promotion.made_by,
        )
        .outerjoin(tables.promotion, _promotion.id == _champion.promotion_id)
        .where(_champion.namespace == namespace)
    )


def _newest_ids(strategies: Sequence[str], namespace: str) -> Select[*tuple[Any, ...]]:
    """The run of each strategy's newest training. Ids alone: joined with them, whole tables would be read."""
    asked = values(column("strategy", String), name="asked").data([(name,) for name in strategies]).cte("asked")
    found = tables.stage.alias("found")
    newest = (
        select(found.c.run_id)
        .join(tables.run, _run.run_id == found.c.run_id)
        .where(
            found.c.strategy == asked.c.strategy,
            found.c.stage == "train",
            found.c.state == "succeeded",
            _run.namespace == namespace,
        )
        .order_by(found.c.finished_at.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )
    return select(asked.c.strategy, newest.label("run_id"))


def _ids_of_versions(wanted: Sequence[tuple[str, str]]) -> Select[*tuple[Any, ...]]:
    """The run that trained each strategy's version; a version is registered once, in whatever namespace."""
    pairs = (
        values(column("strategy", String), column("version", String), name="wanted").data(list(wanted)).cte("wanted")
    )
    found = tables.stage.alias("found")
    newest = (
        select(found.c.run_id)
        .where(
            found.c.strategy == pairs.c.strategy,
            found.c.stage == "train",
            found.c.state == "succeeded",
            found.c.result["version"].as_string() == pairs.c.version,
        )
        .order_by(found.c.finished_at.desc())
        .limit(1)
        .correlate(pairs)
        .scalar_subquery()
    )
    return select(pairs.c.strategy, newest.label("run_id"))


def _looked_up(
    connection: Connection, runs: Mapping[str, str] | Select[*tuple[Any, ...]], namespace: str
) -> dict[str, TrainedLine]:
    """The trainings of runs, by strategy; runs : strategy → run id, or the query that gives both"""
    if isinstance(runs, Select):
        runs = {row.strategy: row.run_id for row in connection.execute(runs)}
    ids = [run_id for run_id in runs.values() if run_id is not None]
    if not ids:
        return {}
    query = _trainings(namespace).where(_stage.run_id.in_(ids))
    return {line.strategy: line for line in map(_trained_of, connection.execute(query))}


def _newest_decisions(connection: Connection, strategies: Sequence[str], namespace: str) -> dict[str, DecisionLine]:
    asked = values(column("strategy", String), name="asked").data([(name,) for name in strategies]).cte("asked")
    newest = (
        select(func.max(_promotion.id))
        .where(_promotion.namespace == namespace, _promotion.strategy == asked.c.strategy)
        .correlate(asked)
        .scalar_subquery()
    )
    ids = [found for found in connection.scalars(select(newest).select_from(asked)) if found is not None]
    if not ids:
        return {}
    query = select(_promotion.strategy, *columns_of(DecisionLine, _promotion)).where(_promotion.id.in_(ids))
    return {row.strategy: mapped(DecisionLine, row) for row in connection.execute(query)}


def _model_line(
    champion: AnyRow | None, trained: TrainedLine | None, newest: TrainedLine | None, decision: DecisionLine | None
) -> ModelLine:
    return ModelLine(
        version=champion.version if champion else None,
        as_of=champion.as_of if champion and champion.version else None,
        changed_at=champion.changed_at if champion else None,
        made_by=champion.made_by if champion and champion.version else None,
        trained=trained,
        newest=newest,
        decision=decision,
    )


def _trained_of(row: AnyRow) -> TrainedLine:
    return mapped(
        TrainedLine,
        row,
        version=row.version or "",
        trained_at=row.finished_at,
        metrics=row.metrics or {},
        run_s=(row.finished_at - row.started_at).total_seconds() if row.started_at else 0.0,
        is_incremental=bool(row.incremental),
        n_trials=int(row.tune or 0),
    )
