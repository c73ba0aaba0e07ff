"""Which version is in production, and every decision that made it so."""

from __future__ import annotations

from datetime import date

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, insert, or_, select, update

from mlops.errors import ChampionMoved
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, now
from mlops.ledger.part import LedgerPart
from mlops.ledger.records import LIVE, Champion, Grant, Promotion, PromotionDecision
from mlops.ledger.stages import held_by, lease_lost

_stage = tables.stage.c
_champion = tables.champion.c
_promotion = tables.promotion.c

PRODUCTION = "Production"
ARCHIVED = "Archived"
TESTED = ("promote", "keep", "inconclusive", "await_approval")
"""Decisions that came out of a comparison with the champion."""


class Champions(LedgerPart):
    """The champion by compare-and-swap, the decisions append-only, the registry as their projection."""

    def champion(self, strategy: str, *, namespace: str = LIVE) -> Champion:
        """The version in production; `seq` 0 and `version` None where there never was one."""
        with self.database.reading() as connection:
            return _champion_now(connection, namespace, strategy)

    def decide(self, grant: Grant, decision: PromotionDecision) -> Promotion:
        """Commit a decision, fenced by the grant; where it promotes, swap the champion.

        One that came out of a comparison is committed only if the champion's seq is as expected: what was compared
        with another champion says nothing about this one. A refusal is the version's own. A run's second call returns
        its first decision. A decision about the champion itself that does not promote leaves it in Production:
        refusing a version never empties the place.
        Raises LeaseLost, ChampionMoved.
        """
        with self.database.transaction("ledger.decide") as connection:
            # the lock keeps a reclaim out until this commits; nothing here waits for HTTP
            fenced = connection.execute(select(_stage.token).where(*held_by(grant)).with_for_update()).one_or_none()
            if fenced is None:
                raise lease_lost(grant)
            first = _promotion_where(connection, _promotion.run_id == grant.run_id)
            if first is not None:
                return first
            champion = _champion_now(connection, grant.namespace, grant.strategy)
            if decision.decision in TESTED and champion.seq != decision.expected_seq:
                raise _moved(champion, decision)
            keeps = decision.target_stage != PRODUCTION and decision.version == champion.version
            return self._commit(
                connection,
                champion,
                decision,
                run_id=grant.run_id,
                target_stage=PRODUCTION if keeps else decision.target_stage,
                version=decision.version if decision.target_stage == PRODUCTION else champion.version,
            )

    def record_transition(self, strategy: str, decision: PromotionDecision, *, namespace: str = LIVE) -> Promotion:
        """The same without a run: a transition asked for by a person or seen in the registry.

        The champion moved to any other stage leaves the place empty. Raises ChampionMoved.
        """
        with self.database.transaction("ledger.record_transition") as connection:
            champion = _champion_now(connection, namespace, strategy)
            if decision.target_stage == PRODUCTION:
                version: str | None = decision.version
            else:
                version = None if decision.version == champion.version else champion.version
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
    ) -> Promotion:
        """Insert the decision and, where the champion changes, swap it. `version`: the champion afterwards."""
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
            )
            .returning(tables.promotion)
        ).one()
        if swaps and not self._swapped(connection, champion, decision, version=version, promotion_id=row.id):
            raise _moved(champion, decision)
        return _promotion_of(row)

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
            insertion = self.database.insert(tables.champion).values(**key, **values).on_conflict_do_nothing()
            return connection.execute(insertion.returning(_champion.seq)).one_or_none() is not None
        swap = update(tables.champion).where(_is(champion), _champion.seq == decision.expected_seq)
        return connection.execute(swap.values(values)).rowcount == 1

    def promotion_of(self, run_id: str) -> Promotion | None:
        """The decision of a run, or None."""
        with self.database.reading() as connection:
            return _promotion_where(connection, _promotion.run_id == run_id)

    def promotions(self, strategy: str | None = None, *, limit: int = 50, namespace: str = LIVE) -> list[Promotion]:
        """Newest first."""
        query = select(tables.promotion).where(_promotion.namespace == namespace)
        if strategy is not None:
            query = query.where(_promotion.strategy == strategy)
        with self.database.reading() as connection:
            return [_promotion_of(row) for row in connection.execute(query.order_by(_promotion.id.desc()).limit(limit))]

    def newest_decision(self, strategy: str, version: str, *, namespace: str = LIVE) -> Promotion | None:
        """The last decision about a version, whoever made it; None where there is none."""
        query = (
            select(tables.promotion)
            .where(_promotion.namespace == namespace, _promotion.strategy == strategy, _promotion.version == version)
            .order_by(_promotion.id.desc())
            .limit(1)
        )
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _promotion_of(row)

    def challengers_of(
        self, strategy: str, champion: str, *, since: date, other_than: str, namespace: str = LIVE
    ) -> tuple[str, ...]:
        """Versions that were tested against this champion, by decisions dated `since` or later; oldest first.

        A version that was tested twice counts once. A refused one was stopped by its gates and is none of them.
        """
        day = func.coalesce(_promotion.as_of, func.date(_promotion.created_at))
        query = (
            select(_promotion.version)
            .where(
                _promotion.namespace == namespace,
                _promotion.strategy == strategy,
                _promotion.previous_version == champion,
                _promotion.version.not_in([champion, other_than]),
                _promotion.decision.in_(TESTED),
                day >= since,
            )
            .group_by(_promotion.version)
            .order_by(func.min(_promotion.id))
        )
        with self.database.reading() as connection:
            return tuple(connection.scalars(query))

    def unprojected(self, *, limit: int = 50) -> list[Promotion]:
        """Live promotions that the registry does not show yet, oldest first.

        One that a later decision about the same version overtook is left out. One to Production that is not the
        champion any more is given as `Archived`, so that a late repair never shows an old champion.
        """
        later = tables.promotion.alias()
        overtaken = exists().where(
            later.c.namespace == _promotion.namespace,
            later.c.strategy == _promotion.strategy,
            later.c.version == _promotion.version,
            later.c.id > _promotion.id,
        )
        is_champion = exists().where(
            _champion.namespace == _promotion.namespace,
            _champion.strategy == _promotion.strategy,
            _champion.version == _promotion.version,
        )
        target = case(
            (and_(_promotion.target_stage == PRODUCTION, ~is_champion), ARCHIVED),
            else_=_promotion.target_stage,
        )
        columns = [column for column in _promotion if column.name != "target_stage"]
        query = (
            select(*columns, target.label("target_stage"))
            .where(_promotion.projected_at.is_(None), _promotion.namespace == LIVE, ~overtaken)
            .order_by(_promotion.id)
            .limit(limit)
        )
        with self.database.reading() as connection:
            return [_promotion_of(row) for row in connection.execute(query)]

    def projected(self, promotion_id: int) -> None:
        """The registry was seen to agree; with it, all earlier decisions about the same version are done."""
        this = tables.promotion.alias()
        same_version = exists().where(
            this.c.id == promotion_id,
            this.c.namespace == _promotion.namespace,
            this.c.strategy == _promotion.strategy,
            this.c.version == _promotion.version,
        )
        with self.database.transaction("ledger.projected") as connection:
            connection.execute(
                update(tables.promotion)
                .where(or_(_promotion.id == promotion_id, and_(_promotion.id < promotion_id, same_version)))
                .where(_promotion.projected_at.is_(None))
                .values(projected_at=now())
            )


def _moved(champion: Champion, decision: PromotionDecision) -> ChampionMoved:
    return ChampionMoved(
        f"the champion of {champion.strategy!r} was compared with at seq {decision.expected_seq}; "
        f"it is {champion.version or 'none'} at seq {champion.seq} or later now; compare again"
    )


def _is(champion: Champion) -> ColumnElement[bool]:
    return and_(_champion.namespace == champion.namespace, _champion.strategy == champion.strategy)


def _champion_now(connection: Connection, namespace: str, strategy: str) -> Champion:
    row = connection.execute(
        select(tables.champion).where(_champion.namespace == namespace, _champion.strategy == strategy)
    ).one_or_none()
    if row is None:
        return Champion(namespace=namespace, strategy=strategy, version=None, seq=0, as_of=None, promotion_id=None)
    return Champion(
        namespace=namespace,
        strategy=strategy,
        version=row.version,
        seq=row.seq,
        as_of=row.as_of,
        promotion_id=row.promotion_id,
    )


def _promotion_where(connection: Connection, condition: ColumnElement[bool]) -> Promotion | None:
    row = connection.execute(select(tables.promotion).where(condition)).one_or_none()
    return None if row is None else _promotion_of(row)


def _promotion_of(row: AnyRow) -> Promotion:
    return Promotion(
        id=row.id,
        run_id=row.run_id,
        namespace=row.namespace,
        strategy=row.strategy,
        model_name=row.model_name,
        version=row.version,
        decision=row.decision,
        reasons=tuple(row.reasons),
        evidence=row.evidence,
        evidence_digest=row.evidence_digest,
        actor=row.actor,
        target_stage=row.target_stage,
        seq=row.seq,
        previous_version=row.previous_version,
        created_at=row.created_at,
        projected_at=row.projected_at,
    )
