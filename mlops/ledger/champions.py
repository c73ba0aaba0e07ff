"""Which version is in production, and every decision that made it so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from mlops.domain.errors import ChampionMoved
from mlops.domain.experiments.decision import Action
from mlops.domain.promotion.records import Champion, ModelIdentity, Promotion, PromotionDecision
from mlops.domain.records import LIVE, Grant
from mlops.ledger import tables
from mlops.ledger.auditing import add_audit_line
from mlops.ledger.columns import AnyRow, mapped, now
from mlops.ledger.engine import Repository
from mlops.ledger.stages import held_by, lease_lost

_stage = tables.stage.c
_champion = tables.champion.c
_promotion = tables.promotion.c
_experiment = tables.experiment.c

PRODUCTION = "Production"
TESTED = ("promote", "keep", "inconclusive", "await_approval")
"""Decisions that came out of a comparison with the champion."""
CHAMPION_COLUMNS = (
    _champion.version,
    _champion.seq,
    _champion.as_of,
    _champion.promotion_id,
    _promotion.model_sha256,
    _promotion.made_by,
    _promotion.trained_as_of,
)
"""What `champion_of` reads, of a champion joined with its promotion."""
CHAMPION_AND_PROMOTION = tables.champion.outerjoin(
    tables.promotion, and_(_promotion.id == _champion.promotion_id, _promotion.version == _champion.version)
)
champion_date = func.coalesce(_promotion.trained_as_of, _champion.as_of)
"""As of when the champion was trained, of a champion joined with its promotion; the place's date where that is not
recorded."""


class Champions(Repository):
    """The champion by compare-and-swap, the decisions append-only, the registry as their projection."""

    def champion(self, strategy: str, *, namespace: str = LIVE) -> Champion:
        """The version in production; `seq` 0 and `version` None where there never was one."""
        with self.database.reading() as connection:
            return champion_now(connection, namespace, strategy)

    def decide(self, grant: Grant, decision: PromotionDecision) -> Promotion:
        """Commit a decision, fenced by the grant; where it promotes, swap the champion.

        One that came out of a comparison is committed only if the champion's seq is as expected: what was compared
        with another champion says nothing about this one. A refusal is the version's own. A run's second call returns
        its first decision. A decision about the champion itself that does not promote leaves it in Production:
        refusing a version never empties the place.
        Raises LeaseLost, ChampionMoved.
        """
        with self.database.transaction("ledger.decide") as connection:
            fence(connection, grant)
            first = promotion_where(connection, _promotion.run_id == grant.run_id)
            if first is not None:
                return first
            champion = champion_now(connection, grant.namespace, grant.strategy)
            return self._decide(connection, champion, decision, maker=grant.run_id, run_id=grant.run_id)

    def _decide(
        self,
        connection: Connection,
        champion: Champion,
        decision: PromotionDecision,
        *,
        maker: str,
        run_id: str | None,
        experiment_id: int | None = None,
    ) -> Promotion:
        """Commit a run's decision. maker : the run; run_id : None where it has decided something else already."""
        if decision.decision in TESTED and champion.seq != decision.expected_seq:
            raise _moved(champion, decision)
        is_new = champion.identity.made_by is None and decision.identity.made_by == maker
        is_champion = champion.is_version(decision.version, decision.identity) and not is_new
        keeps = decision.target_stage != PRODUCTION and is_champion
        return self._commit(
            connection,
            champion,
            decision,
            run_id=run_id,
            target_stage=PRODUCTION if keeps else decision.target_stage,
            version=decision.version if decision.target_stage == PRODUCTION else champion.version,
            experiment_id=experiment_id,
        )

    def record_transition(self, strategy: str, decision: PromotionDecision, *, namespace: str = LIVE) -> Promotion:
        """The same without a run: a transition asked for by a person or seen in the registry.

        The champion moved to any other stage leaves the place empty. Raises ChampionMoved.
        """
        with self.database.transaction("ledger.record_transition") as connection:
            champion = champion_now(connection, namespace, strategy)
            if decision.target_stage == PRODUCTION:
                version: str | None = decision.version
            else:
                is_champion = champion.is_version(decision.version, decision.identity)
                version = None if is_champion else champion.version
            return self._commit(
                connection,
                champion,
                decision,
                run_id=None,
                target_stage=decision.target_stage,
                version=version,
            )

    def _commit(
        self,
        connection: Connection,
        champion: Champion,
        decision: PromotionDecision,
        *,
        run_id: str | None,
        target_stage: str,
        version: str | None,
        experiment_id: int | None = None,
    ) -> Promotion:
        """Insert the decision and, where the champion changes, swap it, which ends the running experiment.

        version : the champion afterwards      experiment_id : the one that came to this decision, and ends otherwise
        """
        swaps = decision.target_stage == PRODUCTION or version != champion.version
        row = connection.execute(
            insert(tables.promotion)
            .values(
                run_id=run_id,
                namespace=champion.namespace,
                strategy=champion.strategy,
                model_name=decision.model_name,
                version=decision.version,
                decision=decision.decision,
                reasons=list(decision.reasons),
                evidence=decision.evidence,
                evidence_digest=decision.evidence_digest,
                actor=decision.actor,
                target_stage=target_stage,
                seq=decision.expected_seq + 1 if swaps else champion.seq,
                previous_version=champion.version,
                as_of=decision.as_of,
                created_at=now(),
                model_sha256=decision.identity.sha256,
                made_by=decision.identity.made_by,
                trained_as_of=decision.trained_as_of,
            )
            .returning(tables.promotion)
        ).one()
        if swaps and not self._swapped(connection, champion, decision, version=version, promotion_id=row.id):
            raise _moved(champion, decision)
        if swaps and experiment_id is None:
            _end_experiment_of(connection, champion, decision, version=version)
        if decision.decision == "override":
            _audit_override(connection, champion.strategy, decision, run_id)
        return promotion_of(row)

    def _swapped(
        self,
        connection: Connection,
        champion: Champion,
        decision: PromotionDecision,
        *,
        version: str | None,
        promotion_id: int,
    ) -> bool:
        values = {
            "version": version,
            "seq": decision.expected_seq + 1,
            "as_of": decision.as_of if version is not None else None,
            "promotion_id": promotion_id,
            "changed_at": now(),
        }
        key = {"namespace": champion.namespace, "strategy": champion.strategy}
        if decision.expected_seq == 0:  # there never was one: whoever inserts the row is first
            insertion = insert(tables.champion).values(**key, **values).on_conflict_do_nothing()
            return connection.execute(insertion.returning(_champion.seq)).one_or_none() is not None
        swap = update(tables.champion).where(_is(champion), _champion.seq == decision.expected_seq)
        return connection.execute(swap.values(values)).rowcount == 1

    def identify(self, promotion_id: int, identity: ModelIdentity) -> None:
        """Note what the version of a decision is known by, where an earlier version of this system did not."""
        with self.database.transaction("ledger.identify") as connection:
            connection.execute(select(func.mlops_identify_promotion(promotion_id, identity.sha256, identity.made_by)))

    def projected(self, promotion_id: int) -> None:
        """The registry was seen to agree; with it, all earlier decisions about the same version are done."""
        this = tables.promotion.alias()
        same_version = exists().where(
            this.c.id == promotion_id,
            this.c.namespace == _promotion.namespace,
            this.c.strategy == _promotion.strategy,
            same_model(this.c, _promotion),
        )
        with self.database.transaction("ledger.projected") as connection:
            connection.execute(
                update(tables.promotion)
                .where(or_(_promotion.id == promotion_id, and_(_promotion.id < promotion_id, same_version)))
                .where(_promotion.projected_at.is_(None))
                .values(projected_at=now())
            )


def fence(connection: Connection, grant: Grant) -> None:
    """Keep a reclaim of the stage out until this commits. Raises LeaseLost; nothing in between waits for HTTP."""
    if connection.execute(select(_stage.token).where(*held_by(grant)).with_for_update()).one_or_none() is None:
        raise lease_lost(grant)


def end_experiment(
    connection: Connection,
    which: ColumnElement[bool],
    end: Action,
    words: str,
    *,
    by: str,
    promotion_id: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> AnyRow | None:
    """End the experiment that `which` names and that runs, with its audit line; its row, None where none runs."""
    ending = update(tables.experiment).where(which, _experiment.ended_at.is_(None))
    ended = ending.values(ended_as=end, end_words=words, ended_by=by, ended_at=now(), promotion_id=promotion_id)
    row = connection.execute(ended.returning(tables.experiment)).one_or_none()
    if row is not None:
        told = {"experiment": row.id, "challenger": row.challenger_version, "reason": words, **(detail or {})}
        add_audit_line(connection, by, f"experiment.{end}", row.strategy, detail=told)
    return row


def _end_experiment_of(
    connection: Connection, champion: Champion, decision: PromotionDecision, *, version: str | None
) -> None:
    """End what compares with a champion that was swapped. The champion's row is locked before the experiment's."""
    became = "there is no champion" if version is None else f"version {version} is the champion"
    words = f"ended: {became} now, by {decision.actor} ({decision.decision})"
    which = and_(_experiment.namespace == champion.namespace, _experiment.strategy == champion.strategy)
    end_experiment(connection, which, Action.ABORT, words, by=decision.actor)


def _audit_override(connection: Connection, strategy: str, decision: PromotionDecision, run_id: str | None) -> None:
    """In the decision's own transaction: once, however often its stage is tried."""
    detail = {"version": decision.version, "run_id": run_id, "reasons": list(decision.reasons)}
    add_audit_line(connection, decision.actor, "model.override", strategy, detail=detail)


def _moved(champion: Champion, decision: PromotionDecision) -> ChampionMoved:
    return ChampionMoved(
        f"the champion of {champion.strategy!r} was compared with at seq {decision.expected_seq}; "
        f"it is {champion.version or 'none'} at seq {champion.seq} or later now; compare again"
    )


def _is(champion: Champion) -> ColumnElement[bool]:
    return and_(_champion.namespace == champion.namespace, _champion.strategy == champion.strategy)


def same_model(
    one: ReadOnlyColumnCollection[str, Any], other: ReadOnlyColumnCollection[str, Any]
) -> ColumnElement[bool]:
    """Whether two rows of promotions are about one model: the number, and the identity as far as it is known."""
    return and_(
        one.version == other.version,
        or_(one.model_sha256.is_(None), other.model_sha256.is_(None), one.model_sha256 == other.model_sha256),
        or_(one.made_by.is_(None), other.made_by.is_(None), one.made_by == other.made_by),
    )


def champion_now(connection: Connection, namespace: str, strategy: str, *, is_locked: bool = False) -> Champion:
    """The champion; `is_locked`: nobody swaps it until this commits."""
    query = select(*CHAMPION_COLUMNS).select_from(CHAMPION_AND_PROMOTION)
    query = query.where(_champion.namespace == namespace, _champion.strategy == strategy)
    if is_locked:
        query = query.with_for_update(of=tables.champion)
    return champion_of(connection.execute(query).one_or_none(), namespace, strategy)


def champion_of(row: AnyRow | None, namespace: str, strategy: str) -> Champion:
    """The champion of a row that has `CHAMPION_COLUMNS`; one of seq 0 where there is no row."""
    if row is None:
        return Champion(namespace=namespace, strategy=strategy, version=None, seq=0, as_of=None, promotion_id=None)
    return mapped(
        Champion,
        row,
        namespace=namespace,
        strategy=strategy,
        identity=ModelIdentity(sha256=row.model_sha256, made_by=row.made_by),
    )


def promotion_where(connection: Connection, condition: ColumnElement[bool]) -> Promotion | None:
    """The one decision for which this holds, or None."""
    row = connection.execute(select(tables.promotion).where(condition)).one_or_none()
    return None if row is None else promotion_of(row)


def promotion_of(row: AnyRow) -> Promotion:
    """The decision of a row of `mlops_promotion`."""
    identity = ModelIdentity(sha256=row.model_sha256, made_by=row.made_by)
    return mapped(Promotion, row, reasons=tuple(row.reasons), identity=identity)
