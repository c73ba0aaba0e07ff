"""What the ledger knows of the registry: what is wrong with it, what its model files are, and how many bytes it holds.

An open finding stops the promotions of its strategy. Noted by the promote stage and the reconciler; settled by a
person (`acis registry accept`), and a lost champion also by being seen again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Update, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.policies import strategy_of_model
from mlops.domain.records import FindingKind, Grant, ModelIdentity, RegistryFinding, StageState
from mlops.ledger import tables
from mlops.ledger.columns import now, within
from mlops.ledger.engine import Repository
from mlops.ledger.stages import held_by, lease_lost

_finding = tables.registry_finding.c

ACCEPTED = "accepted"
"""Kind of the row that an acceptance leaves: what the ledger knew by a number before it was of another registry."""


CHANGED_BY_HAND = "changed_by_hand"
_TOLD = 20
"""Versions of one episode that are told one by one."""


@dataclass(frozen=True, kw_only=True)
class ChangeByHand:
    """A change that somebody made in the registry's own pages, and what became of it."""

    strategy: str
    words: str
    """What was found, what was done, and what a person may do."""
    n_times: int
    first_at: datetime
    last_at: datetime


class RegistryFindings(Repository):
    """Open until they are settled; one row for each thing that was found."""

    def note_registry_finding(self, strategy: str, kind: FindingKind, key: str, words: str) -> bool:
        """Open the finding; True where it was not open. What a person has settled stays settled."""
        values = {"words": words, "found_at": now(), "settled_at": None}
        insertion = insert(tables.registry_finding).values(strategy=strategy, kind=kind, key=key, **values)
        opened = insertion.on_conflict_do_update(
            index_elements=[_finding.strategy, _finding.kind, _finding.key],
            set_=values,
            where=_finding.settled_at.is_not(None) & _finding.settled_by.is_(None),
        )
        with self.database.transaction("ledger.note_registry_finding") as connection:
            return connection.execute(opened.returning(_finding.id)).one_or_none() is not None

    def registry_findings(self, strategy: str = "") -> list[RegistryFinding]:
        """The open ones, oldest first."""
        query = select(tables.registry_finding).where(_finding.settled_at.is_(None)).order_by(_finding.id)
        if strategy:
            query = query.where(_finding.strategy == strategy)
        with self.database.reading() as connection:
            return [
                RegistryFinding(strategy=row.strategy, kind=row.kind, words=row.words, found_at=row.found_at)
                for row in connection.execute(query)
            ]

    def note_changed_by_hand(
        self, strategy: str, words: str, *, done: str, shown: str | None, champion: str | None, episode_s: float
    ) -> bool:
        """Count a change that somebody made in the registry's own pages; audited, and True, where it was not told yet.

        Changes of one strategy that follow one another within `episode_s` are one row, with the words of the last:
        who repeats one every second makes no flood. It stops nothing, since it was settled as it was found.
        done : `reverted` or `adopted`; with `shown`, the version, that by which two changes are the same
        """
        what = f"{done} {shown or 'none'}"
        open_one = select(_finding.id, _finding.reason).where(
            _finding.strategy == strategy, _finding.kind == CHANGED_BY_HAND, within(_finding.settled_at, episode_s)
        )
        with self.database.transaction("ledger.note_changed_by_hand") as connection:
            row = connection.execute(open_one.order_by(_finding.id.desc()).limit(1).with_for_update()).one_or_none()
            told = [] if row is None else row.reason.split(", ")
            is_new = what not in told and len(told) < _TOLD
            if is_new:
                audited = {"actor": "reconciler", "action": f"registry.{done}", "subject": strategy}
                detail = {"shown": shown, "champion": champion}
                connection.execute(insert(tables.audit).values(**audited, created_at=now(), detail=detail))
            if row is None:
                key = datetime.now(UTC).isoformat()
                values = {"strategy": strategy, "kind": CHANGED_BY_HAND, "key": key, "words": words, "reason": what}
                connection.execute(insert(tables.registry_finding).values(**values, found_at=now(), settled_at=now()))
                return True
            again = update(tables.registry_finding).where(_finding.id == row.id)
            connection.execute(
                again.values(
                    words=words,
                    settled_at=now(),
                    n_times=_finding.n_times + 1,
                    reason=", ".join([*told, what]) if is_new else row.reason,
                )
            )
        return is_new

    def reword_change(self, strategy: str, words: str) -> None:
        """Say of a strategy's newest change what was found out since it was noted."""
        changes = (_finding.strategy == strategy, _finding.kind == CHANGED_BY_HAND)
        newest = select(func.max(_finding.id)).where(*changes).scalar_subquery()
        with self.database.transaction("ledger.reword_change") as connection:
            connection.execute(update(tables.registry_finding).where(_finding.id == newest).values(words=words))

    def changes_by_hand(self, *, within_s: float) -> list[ChangeByHand]:
        """What was changed in the registry's own pages lately, the newest first, one for each episode."""
        query = (
            select(tables.registry_finding)
            .where(_finding.kind == CHANGED_BY_HAND, within(_finding.settled_at, within_s))
            .order_by(_finding.id.desc())
        )
        with self.database.reading() as connection:
            return [
                ChangeByHand(
                    strategy=row.strategy,
                    words=row.words,
                    n_times=row.n_times,
                    first_at=row.found_at,
                    last_at=row.settled_at,
                )
                for row in connection.execute(query)
            ]

    def champion_seen(self, strategy: str) -> bool:
        """Settle what says that the champion is missing; True where something did."""
        missing = (_finding.strategy == strategy, _finding.kind == "champion_missing", _finding.settled_at.is_(None))
        with self.database.transaction("ledger.champion_seen") as connection:
            return connection.execute(_settled(*missing).values(reason="seen again")).rowcount > 0

    def accept_registry(self, strategy: str, *, actor: str, reason: str) -> int:
        """A person says that the registry which is there now is the true one: settle all; how many. Audited."""
        is_open = (_finding.strategy == strategy, _finding.settled_at.is_(None))
        with self.database.transaction("ledger.accept_registry") as connection:
            words = list(connection.scalars(select(_finding.words).where(*is_open).order_by(_finding.id)))
            connection.execute(_settled(*is_open).values(settled_by=actor, reason=reason))
            key = f"{datetime.now(UTC).isoformat()} {uuid4()}"
            accepted = {"strategy": strategy, "kind": ACCEPTED, "key": key, "words": reason, "reason": reason}
            connection.execute(
                insert(tables.registry_finding).values(**accepted, found_at=now(), settled_at=now(), settled_by=actor)
            )
            connection.execute(
                insert(tables.audit).values(
                    actor=actor,
                    action="registry.accept",
                    subject=strategy,
                    created_at=now(),
                    detail={"reason": reason, "settled": words},
                )
            )
        return len(words)


def _settled(*conditions: ColumnElement[bool]) -> Update:
    return update(tables.registry_finding).where(*conditions).values(settled_at=now())


# ---- How many bytes the registry's runs hold, measured once each; kept, so that nothing is measured again

_size = tables.artifact_size.c


class ArtifactSizes(Repository):
    """Written by whoever walks the registry, outside any request."""

    def unmeasured(self, registry_run_ids: Sequence[str]) -> list[str]:
        """Those of the runs whose size is not known, in their order."""
        with self.database.reading() as connection:
            known = set(
                connection.scalars(
                    select(_size.registry_run_id).where(_size.registry_run_id.in_(list(registry_run_ids)))
                )
            )
        return [run_id for run_id in registry_run_ids if run_id not in known]

    def measured(self, sizes: Mapping[str, tuple[int, datetime]]) -> None:
        """Bytes and start of runs."""
        if not sizes:
            return
        rows = [
            {"registry_run_id": run_id, "bytes": size, "started_at": started_at, "measured_at": now()}
            for run_id, (size, started_at) in sizes.items()
        ]
        with self.database.transaction("ledger.measured") as connection:
            for row in rows:
                insertion = insert(tables.artifact_size).values(row)
                connection.execute(
                    insertion.on_conflict_do_update(
                        index_elements=[_size.registry_run_id],
                        set_={"bytes": row["bytes"], "measured_at": now()},
                    )
                )

    def bytes_by_month(self) -> dict[str, int]:
        """`2026-11` → bytes of the runs that began in it, oldest first."""
        month = func.to_char(_size.started_at, "YYYY-MM")
        query = select(month.label("month"), func.sum(_size.bytes).label("total")).group_by(month).order_by(month)
        with self.database.reading() as connection:
            return {row.month: int(row.total) for row in connection.execute(query)}


# ---- The SHA-256 of each version's model file
#
# Whoever loads, compares, approves, promotes or serves a version hashes the file that it got, and takes it only where
# it has the digest that is recorded here. A training notes the digest before the file leaves its process, and records
# it again with the number that the registry gave the version, both fenced by its lease. A person records that of a
# version which no training here made. What stands in tags of the registry is never taken for it: whoever may swap a
# file may change its tag.

_file = tables.model_file.c
_stage = tables.stage.c
_promotion = tables.promotion.c
_BY_TRAINING = "training"
_LOOKED_AT = ("promote", "keep", "inconclusive", "await_approval", "rollback", "restore")
"""Decisions that were made about the bytes of a file; any other may repeat what a tag of the registry said."""
_trained = (
    _stage.stage == "train",
    _stage.state == StageState.SUCCEEDED,
    _stage.result["model_sha256"].as_string().is_not(None),
)


class ModelFiles(Repository):
    """Append-only; the newest row of a version holds."""

    def note_model_file(self, grant: Grant, model_name: str, sha256: str, *, version: str | None = None) -> None:
        """Keep, fenced by the grant, that its training made a file of this digest. Raises LeaseLost.

        version : number that the registry gave it; None before it is registered
        """
        with self.database.transaction("ledger.note_model_file") as connection:
            fenced = connection.execute(select(_stage.token).where(*held_by(grant)).with_for_update()).one_or_none()
            if fenced is None:
                raise lease_lost(grant)
            there = exists().where(
                _file.made_by == grant.run_id, _file.sha256 == sha256, _file.version.is_not_distinct_from(version)
            )
            if not connection.scalar(select(there)):
                _add(connection, model_name, version, sha256, made_by=grant.run_id, recorded_by=_BY_TRAINING)

    def noted_model_files(self, made_by: str) -> frozenset[str]:
        """Digests of all files that a run's training made, or that were recorded as made by a run of the registry."""
        with self.database.reading() as connection:
            return frozenset(connection.scalars(select(_file.sha256).where(_file.made_by == made_by)))

    def recorded_model(self, model_name: str, version: str) -> ModelIdentity:
        """SHA-256 of a version's model file and the run that made it; both None where nothing is recorded.

        Of a version that a worker of an earlier version of this system trained or judged, what that wrote then.
        """
        recorded = select(_file.sha256, _file.made_by).where(_file.model_name == model_name, _file.version == version)
        result = _stage.result
        trained = select(result["model_sha256"].as_string(), _stage.run_id).where(
            *_trained,
            _stage.strategy == strategy_of_model(model_name),
            result["model_name"].as_string() == model_name,
            result["version"].as_string() == version,
        )
        judged = select(_promotion.model_sha256, _promotion.made_by).where(
            _promotion.model_name == model_name,
            _promotion.version == version,
            _promotion.decision.in_(_LOOKED_AT),
            _promotion.model_sha256.is_not(None),
        )
        queries = (
            recorded.order_by(_file.id.desc()),
            trained.order_by(_stage.finished_at.desc()),
            judged.order_by(_promotion.id.desc()),
        )
        with self.database.reading() as connection:
            found = (connection.execute(query.limit(1)).one_or_none() for query in queries)
            return next(
                (ModelIdentity(sha256=row[0], made_by=row[1]) for row in found if row is not None), ModelIdentity()
            )

    def record_model_file(
        self, model_name: str, version: str | None, identity: ModelIdentity, *, actor: str, reason: str
    ) -> None:
        """Keep what a person says that a version's file is, with an audit line. version : None, not registered yet

        One that no run made is made by its own number, so that nothing else is taken for it.
        """
        with self.database.transaction("ledger.record_model_file") as connection:
            _add(
                connection,
                model_name,
                version,
                str(identity.sha256),
                made_by=identity.made_by or f"{model_name}.v{version}",
                recorded_by=actor,
                reason=reason,
            )
            connection.execute(
                insert(tables.audit).values(
                    actor=actor,
                    action="model.record",
                    subject=model_name[:255],
                    created_at=now(),
                    detail={"version": version, "model_sha256": identity.sha256, "reason": reason},
                )
            )

    def keep_model_files(self) -> int:
        """Copy what workers of an earlier version wrote of trainings, whose runs are taken out one day; how many."""
        result = _stage.result
        known = exists().where(_file.made_by == _stage.run_id, _file.version.is_not(None))
        trained = select(
            result["model_name"].as_string(),
            result["version"].as_string(),
            _stage.run_id,
            result["model_sha256"].as_string(),
            literal(_BY_TRAINING),
            _stage.finished_at,
        ).where(*_trained, ~known, result["model_name"].as_string().is_not(None))
        columns = ["model_name", "version", "made_by", "sha256", "recorded_by", "recorded_at"]
        with self.database.transaction("ledger.keep_model_files") as connection:
            copying = insert(tables.model_file).from_select(columns, trained.order_by(_stage.finished_at).limit(1000))
            return connection.execute(copying).rowcount


def _add(
    connection: Connection,
    model_name: str,
    version: str | None,
    sha256: str,
    *,
    made_by: str,
    recorded_by: str,
    reason: str | None = None,
) -> None:
    connection.execute(
        insert(tables.model_file).values(
            model_name=model_name,
            version=version,
            made_by=made_by,
            sha256=sha256,
            recorded_by=recorded_by,
            reason=reason,
            recorded_at=now(),
        )
    )
