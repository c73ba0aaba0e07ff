"""What MLflow and the checkpoints' store hold of a time that the ledger does not know, since it was set back.

Called by the reconciler, and by `acis restore`. A version that such a run made is never promoted and never adopted, a
checkpoint never resumed, until a person releases it; what the ledger decided is shown again. Safe to repeat.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import structlog

from mlops.domain.errors import CheckpointsUnavailable, PermanentError
from mlops.domain.ports import LoggedByRun
from mlops.domain.records import Forgotten
from mlops.ledger.set_back import KEPT, NotQuarantined, Quarantined

if TYPE_CHECKING:
    from mlops.domain.ports import ModelRegistry, ModelVersion
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

LOOKED_FOR = timedelta(hours=1)
"""What a process of the forgotten time began comes to its end within it."""
CLOCKS_APART = timedelta(minutes=10)
"""MLflow's clock and the store's are not the ledger's; what is looked at too much is known to the ledger."""
_RUN_TAG, _SEQ_TAG = "acis.run_id", "acis.seq"


def look_through_registry(services: RegistryServices) -> list[Quarantined]:
    """Quarantine what the ledger does not know, show its champions again; what is newly in quarantine.

    Raises LedgerUnavailable, RegistryUnavailable: then it is to be done again.
    """
    forgotten = services.ledger.forgotten()
    return [] if forgotten.registry_since is None else _look_through(services, forgotten, forgotten.registry_since)


class ForgottenTime:
    """Looks through the registry where the ledger was set back, and again for an hour, ever more rarely.

    Whoever held a lease of the forgotten time hears of its loss with the next renewal, and may have begun to register
    its version by then; on a busy machine that request comes to its end much later. What says when to look is in the
    ledger, so that a reconciler that takes over goes on with it.
    """

    def __init__(self) -> None:
        self._looked_at_age = timedelta(0)

    def step(self, services: RegistryServices) -> None:
        """Raises LedgerUnavailable, RegistryUnavailable: then it is to be done again."""
        forgotten = services.ledger.forgotten()
        if forgotten.registry_since is not None:
            _look_through(services, forgotten, forgotten.registry_since)
            self._looked_at_age = timedelta(0)
            return
        if forgotten.set_back_at is None or forgotten.set_back_to is None:
            return
        age = services.ledger.now() - forgotten.set_back_at
        if age < self._looked_at_age:  # it was set back again, and another reconciler looked first
            self._looked_at_age = timedelta(0)
        lease = timedelta(seconds=services.settings.lease_s)
        if age <= LOOKED_FOR and age >= max(lease, 2 * self._looked_at_age):
            _look_through(services, forgotten, forgotten.set_back_to)
            self._looked_at_age = age


def _look_through(services: RegistryServices, forgotten: Forgotten, since: datetime) -> list[Quarantined]:
    has_registry = services.settings.mlflow_tracking_uri is not None
    found = [*_checkpoints(services, since), *(_of_registry(services, since) if has_registry else ())]
    new = services.ledger.quarantine(found)
    if has_registry:
        for name in services.strategies:
            _show_again(services, name, services.strategies[name].model_name, since)
    if forgotten.registry_since is not None:
        services.ledger.looked_through("registry", forgotten=forgotten)
    for one in new:
        log.warning("ledger.quarantined", kind=one.kind, what=one.name, run_id=one.run_id, action="`acis quarantine`")
    return new


def _of_registry(services: RegistryServices, since: datetime) -> Iterator[Quarantined]:
    versions = [
        version
        for name in services.strategies
        for version in services.registry.versions(services.strategies[name].model_name)
        if version.created_at >= since - CLOCKS_APART and _RUN_TAG in version.tags
    ]
    runs = _runs(services.registry, since - CLOCKS_APART)
    asked = {version.tags[_RUN_TAG] for version in versions} | set(runs.values())
    unknown = services.ledger.unknown_runs(sorted(asked))
    for version in versions:
        if version.tags[_RUN_TAG] in unknown:
            name = f"{version.name}/{version.version}"
            yield _quarantined("version", name, version.tags[_RUN_TAG], since)
    for run_id, ledger_run_id in runs.items():
        if ledger_run_id in unknown:
            yield _quarantined("run", run_id, ledger_run_id, since)
    for run in services.registry.open_runs():
        if run.ledger_run_id in unknown:
            services.registry.close_run(run.run_id, reason="the ledger was set back, and does not know its run")


def _runs(registry: ModelRegistry, since: datetime) -> dict[str, str]:
    """The ledger's run of each of MLflow's that goes on, or ended since then."""
    found = {run.run_id: run.ledger_run_id for run in registry.open_runs()}
    page: str | None = None
    while True:
        logged, page = registry.logged_runs(page=page)
        found |= {one.name: one.ledger_run_id for one in logged if one.at >= since}
        if page is None or any(one.at < since for one in logged):
            return found


def _checkpoints(services: RegistryServices, since: datetime) -> Iterator[Quarantined]:
    try:
        newest = services.checkpoints.newest()
    except CheckpointsUnavailable as exc:
        log.warning("ledger.checkpoints_not_looked_through", error=str(exc), next="none is resumed that is not named")
        return
    recent = [run_id for run_id, written in newest.items() if written >= since - CLOCKS_APART]
    for run_id in sorted(services.ledger.unknown_runs(recent)):
        yield _quarantined("checkpoint", run_id, run_id, since)


def _quarantined(kind: Literal["version", "run", "checkpoint"], name: str, run_id: str, since: datetime) -> Quarantined:
    reason = f"made by run {run_id}, which the ledger does not know: it was set back to {since:%Y-%m-%d %H:%M:%S} UTC"
    return Quarantined(kind=kind, name=name, run_id=run_id, reason=reason, found_at=since)


def _show_again(services: RegistryServices, strategy: str, model_name: str, since: datetime) -> None:
    """What the ledger decided about the champion, in place of what was decided in the time that it forgot."""
    ledger, registry = services.ledger, services.registry
    champion = ledger.champion(strategy)
    try:
        if champion.version is not None:
            registry.apply_stage(
                model_name, champion.version, "Production", seq=champion.seq, tags={}, identity=champion.identity
            )
        for version in registry.versions(model_name):
            is_ours = version.version == champion.version
            if not is_ours and (_is_shown_by_us(version, champion.seq) or _is_put_away(services, version)):
                tags = {"acis.set_back": f"the ledger was set back to {since:%Y-%m-%d %H:%M:%S} UTC"}
                registry.apply_stage(model_name, version.version, "Archived", seq=champion.seq, tags=tags)
    except PermanentError as exc:
        log.warning("registry.not_shown_again", strategy=strategy, version=champion.version, error=str(exc))


def _is_shown_by_us(version: ModelVersion, seq: int) -> bool:
    """It was made champion by a decision that the ledger does not know."""
    shown = "champion" in version.aliases or version.stage == "Production"
    told = version.tags.get(_SEQ_TAG, "")
    return shown and told.isdecimal() and int(told) > seq


def _is_put_away(services: RegistryServices, version: ModelVersion) -> bool:
    is_placed = bool(version.aliases) or version.stage in ("Production", "Staging")
    return is_placed and services.ledger.is_quarantined("version", f"{version.name}/{version.version}")


def release(services: RegistryServices, kind: str, name: str, *, actor: str) -> None:
    """It is like any other from now on; a version is judged by its gates before anything. Raises NotQuarantined."""
    services.ledger.settle_quarantined(_kind(kind), name, actor=actor, settled="released")


def delete(services: RegistryServices, kind: str, name: str, *, actor: str) -> None:
    """Take it away. Raises NotQuarantined, RegistryUnavailable, CheckpointsUnavailable."""
    known = _kind(kind)
    if not services.ledger.is_quarantined(known, name):
        raise NotQuarantined(f"no {kind} {name!r} is in quarantine; `acis quarantine` lists what is")
    if known == "checkpoint":
        services.checkpoints.delete_run(name)
    else:
        model_name, _, number = name.rpartition("/")
        kind_of_log: Literal["version", "training"] = "version" if known == "version" else "training"
        services.registry.drop(
            LoggedByRun(
                ledger_run_id="", kind=kind_of_log, name=number, model_name=model_name, at=services.ledger.now()
            )
        )
    services.ledger.settle_quarantined(known, name, actor=actor, settled="deleted")


def _kind(kind: str) -> Literal["version", "run", "checkpoint"]:
    for known in KEPT:
        if kind == known:
            return known
    raise NotQuarantined(f"{kind!r} is no kind of thing in quarantine; one of: {', '.join(KEPT)}")
