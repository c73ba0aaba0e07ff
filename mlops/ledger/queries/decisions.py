"""Which decisions were made about a strategy's versions: those of a run, of a version, of former champions.

`mlops.ledger.champions` makes them.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import ColumnElement, and_, case, exists, func, or_, select, true

from mlops.domain.promotion.records import EarlierDecision, ModelIdentity, Promotion
from mlops.domain.records import LIVE
from mlops.ledger import tables
from mlops.ledger.champions import PRODUCTION, TESTED, champion_now, promotion_of, promotion_where, same_model
from mlops.ledger.columns import AnyRow
from mlops.ledger.engine import Repository

_champion = tables.champion.c
_promotion = tables.promotion.c
_experiment = tables.experiment.c

ARCHIVED = "Archived"
_JUDGED = (*TESTED, "refuse", "override")
"""Decisions that looked at the version's gates."""


class Decisions(Repository):
    """The decisions about versions, newest first where nothing else is said."""

    def promotion_of(self, run_id: str) -> Promotion | None:
        """The decision of a run, or None."""
        with self.database.reading() as connection:
            return promotion_where(connection, _promotion.run_id == run_id)

    def promotion(self, promotion_id: int) -> Promotion | None:
        """The decision of this id, or None."""
        with self.database.reading() as connection:
            return promotion_where(connection, _promotion.id == promotion_id)

    def promotions(self, strategy: str | None = None, *, limit: int = 50, namespace: str = LIVE) -> list[Promotion]:
        """Newest first."""
        query = select(tables.promotion).where(_promotion.namespace == namespace)
        if strategy is not None:
            query = query.where(_promotion.strategy == strategy)
        with self.database.reading() as connection:
            return [promotion_of(row) for row in connection.execute(query.order_by(_promotion.id.desc()).limit(limit))]

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
        return None if row is None else promotion_of(row)

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
            rows = [promotion_of(row) for row in connection.execute(query)]
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
                or_(_promotion.decision.in_(TESTED), level.as_float().is_not(None)),
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
            return [promotion_of(row) for row in connection.execute(query)]


def _is_or_unknown(wanted: str | None, column: ColumnElement[str]) -> ColumnElement[bool]:
    return true() if wanted is None else column == wanted


def _parts(identity: ModelIdentity) -> tuple[str | None, str | None]:
    return identity.sha256, identity.made_by


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
