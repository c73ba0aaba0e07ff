"""Which version is in production, and every decision that made it so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from mlops.domain.errors import ChampionMoved
from mlops.domain.experiments.decision import Action
from mlops.domain.promotion.records import Champion, EarlierDecision, ModelIdentity, Promotion, PromotionDecision
from mlops.domain.records import LIVE, Grant
from mlops.ledger import tables
from mlops.ledger.auditing import add_audit_line
from mlops.ledger.columns import AnyRow, mapped, now
from mlops.ledger.engine import Repository
from mlops.ledger.stages import held_by, lease_lost

_stage = tables.stage.c
_champion = tables.champion.c
_promotion = tables.promotion.c
_finding = tables.registry_finding.c
_experiment = tables.experiment.c
_file = tables.model_file.c

PRODUCTION = "Production"
ARCHIVED = "Archived"
_TESTED = ("promote", "keep", "inconclusive", "await_approval")
"""Decisions that came out of a comparison with the champion."""
_JUDGED = (*_TESTED, "refuse", "override")
"""Decisions that looked at the version's gates."""
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
            first = _promotion_where(connection, _promotion.run_id == grant.run_id)
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
        if decision.decision in _TESTED and champion.seq != decision.expected_seq:
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
            insertion = insert(tables.champion).values(**key, **values).on_conflict_do_nothing()
            return connection.execute(insertion.returning(_champion.seq)).one_or_none() is not None
        swap = update(tables.champion).where(_is(champion), _champion.seq == decision.expected_seq)
        return connection.execute(swap.values(values)).rowcount == 1

    def promotion_of(self, run_id: str) -> Promotion | None:
        """The decision of a run, or None."""
        with self.database.reading() as connection:
            return _promotion_where(connection, _promotion.run_id == run_id)

    def promotion(self, promotion_id: int) -> Promotion | None:
        """The decision of this id, or None."""
        with self.database.reading() as connection:
            return _promotion_where(connection, _promotion.id == promotion_id)

    def promotions(self, strategy: str | None = None, *, limit: int = 50, namespace: str = LIVE) -> list[Promotion]:
        """Newest first."""
        query = select(tables.promotion).where(_promotion.namespace == namespace)
        if strategy is not None:
            query = query.where(_promotion.strategy == strategy)
        with self.database.reading() as connection:
            return [_promotion_of(row) for row in connection.execute(query.order_by(_promotion.id.desc()).limit(limit))]

    def newest_decision(
        self, strategy: str, version: str, identity: ModelIdentity, *, judged: bool = False, namespace: str = LIVE
    ) -> Promotion | None:
        """The last decision about a version, whoever made it, or the last that looked at its gates; None: none.

        Decisions about another model that had the same number are not looked at.
        """
        query = select(tables.promotion).where(
            _promotion.namespace == namespace,
            _promotion.strategy == strategy,
            _promotion.version == version,
            or_(_promotion.model_sha256.is_(None), _is_or_unknown(identity.sha256, _promotion.model_sha256)),
            or_(_promotion.made_by.is_(None), _is_or_unknown(identity.made_by, _promotion.made_by)),
        )
        if judged:
            query = query.where(_promotion.decision.in_(_JUDGED))
        with self.database.reading() as connection:
            row = connection.execute(query.order_by(_promotion.id.desc()).limit(1)).one_or_none()
        return None if row is None else _promotion_of(row)

    def former_champions(self, strategy: str, *, namespace: str = LIVE) -> list[Promotion]:
        """What can be rolled back to: the last promotion of each model that was champion, newest first, without the
        present champion.
        """
        query = (
            select(tables.promotion)
            .where(
                _promotion.namespace == namespace,
                _promotion.strategy == strategy,
                _promotion.target_stage == PRODUCTION,
                # a decision about the champion that kept it in place made nobody champion
                _promotion.decision.not_in(["keep", "inconclusive", "refuse", "await_approval"]),
            )
            .order_by(_promotion.id.desc())
        )
        with self.database.reading() as connection:
            champion = champion_now(connection, namespace, strategy)
            rows = [_promotion_of(row) for row in connection.execute(query)]
        found: dict[tuple[str | None, ...], Promotion] = {}
        for one in rows:
            is_known = one.identity.sha256 is not None and one.identity.made_by is not None
            # By its model alone where that is known: a champion that was restored has two numbers.
            key = (one.identity.sha256, one.identity.made_by) if is_known else (one.version, *_parts(one.identity))
            is_champion = (
                one.identity == champion.identity if is_known else champion.is_version(one.version, one.identity)
            )
            if not is_champion:
                found.setdefault(key, one)
        return list(found.values())

    def champions_identities(self, *, keep_former: int) -> tuple[set[ModelIdentity], set[ModelIdentity]]:
        """All models that were ever champions or tried beside one; and those of them that are champions, or among the
        newest former ones, or are tried now.
        """
        query = (
            select(_promotion.namespace, _promotion.strategy, _promotion.model_sha256, _promotion.made_by)
            .where(_promotion.target_stage == PRODUCTION, _promotion.model_sha256.is_not(None))
            .order_by(_promotion.id.desc())
        )
        tried = select(_experiment.challenger_sha256, _experiment.challenger_made_by, _experiment.ended_at)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
            challengers = {
                (ModelIdentity(sha256=row.challenger_sha256, made_by=row.challenger_made_by), row.ended_at is None)
                for row in connection.execute(tried)
            }
        of_strategy: dict[tuple[str, str], dict[ModelIdentity, None]] = {}
        for row in rows:
            identity = ModelIdentity(sha256=row.model_sha256, made_by=row.made_by)
            of_strategy.setdefault((row.namespace, row.strategy), {}).setdefault(identity)
        known = {one for found in of_strategy.values() for one in found}
        wanted = {one for found in of_strategy.values() for one in list(found)[: keep_former + 1]}
        return known | {one for one, _ in challengers}, wanted | {one for one, runs in challengers if runs}

    def identify(self, promotion_id: int, identity: ModelIdentity) -> None:
        """Note what the version of a decision is known by, where an earlier version of this system did not."""
        with self.database.transaction("ledger.identify") as connection:
            connection.execute(select(func.mlops_identify_promotion(promotion_id, identity.sha256, identity.made_by)))

    def decisions_since(self, strategy: str, *, since: date, namespace: str = LIVE) -> tuple[EarlierDecision, ...]:
        """What decisions dated `since` or later came to in a comparison with a champion, oldest first.

        A refused version was stopped by its gates; where it was compared as well, that comparison counts.
        """
        evidence = _promotion.evidence
        day = func.coalesce(_promotion.as_of, func.date(_promotion.created_at))
        level = evidence["error"]["level"]
        query = (
            select(
                _promotion.version,
                _promotion.previous_version,
                _promotion.decision,
                day.label("day"),
                evidence["model_sha256"].as_string().label("model_sha256"),
                evidence["common"]["data_fingerprint"].as_string().label("rows"),
                evidence["common"]["predictions_challenger"].as_string().label("predictions"),
                evidence["test"]["metric"].as_string().label("metric"),
                evidence["test"]["margin"].as_float().label("margin"),
                level.as_float().label("level"),
                evidence["error"]["spends"].as_float().label("spends"),
                evidence["missed_gates"].label("missed"),
            )
            .where(
                _promotion.namespace == namespace,
                _promotion.strategy == strategy,
                or_(_promotion.decision.in_(_TESTED), level.as_float().is_not(None)),
                day >= since,
            )
            .order_by(_promotion.id)
        )
        with self.database.reading() as connection:
            return tuple(_earlier(row) for row in connection.execute(query))

    def unprojected(self, *, limit: int = 50) -> list[Promotion]:
        """Live promotions that the registry does not show yet, oldest first.

        One that a later decision about the same version overtook is left out. One to Production that is not the
        champion any more is given as `Archived`, so that a late repair never shows an old champion.
        """
        later = tables.promotion.alias()
        overtaken = exists().where(
            later.c.namespace == _promotion.namespace,
            later.c.strategy == _promotion.strategy,
            same_model(later.c, _promotion),
            later.c.id > _promotion.id,
        )
        made = tables.promotion.alias()
        is_champion = exists().where(
            _champion.namespace == _promotion.namespace,
            _champion.strategy == _promotion.strategy,
            _champion.version == _promotion.version,
            made.c.id == _champion.promotion_id,
            same_model(made.c, _promotion),
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


def _is_or_unknown(wanted: str | None, column: ColumnElement[str]) -> ColumnElement[bool]:
    return true() if wanted is None else column == wanted


def _parts(identity: ModelIdentity) -> tuple[str | None, str | None]:
    return identity.sha256, identity.made_by


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


def _promotion_where(connection: Connection, condition: ColumnElement[bool]) -> Promotion | None:
    row = connection.execute(select(tables.promotion).where(condition)).one_or_none()
    return None if row is None else _promotion_of(row)


def _earlier(row: AnyRow) -> EarlierDecision:
    day = row.day if isinstance(row.day, date) else date.fromisoformat(str(row.day)[:10])
    return EarlierDecision(
        version=row.version,
        champion=row.previous_version,
        decision=row.decision,
        day=day,
        model_sha256=row.model_sha256,
        rows=row.rows,
        predictions=row.predictions,
        metric=row.metric,
        margin=row.margin,
        level=row.level,
        spends=row.spends or 0.0,
        missed=tuple(str(gate["metric"]) for gate in row.missed or ()),
    )


def _promotion_of(row: AnyRow) -> Promotion:
    identity = ModelIdentity(sha256=row.model_sha256, made_by=row.made_by)
    return mapped(Promotion, row, reasons=tuple(row.reasons), identity=identity)
