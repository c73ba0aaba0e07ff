"""The SHA-256 of each version's model file, and what the ledger knows of a model by it.

Whoever loads, compares, approves, promotes or serves a version hashes the file that it got, and takes it only where it
has the digest that is recorded here. A training notes the digest before it asks the registry for anything, and records
it again with the number that the registry gave the version, both fenced by its lease; that of a judged twin it notes
under a name of its own, since a twin is no version. A person records that of a version which no training here made.
What stands in tags of the registry is never taken for it: whoever may swap a file may change its tag.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, exists, func, literal, select
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.policies import model_name_of, strategy_of_model
from mlops.domain.ports import PROFILE_TAG, TRIALS_TAG, XGBOOST_TAG
from mlops.domain.promotion.findings import FINDINGS_TAG
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.records import Grant, StageState
from mlops.domain.training.judged_twin import HORIZON_TAG, OF_TWIN, SINCE_TAG, tags_of_result
from mlops.ledger import tables
from mlops.ledger.auditing import add_audit_line
from mlops.ledger.columns import now
from mlops.ledger.engine import Repository
from mlops.ledger.registry.findings import ACCEPTED
from mlops.ledger.stages import held_by, lease_lost

_file = tables.model_file.c
_stage = tables.stage.c
_promotion = tables.promotion.c
_finding = tables.registry_finding.c
_TRAINING_TAGS = (
    *("label", "device", "data_fingerprint", "n_train", "n_holdout", "n_features", "train_start", "train_end"),
    *("holdout_start", "holdout_end", "fit_s", "n_validation", SINCE_TAG, HORIZON_TAG),
)
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

    def noted_model_files(self, made_by: str, *, twins: bool = False) -> frozenset[str]:
        """Digests of all files that a run's training made, or that were recorded as made by a run of the registry.

        twins : of the judged twins that it made instead
        """
        is_twins = _file.model_name.endswith(OF_TWIN)
        query = select(_file.sha256).where(_file.made_by == made_by, is_twins if twins else ~is_twins)
        with self.database.reading() as connection:
            return frozenset(connection.scalars(query))

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

    def known_models(self, strategy: str, version: str) -> list[ModelIdentity]:
        """All models that the ledger knows by this number, since a person last said that the registry is the true one.

        From trainings, from decisions, and from what was recorded of model files.
        """
        result = _stage.result
        trainings = select(_stage.run_id, result["model_sha256"].as_string(), _stage.finished_at).where(
            _stage.strategy == strategy,
            _stage.stage == "train",
            _stage.state == "succeeded",
            result["version"].as_string() == version,
        )
        decisions = select(_promotion.made_by, _promotion.model_sha256, _promotion.created_at).where(
            _promotion.strategy == strategy, _promotion.version == version
        )
        files = select(_file.made_by, _file.sha256, _file.recorded_at).where(
            _file.model_name == model_name_of(strategy), _file.version == version
        )
        accepted = select(func.max(_finding.settled_at)).where(_finding.strategy == strategy, _finding.kind == ACCEPTED)
        with self.database.reading() as connection:
            since = connection.execute(accepted).scalar_one()
            rows = [row for query in (trainings, decisions, files) for row in connection.execute(query)]
        found = [ModelIdentity(made_by=made_by, sha256=sha) for made_by, sha, at in rows if since is None or at > since]
        return list(dict.fromkeys(found))

    def training_facts(self, identity: ModelIdentity) -> tuple[dict[str, str], dict[str, float]]:
        """Tags and metrics of a model, as far as its training's stage says; empty where no run trained it.

        Empty, too, of a file that names a training which made another one.
        """
        query = (
            select(_stage.result, tables.run.c.as_of, tables.run.c.strategy)
            .join(tables.run, tables.run.c.run_id == _stage.run_id)
            .where(_stage.run_id == identity.made_by, _stage.stage == "train")
        )
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.result is None or "metrics" not in row.result:
            return {}, {}
        result = row.result
        if identity.sha256 is not None and result.get("model_sha256") != identity.sha256:
            return {}, {}
        tags = {name: str(result[name]) for name in _TRAINING_TAGS if result.get(name) is not None}
        tags |= {PROFILE_TAG: result["profile_sha256"]} if result.get("profile_sha256") else {}
        tags |= tags_of_result(result)
        tags |= {XGBOOST_TAG: result["xgboost"]} if result.get("xgboost") else {}
        tags |= {FINDINGS_TAG: json.dumps(result["findings"])} if "findings" in result else {}
        tags |= {TRIALS_TAG: str(result["tuning"]["n_trials"])} if "tuning" in result else {}
        tags |= {"training_date": row.as_of.isoformat()} if row.as_of else {}
        return {"strategy": row.strategy, **tags}, result["metrics"]

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
            detail = {"version": version, "model_sha256": identity.sha256, "reason": reason}
            add_audit_line(connection, actor, "model.record", model_name, detail=detail)

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
