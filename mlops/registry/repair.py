"""Repair of differences between ledger and registry: unfinished projections, and changes made by hand.

Called by the reconciler. A change in MLflow's own pages is believed when two looks in a row see one, because a
projection in progress looks like one for a moment. It is reverted within a minute, with an audit line and an alert that
names it. Where the policy says so, a version that the ledger has judged and did not refuse is adopted instead, by the
digest of its file. A registry that has lost the champion's version, or that is older than what it was shown, is
nobody's decision: the champion stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import structlog

from mlops.domain.errors import (
    AcisError,
    ModelNotFound,
    PermanentError,
    RegistryUnavailable,
    TemporaryError,
    VersionNotFound,
)
from mlops.domain.ports import SEQ_TAG
from mlops.registry.adoption import adopt, is_shown, judgement_on, shown_instead
from mlops.registry.kept_models import Keeper
from mlops.registry.projection import project
from mlops.registry.registry_check import champion_in, is_identified, note_missing

if TYPE_CHECKING:
    from mlops.domain.experiments.records import Experiment
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelVersion
    from mlops.domain.promotion.records import Champion, Promotion
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

EVERY_S = 20.0
"""All that the registry shows is read this often, in a few requests. With the second look a change is settled within
half a minute, which leaves as long for a registry that answers slowly."""
SOON_S = 5.0
"""Until the look that confirms a change, and between looks while somebody keeps making changes."""
EPISODE_S = 600.0
"""Changes of a strategy that follow one another within it are one: one alert, counted, and none waits for a second
look."""


class RegistryRepair:
    """Repairs the registry in passes; remembers what the last one saw."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._suspected: dict[str, tuple[str | None, int]] = {}
        self._reverted_at: dict[str, float] = {}
        self._look_at = monotonic()
        self._keeper = Keeper()
        self._missing: set[str] = set()
        self._experiments: dict[str, Experiment] = {}
        self._reverted: list[tuple[Strategy, Champion, ModelVersion | None]] = []

    def step(self, services: RegistryServices) -> None:
        """Finish projections; every so often, look for changes made by hand."""
        if services.settings.mlflow_tracking_uri is None:
            return
        pending = services.ledger.unprojected()
        if not pending and self._monotonic() < self._look_at:
            return
        try:
            unfinished = {promotion.strategy for promotion in pending if not _finish(services, promotion)}
            self._experiments = {one.strategy: one for one in services.ledger.running_experiments()}
            self._missing = {finding.strategy for finding in services.ledger.registry_findings()}
            versions: dict[str, list[ModelVersion]] = {}
            for version in services.registry.census().versions:
                versions.setdefault(version.name, []).append(version)
            for name in services.strategies:
                if name not in unfinished:  # what it shows is old, not made by hand
                    self._look_alone(services, name, versions)
            # Last: a file that comes slowly, or not at all, keeps nothing from being taken back.
            while self._reverted:
                _say_what_it_was(services, *self._reverted.pop())
        except TemporaryError as exc:
            log.warning("registry.waits", error=str(exc))
        now = self._monotonic()
        self._reverted_at = {name: at for name, at in self._reverted_at.items() if now - at < EPISODE_S}
        self._look_at = now + (SOON_S if self._suspected or self._reverted_at else EVERY_S)

    def _look_alone(
        self, services: RegistryServices, name: str, versions: Mapping[str, Sequence[ModelVersion]]
    ) -> None:
        """Look at one strategy; whatever goes wrong there does not keep the others from being looked at."""
        try:
            strategy = services.policies[name]
            self._look(services, strategy, versions.get(strategy.model_name, ()))
            if name in self._experiments:  # whose challenger routers then find without the registry
                tried = self._experiments[name].challenger_place
                there = champion_in(versions.get(strategy.model_name, ()), tried)
                if there is not None:
                    self._keeper.keep(services, tried, there)
        except (PermanentError, RegistryUnavailable) as exc:
            log.warning("registry.not_repaired", strategy=name, error=str(exc))
        except TemporaryError:
            raise
        except Exception:  # whoever writes to the registry chooses what is met there
            log.exception("registry.not_repaired", strategy=name)

    def _look(self, services: RegistryServices, strategy: Strategy, versions: Sequence[ModelVersion]) -> None:
        champion = services.ledger.champion(strategy.name)
        shown = shown_instead(versions, champion)
        is_there = True
        if champion.version is not None:
            there = champion_in(versions, champion)
            is_there = there is not None and is_identified(there, champion)
            if not is_there:
                # An empty registry, or an older one, is an outage and nobody's decision: the champion stands.
                note_missing(services.ledger, strategy, champion)
            elif there is not None:
                if strategy.name in self._missing and services.ledger.champion_seen(strategy.name):
                    log.warning("registry.champion_is_back", strategy=strategy.name, version=champion.version)
                self._keeper.keep(services, champion, there)
        if shown is None and (is_shown(versions, champion) or not is_there):
            self._suspected.pop(strategy.name, None)
            return
        before = self._suspected.get(strategy.name)
        self._suspected[strategy.name] = (shown, champion.seq)
        is_steady = before == (shown, champion.seq)
        is_confirmed = before is not None and before[1] == champion.seq
        if not is_confirmed and strategy.name not in self._reverted_at:
            return
        found = {item.version: item for item in versions}
        version = found[shown] if shown is not None else None
        if not is_there:
            self._revert(services, strategy, champion, version, is_there=False)
        elif is_steady or strategy.promotion.manual_changes == "revert":
            self._settle(services, strategy, champion, found[champion.version] if champion.version else None, version)
        elif is_confirmed:  # to be adopted, a version has to stay where it was put
            self._revert(services, strategy, champion, version)
        else:
            return
        self._suspected.pop(strategy.name, None)

    def _settle(
        self,
        services: RegistryServices,
        strategy: Strategy,
        champion: Champion,
        there: ModelVersion | None,
        version: ModelVersion | None,
    ) -> None:
        """Show again what an older backup has forgotten; else adopt a change made by hand, or revert it."""
        forgotten = _forgotten(services, strategy, there) if there is not None else None
        if forgotten is not None:
            log.warning(
                "registry.behind", strategy=strategy.name, version=forgotten.version, action="none: shown again"
            )
            project(forgotten, services.registry, services.ledger)
        elif version is not None and strategy.promotion.manual_changes == "adopt":
            judgement = judgement_on(services.ledger, services.registry, strategy, version)
            if judgement.may_be_champion:
                promotion = adopt(services.ledger, strategy, champion, version, judgement.identity)
                if promotion is not None:
                    words = (
                        f"version {version.version} of {strategy.name!r} was made champion in MLflow by hand, in place "
                        f"of {champion.version or 'none'}, and was adopted, since {judgement.words} and the policy "
                        f'has promotion.manual_changes = "adopt"; `acis rollback {strategy.name}` takes it back'
                    )
                    _tell(services, strategy, words, "adopted", champion=champion, version=version)
                    project(promotion, services.registry, services.ledger)
                return
        self._revert(services, strategy, champion, version)

    def _revert(
        self,
        services: RegistryServices,
        strategy: Strategy,
        champion: Champion,
        version: ModelVersion | None,
        *,
        is_there: bool = True,
    ) -> None:
        """Put the champion back; where there is none, take the version out of Production that nobody decided on.

        Noted before it is done; the file is looked at afterwards, and only for the words.
        """
        words = _reverted_words(strategy, champion, version)
        _tell(services, strategy, words, "reverted", champion=champion, version=version)
        if version is not None and not champion.is_version(version.version, version.identity):
            newest = services.ledger.newest_decision(strategy.name, version.version, version.identity)
            stage = newest.target_stage if newest is not None and newest.target_stage != "Production" else "Archived"
            services.registry.apply_stage(strategy.model_name, version.version, stage, seq=champion.seq, tags={})
        if champion.version is not None and is_there:
            services.registry.apply_stage(
                strategy.model_name,
                champion.version,
                "Production",
                seq=champion.seq,
                tags={},
                identity=champion.identity,
            )
        self._reverted_at[strategy.name] = self._monotonic()
        self._reverted.append((strategy, champion, version))


def _tell(
    services: RegistryServices,
    strategy: Strategy,
    words: str,
    done: Literal["adopted", "reverted"],
    *,
    champion: Champion,
    version: ModelVersion | None,
) -> None:
    """Alert about a change made by hand, and note it in audit and log where it was not told before."""
    shown = version.version if version is not None else None
    if services.ledger.note_changed_by_hand(
        strategy.name, words, done=done, shown=shown, champion=champion.version, episode_s=EPISODE_S
    ):
        log.warning(
            "registry.changed_by_hand", strategy=strategy.name, shown=shown, champion=champion.version, action=words
        )


def _say_what_it_was(
    services: RegistryServices, strategy: Strategy, champion: Champion, version: ModelVersion | None
) -> None:
    """Say in the alert that a change was taken back, and what the ledger knows of the file that was shown."""
    judgement = ""
    try:
        if version is not None:
            judgement = judgement_on(services.ledger, services.registry, strategy, version).words
    except AcisError as exc:
        judgement = f"its file could not be looked at: {exc}"
    except Exception:  # whoever writes to the registry chooses what is met there
        log.exception("registry.not_judged", strategy=strategy.name)
        judgement = "its file could not be looked at, see the reconciler's log"
    services.ledger.reword_change(strategy.name, _reverted_words(strategy, champion, version, judgement))


def _reverted_words(
    strategy: Strategy, champion: Champion, version: ModelVersion | None, judgement: str | None = None
) -> str:
    """What somebody changed, what is known of it, and what to do. judgement : None until it was taken back"""
    kept = f"champion {champion.version}" if champion.version is not None else "no champion"
    done = "is being" if judgement is None else "was"
    if version is None:
        found, way = f"MLflow did not show the champion of {strategy.name!r}, which the ledger did not decide", ""
    else:
        found = (
            f"MLflow showed version {version.version} of {strategy.name!r} as champion, which the ledger did not "
            f"decide{f': {judgement}' if judgement else ''}"
        )
        way = f"`acis promote {strategy.name} --version {version.version}` judges it, and "
    return (
        f"{found}. It {done} taken back: the ledger has {kept}, and nothing else was served; {way}whoever changed it "
        f"can write to MLflow: see who holds its registrar's password"
    )


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
