"""Repair of differences between ledger and registry: unfinished projections, and changes made by hand.

Called by the reconciler. A change in MLflow's own pages is believed when two passes in a row see it, because
a projection in progress looks like one for a moment. It is adopted where the ledger has judged that very model and
did not refuse it: the ledger records it as made by hand. Everything else is reverted, with an alert, and a policy may
have all of it reverted. A registry that has lost the champion's version, or that is older than what it was shown, is
nobody's decision: the champion stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import ModelNotFound, PermanentError, TemporaryError, VersionNotFound
from mlops.domain.ports import SEQ_TAG
from mlops.registry.adoption import adopt, may_be_adopted, shown_in
from mlops.registry.kept_models import Keeper
from mlops.registry.projection import project
from mlops.registry.registry_check import champion_in, is_identified, note_missing

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelVersion
    from mlops.domain.records import Champion, Promotion
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

#: The registry is looked at this often; every look costs a few requests per strategy.
EVERY_S = 60.0


class RegistryRepair:
    """Repairs the registry in passes; remembers what the last one saw."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._suspected: dict[str, tuple[str | None, int]] = {}
        self._look_at = monotonic()
        self._keeper = Keeper()
        self._missing: set[str] = set()

    def step(self, services: RegistryServices) -> None:
        """Finish projections; once a minute, look for changes made by hand."""
        if services.settings.mlflow_tracking_uri is None:
            return
        pending = services.ledger.unprojected()
        if not pending and self._monotonic() < self._look_at:
            return
        try:
            unfinished = {promotion.strategy for promotion in pending if not _finish(services, promotion)}
            self._missing = {finding.strategy for finding in services.ledger.registry_findings()}
            for name in services.strategies:
                if name not in unfinished:  # what it shows is old, not made by hand
                    self._look_alone(services, name)
        except TemporaryError as exc:
            log.warning("registry.waits", error=str(exc))
        self._look_at = self._monotonic() + EVERY_S

    def _look_alone(self, services: RegistryServices, name: str) -> None:
        """Look at one strategy; one that the registry refuses does not keep the others from being looked at."""
        try:
            self._look(services, services.policies[name])
        except PermanentError as exc:
            log.warning("registry.not_repaired", strategy=name, error=str(exc))

    def _look(self, services: RegistryServices, strategy: Strategy) -> None:
        champion = services.ledger.champion(strategy.name)
        versions = services.registry.versions(strategy.model_name)
        if champion.version is not None:
            there = champion_in(versions, champion)
            if there is None or not is_identified(there, champion):
                # An empty registry, or an older one, is an outage and nobody's decision: the champion stands.
                self._suspected.pop(strategy.name, None)
                note_missing(services.ledger, strategy, champion)
                return
            if strategy.name in self._missing and services.ledger.champion_seen(strategy.name):
                log.warning("registry.champion_is_back", strategy=strategy.name, version=champion.version)
            self._keeper.keep(services, champion, there)
        shown = shown_in(versions, champion)
        if shown == champion.version:
            self._suspected.pop(strategy.name, None)
            return
        if self._suspected.get(strategy.name) != (shown, champion.seq):
            self._suspected[strategy.name] = (shown, champion.seq)
            return
        self._suspected.pop(strategy.name)
        self._settle(services, strategy, champion, {item.version: item for item in versions}, shown)

    def _settle(
        self,
        services: RegistryServices,
        strategy: Strategy,
        champion: Champion,
        versions: Mapping[str, ModelVersion],
        shown: str | None,
    ) -> None:
        """Show again what an older backup has forgotten; else adopt a change made by hand, or revert it."""
        numbers = [number for number in (shown, champion.version) if number is not None]
        looked_at = [versions[number] for number in dict.fromkeys(numbers) if number in versions]
        forgotten = [decision for item in looked_at if (decision := _forgotten(services, strategy, item)) is not None]
        if forgotten:
            for decision in forgotten:
                log.warning(
                    "registry.behind", strategy=strategy.name, version=decision.version, action="none: shown again"
                )
                project(decision, services.registry, services.ledger)
            return
        version = versions[shown] if shown is not None else None
        is_adoptable = version is None or may_be_adopted(services.ledger, services.registry, strategy, version)
        if (strategy.promotion.manual_changes == "revert" and champion.version is not None) or not is_adoptable:
            self._revert(services, strategy, champion, version)
            return
        promotion = adopt(services.ledger, strategy, champion, version)
        if promotion is not None:
            project(promotion, services.registry, services.ledger)

    def _revert(
        self, services: RegistryServices, strategy: Strategy, champion: Champion, version: ModelVersion | None
    ) -> None:
        """Put the champion back; where there is none, take the version out of Production that nobody judged."""
        shown = version.version if version is not None else None
        log.warning(
            "registry.reverted",
            strategy=strategy.name,
            version=champion.version,
            shown=shown,
            action=f"promote by `acis promote {strategy.name}`: a change made in MLflow passes no gate",
        )
        services.ledger.audit("reconciler", "registry.reverted", strategy.name, shown=shown, champion=champion.version)
        if champion.version is not None:
            number, stage, identity = champion.version, "Production", champion.identity
        elif version is not None:
            newest = services.ledger.newest_decision(strategy.name, version.version, version.identity)
            stage = newest.target_stage if newest is not None and newest.target_stage != "Production" else "Archived"
            number, identity = version.version, version.identity
        else:
            return
        services.registry.apply_stage(strategy.model_name, number, stage, seq=champion.seq, tags={}, identity=identity)


def _forgotten(services: RegistryServices, strategy: Strategy, version: ModelVersion) -> Promotion | None:
    """The newest decision about a version that was shown before, and that the registry does not know: it is older."""
    newest = services.ledger.newest_decision(strategy.name, version.version, version.identity)
    if newest is None or newest.projected_at is None:
        return None
    shown_seq = version.tags.get(SEQ_TAG, "")
    return None if shown_seq.isdecimal() and int(shown_seq) >= newest.seq else newest


def _finish(services: RegistryServices, promotion: Promotion) -> bool:
    """Show one decision; False where the registry refuses. One about a version that somebody deleted is done."""
    try:
        project(promotion, services.registry, services.ledger)
    except (ModelNotFound, VersionNotFound) as exc:
        log.warning("registry.version_gone", model=promotion.model_name, version=promotion.version, error=str(exc))
        services.ledger.projected(promotion.id)
    except PermanentError as exc:
        log.warning("registry.not_projected", model=promotion.model_name, version=promotion.version, error=str(exc))
        return False
    return True
