"""Experiments, their daily looks, and what whoever serves has answered.

Whoever writes two of them locks in this order: the stage, the champion, the experiment. So a champion that is swapped
beside a look is seen by it, or waits for it, and neither waits for the other for ever.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from functools import cache
from typing import Any, Literal

import structlog
from pydantic import TypeAdapter
from sqlalchemy import Connection, and_, bindparam, func, literal_column, select, type_coerce, update
from sqlalchemy.dialects.postgresql import array, distinct_on, insert

from mlops.domain.errors import ChampionMoved, ExperimentEnded, ExperimentNotFound, ExperimentRunning, InvalidTransition
from mlops.domain.experiments.decision import ENDS, Action, Guardrail, Mode
from mlops.domain.experiments.records import (
    LATENCY_BOUNDS_MS,
    AnswerCount,
    Experiment,
    ExperimentPlan,
    Look,
    NewExperiment,
    ServingState,
)
from mlops.domain.promotion.records import Champion, ModelIdentity, PromotionDecision
from mlops.domain.records import LIVE, Grant
from mlops.ledger import tables
from mlops.ledger.auditing import add_audit_line
from mlops.ledger.champions import (
    CHAMPION_AND_PROMOTION,
    CHAMPION_COLUMNS,
    Champions,
    champion_now,
    champion_of,
    end_experiment,
    fence,
)
from mlops.ledger.columns import AnyRow, Timestamp, mapped, now
from mlops.ledger.engine import PREPARED

log = structlog.get_logger(__name__)

_experiment = tables.experiment.c
_look = tables.experiment_look.c
_count = tables.answer_count.c
_champion = tables.champion.c
_promotion = tables.promotion.c

Act = Literal["advance", "hold", "release", "abort"]
"""What a person does with an experiment that runs."""
_POLICY = "policy"
"""Who ends an experiment where no person does."""
_PAUSED = "the ledger was set back in time since it was started, and waits for a person to release it"

#: Of the champion, and of the experiment that was started against it: asked by each router once a second.
_SERVED = (
    select(*CHAMPION_COLUMNS, *(column.label(f"experiment_{column.name}") for column in _experiment))
    .select_from(
        CHAMPION_AND_PROMOTION.outerjoin(
            tables.experiment,
            and_(
                _experiment.namespace == _champion.namespace,
                _experiment.strategy == _champion.strategy,
                _experiment.ended_at.is_(None),
                # Code of the version before swaps a champion and leaves the experiment.
                _experiment.champion_seq == _champion.seq,
            ),
        )
    )
    .where(_champion.namespace == LIVE, _champion.strategy == bindparam("asked"))
    .execution_options(**PREPARED)
)


class Experiments(Champions):
    """At most one runs of a strategy; it ends once, by whoever is first."""

    def start_experiment(self, new: NewExperiment) -> Experiment:
        """Start it, with an audit line.

        Raises ExperimentRunning, and ChampionMoved where the champion is not the one that it names.
        """
        adding = (
            insert(tables.experiment)
            .values(
                namespace=new.namespace,
                strategy=new.strategy,
                plan=_plans().dump_python(new.plan, mode="json"),
                champion_version=new.champion_version,
                champion_seq=new.champion_seq,
                champion_sha256=new.champion.sha256,
                champion_made_by=new.champion.made_by,
                challenger_version=new.challenger_version,
                challenger_sha256=new.challenger.sha256,
                challenger_made_by=new.challenger.made_by,
                started_as_of=new.started_as_of,
                started_by=new.started_by,
                reason=new.reason,
                started_at=now(),
                step=0,
                step_since=new.started_as_of,
                held=False,
                paused=False,
            )
            .returning(tables.experiment)
        )
        with self.database.transaction("ledger.start_experiment") as connection:
            champion = champion_now(connection, new.namespace, new.strategy, is_locked=True)
            if champion.seq != new.champion_seq or champion.version != new.champion_version:
                raise ChampionMoved(
                    f"the experiment of {new.strategy!r} is against version {new.champion_version} at seq "
                    f"{new.champion_seq}; the champion is {champion.version or 'none'} at seq {champion.seq}; "
                    "start it against that one"
                )
            running = _running(connection, new.namespace, new.strategy)
            if running is not None and running.champion_seq == champion.seq:
                raise ExperimentRunning(
                    f"{new.strategy!r} has experiment {running.id}, with version {running.challenger_version}, since "
                    f"{running.started_at:%Y-%m-%d %H:%M} UTC by {running.started_by}; one at a time: let it end, or "
                    "abort it"
                )
            if running is not None:
                _end(connection, running, Action.ABORT, _of_another(champion))
            made = _experiment_of(connection.execute(adding).one())
            detail = {
                "experiment": made.id,
                "challenger": made.challenger_version,
                "mode": made.plan.mode,
                "reason": made.reason,
            }
            add_audit_line(connection, made.started_by, "experiment.start", made.strategy, detail=detail)
            return made

    def running_experiment(self, strategy: str, *, namespace: str = LIVE) -> Experiment | None:
        """The one that runs, if any."""
        with self.database.reading() as connection:
            return _running(connection, namespace, strategy)

    def running_experiments(self, *, namespace: str = LIVE) -> list[Experiment]:
        """All strategies' that run, oldest first; one whose plan newer code wrote is logged and left out."""
        query = select(tables.experiment).where(_experiment.namespace == namespace, _experiment.ended_at.is_(None))
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(_experiment.id)).all()
        found = []
        for row in rows:
            try:
                found.append(_experiment_of(row))
            except ValueError as exc:
                log.warning(
                    "experiment.not_read",
                    strategy=row.strategy,
                    experiment=row.id,
                    error=" ".join(str(exc).split())[:300],
                    action="bring this process to the version that started it",
                )
        return found

    def experiment(self, experiment_id: int) -> Experiment:
        """Raises ExperimentNotFound."""
        with self.database.reading() as connection:
            return _found(connection, experiment_id)

    def experiments(self, strategy: str | None = None, *, namespace: str = LIVE, limit: int = 50) -> list[Experiment]:
        """Newest first."""
        query = select(tables.experiment).where(_experiment.namespace == namespace)
        if strategy is not None:
            query = query.where(_experiment.strategy == strategy)
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(_experiment.id.desc()).limit(limit)).all()
        return [_experiment_of(row) for row in rows]

    def looks(self, experiment_id: int) -> list[Look]:
        """By date."""
        query = select(tables.experiment_look).where(_look.experiment_id == experiment_id).order_by(_look.as_of)
        with self.database.reading() as connection:
            return [_look_of(row) for row in connection.execute(query)]

    def newest_looks(self, experiment_ids: Collection[int]) -> dict[int, Look]:
        """The newest look at each of the experiments that have one."""
        query = (
            select(tables.experiment_look)
            .where(_look.experiment_id.in_(experiment_ids))
            .ext(distinct_on(_look.experiment_id))
            .order_by(_look.experiment_id, _look.as_of.desc())
        )
        with self.database.reading() as connection:
            return {row.experiment_id: _look_of(row) for row in connection.execute(query)}

    def note_look(
        self, grant: Grant, experiment_id: int, look: Look, decision: PromotionDecision | None = None
    ) -> Experiment:
        """Write a look with all that it leads to, fenced by the grant: the next step, or the end and its decision.

        Nothing changes, and what stands is given, where the experiment has ended, or was looked at as of this date or
        a later one. A step that somebody has changed meanwhile is not left once more: the look then says `wait`. So it
        does of an experiment that is held or paused, which promotes nothing.
        decision : about the challenger, where the look ends it
        Raises LeaseLost, ExperimentNotFound; ChampionMoved where the decision expects another champion's seq.
        """
        if (look.action is Action.PROMOTE and decision is None) or (decision is not None and look.action not in ENDS):
            raise ValueError(f"a look that says {look.action} {'lacks its' if decision is None else 'has a'} decision")
        with self.database.transaction("ledger.note_look") as connection:
            fence(connection, grant)
            champion = champion_now(connection, grant.namespace, grant.strategy, is_locked=True)
            here = _found(connection, experiment_id, is_locked=True)
            if (here.namespace, here.strategy) != (grant.namespace, grant.strategy):
                raise ExperimentNotFound(f"{grant.strategy!r} has no experiment {experiment_id}")
            newest = connection.scalar(select(func.max(_look.as_of)).where(_look.experiment_id == here.id))
            if not here.is_running or (newest is not None and look.as_of <= newest):
                return here
            if here.champion_seq != champion.seq and look.action is not Action.ABORT:
                return _end(connection, here, Action.ABORT, _of_another(champion))
            look = _as_it_stands(look, here)
            connection.execute(insert(tables.experiment_look).values(**_row_of(look, here, grant)))
            if look.action is Action.ADVANCE:
                return _changed(connection, here, step=here.step + 1, step_since=look.as_of)
            if look.action not in ENDS:
                return here
            made = None if decision is None else self._decide_look(connection, champion, decision, grant, here)
            return _end(connection, here, look.action, look.words, promotion_id=made)

    def _decide_look(
        self, connection: Connection, champion: Champion, decision: PromotionDecision, grant: Grant, here: Experiment
    ) -> int:
        has_decided = connection.scalar(select(_promotion.id).where(_promotion.run_id == grant.run_id)) is not None
        run_id = None if has_decided else grant.run_id  # a run has one: a rollback that it proposed, for instance
        made = self._decide(connection, champion, decision, maker=grant.run_id, run_id=run_id, experiment_id=here.id)
        return made.id

    def steer_experiment(
        self, experiment_id: int, act: Act, *, by: str, reason: str, from_step: int | None = None
    ) -> Experiment:
        """Do what a person asks, with an audit line. To hold what is held changes nothing.

        from_step : the step that the person saw; on another one nothing is advanced, so that the same request again
        changes nothing
        Raises ExperimentNotFound, ExperimentEnded, InvalidTransition.
        """
        with self.database.transaction("ledger.steer_experiment") as connection:
            here = _found(connection, experiment_id, is_locked=True)
            if not here.is_running:
                raise ExperimentEnded(
                    f"experiment {here.id} of {here.strategy!r} ended as {here.end}: {here.end_words}; start another"
                )
            if act == "abort":
                return _end(connection, here, Action.ABORT, reason, by=by)
            changes = _steered(connection, here, act, from_step)
            if all(getattr(here, name) == value for name, value in changes.items()):
                return here
            there = _changed(connection, here, **changes)
            detail = {"experiment": here.id, "reason": reason, "share": there.share}
            add_audit_line(connection, by, f"experiment.{act}", here.strategy, detail=detail)
            return there

    def break_guardrail(self, experiment_id: int, guardrails: Sequence[Guardrail], words: str) -> Experiment:
        """End it with ABORT, once: of one that has ended, what stands is given. Raises ExperimentNotFound."""
        with self.database.transaction("ledger.break_guardrail") as connection:
            here = _found(connection, experiment_id, is_locked=True)
            if not here.is_running:
                return here
            return _end(
                connection, here, Action.ABORT, words, detail={"guardrails": [asdict(one) for one in guardrails]}
            )

    # ---- whoever serves

    def serving_state(self, strategy: str) -> ServingState:
        """Who answers now: one statement by keys."""
        with self.database.reading() as connection:
            row = connection.execute(_SERVED, {"asked": strategy}).one_or_none()
        champion = champion_of(row, LIVE, strategy)
        if row is None or row.experiment_id is None:
            return ServingState(champion=champion, experiment=None)
        return ServingState(champion=champion, experiment=_experiment_of(row, prefix="experiment_"))

    def count_answers(self, rows: Sequence[AnswerCount]) -> None:
        """Write what a process has counted so far, of each version and minute once; an older count changes nothing."""
        if not rows:
            return
        adding = insert(tables.answer_count)
        counted = {name: adding.excluded[name] for name in (*_COUNTED, "latency_ms")}
        adding = adding.on_conflict_do_update(
            constraint=tables.answer_count.primary_key, set_=counted, where=adding.excluded.n > _count.n
        )
        with self.database.transaction("ledger.count_answers") as connection:
            connection.execute(adding, [{**vars(row), "latency_ms": list(row.latency_ms)} for row in rows])

    def answer_counts(
        self, strategy: str, *, since: datetime, by: Literal["minute", "hour"] = "minute"
    ) -> list[AnswerCount]:
        """Counts of the minutes from then on, of all processes together (`writer` is empty), in order of time.

        by : what is added up; hours, which begin at their first minute, for more than a day
        """
        # A month of a few processes is hundreds of thousands of rows.
        buckets = [func.sum(_count.latency_ms[place + 1]) for place in range(len(LATENCY_BOUNDS_MS) + 1)]
        minute = _count.minute if by == "minute" else func.date_trunc(literal_column("'hour'"), _count.minute)
        key = (type_coerce(minute, Timestamp()).label("minute"), _count.variant, _count.version, _count.model_sha256)
        query = (
            select(
                *key,
                *(func.sum(_count[name]).label(name) for name in _COUNTED),
                array(buckets).label("latency_ms"),
            )
            .where(_count.strategy == strategy, _count.minute >= since)
            .group_by(minute, *key[1:])
            .order_by(minute, *key[1:])
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            mapped(AnswerCount, row, strategy=strategy, writer="", latency_ms=tuple(row.latency_ms)) for row in rows
        ]


_COUNTED = ("n", "n_errors", "n_positive", "n_missing_rows")


def _running(connection: Connection, namespace: str, strategy: str) -> Experiment | None:
    row = connection.execute(
        select(tables.experiment).where(
            _experiment.namespace == namespace, _experiment.strategy == strategy, _experiment.ended_at.is_(None)
        )
    ).one_or_none()
    return None if row is None else _experiment_of(row)


def _found(connection: Connection, experiment_id: int, *, is_locked: bool = False) -> Experiment:
    query = select(tables.experiment).where(_experiment.id == experiment_id)
    row = connection.execute(query.with_for_update() if is_locked else query).one_or_none()
    if row is None:
        raise ExperimentNotFound(
            f"the ledger has no experiment {experiment_id}; `acis experiment list` shows those it has"
        )
    return _experiment_of(row)


def _changed(connection: Connection, here: Experiment, **values: Any) -> Experiment:  # noqa: ANN401 -- columns
    changing = update(tables.experiment).where(_experiment.id == here.id).values(**values)
    return _experiment_of(connection.execute(changing.returning(tables.experiment)).one())


def _end(
    connection: Connection,
    here: Experiment,
    end: Action,
    words: str,
    *,
    by: str = _POLICY,
    promotion_id: int | None = None,
    detail: dict[str, object] | None = None,
) -> Experiment:
    """End one that runs and is locked."""
    row = end_experiment(
        connection, _experiment.id == here.id, end, words, by=by, promotion_id=promotion_id, detail=detail
    )
    assert row is not None  # noqa: S101 -- its row is locked, and it ran when it was
    return _experiment_of(row)


def _of_another(champion: Champion) -> str:
    return f"ended: {champion.version or 'none'} is the champion now, at seq {champion.seq}"


def _as_it_stands(look: Look, here: Experiment) -> Look:
    """The look, which waits where what it wants was decided for another step or may not be now."""
    if look.action not in (Action.ADVANCE, Action.PROMOTE):
        return look
    is_last = here.step + 1 >= len(here.plan.steps)
    if here.paused:
        words = f"waits: {_PAUSED}"
    elif here.held:
        words = "held by a person meanwhile"
    elif look.action is Action.ADVANCE and (is_last or look.share != here.share):
        words = f"moved to {here.share:.0%} meanwhile"
    else:
        return look
    return replace(look, action=Action.WAIT, words=f"{words}; it was about to {look.action}: {look.words}")


def _steered(connection: Connection, here: Experiment, act: Act, from_step: int | None) -> dict[str, Any]:
    """What a person changes."""
    if act != "advance":
        return {"held": True} if act == "hold" else {"held": False, "paused": False}
    if from_step is not None and from_step != here.step:
        return {}
    if here.paused:
        raise InvalidTransition(f"experiment {here.id} is paused: {_PAUSED}; release it first")
    if here.step + 1 >= len(here.plan.steps):
        last = f"is on its last step, {here.share:.0%}" if here.plan.mode is Mode.CANARY else "has no steps"
        raise InvalidTransition(f"experiment {here.id} {last}; it cannot advance")
    newest = connection.scalar(select(func.max(_look.as_of)).where(_look.experiment_id == here.id))
    return {"step": here.step + 1, "step_since": newest or here.step_since}


# ---- Rows


@cache
def _plans() -> TypeAdapter[ExperimentPlan]:
    """Reads plans of other versions of this system too: what it does not know is left out."""
    return TypeAdapter(ExperimentPlan)


def _experiment_of(row: AnyRow, *, prefix: str = "") -> Experiment:
    found = {name.removeprefix(prefix): value for name, value in row._mapping.items() if name.startswith(prefix)}  # noqa: SLF001 -- its name
    end = found.pop("ended_as")
    for who in ("champion", "challenger"):
        found[who] = ModelIdentity(sha256=found.pop(f"{who}_sha256"), made_by=found.pop(f"{who}_made_by"))
    plan = _plans().validate_python(found.pop("plan"))
    return Experiment(**found, plan=plan, end=None if end is None else Action(end))


def _row_of(look: Look, here: Experiment, grant: Grant) -> dict[str, Any]:
    return {
        **vars(look),
        "experiment_id": here.id,
        "guardrails": [asdict(one) for one in look.guardrails],
        "differences": [[day.isoformat(), value] for day, value in look.differences],
        "run_id": grant.run_id,
        "looked_at": now(),
    }


def _look_of(row: AnyRow) -> Look:
    guardrails = tuple(
        Guardrail(**{**one, "value": math.nan if one["value"] is None else one["value"]}) for one in row.guardrails
    )
    differences = tuple((date.fromisoformat(day), float(value)) for day, value in row.differences)
    return mapped(Look, row, action=Action(row.action), guardrails=guardrails, differences=differences)
