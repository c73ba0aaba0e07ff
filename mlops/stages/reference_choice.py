"""The reference of a check, by the policy's choice, and the comparison with it.

Where the champion's profile cannot be had, the trailing window stands in for it and a finding says why: a check is
never failed for that. Called by the drift stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from mlops.domain.drift.data_quality import DataFinding
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.frozen import detect_drift_from_profile
from mlops.domain.drift.report import TRAILING, DriftReport, ReferenceUsed
from mlops.domain.drift.seasons import detect_seasonal_drift, season_windows
from mlops.domain.errors import ConfigurationError, RegistryError, RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from mlops.domain.drift.training_profile import DriftProfile
    from mlops.domain.drift.weights import Weights
    from mlops.domain.frame import FeatureFrame
    from mlops.domain.policies import Reference, Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.records import Champion
    from mlops.stages.drift_windows import WindowsRead
    from mlops.stages.profile_store import ProfileStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReferenceChoice:
    """The reference that a check has."""

    used: ReferenceUsed
    profile: DriftProfile | None = None
    """Stands for the reference's rows; None: they are read"""
    findings: tuple[DataFinding, ...] = ()
    """Why it is not the one of the policy"""


def choose_reference(
    profiles: ProfileStore, strategy: Strategy, champion: Champion, source: FeatureSource, *, as_of: date
) -> ReferenceChoice:
    """The policy's reference, or the trailing window with the reason why not."""
    if strategy.data.reference == "trailing":
        return ReferenceChoice(used=TRAILING)
    if strategy.data.reference == "season":
        return _seasonal(source, strategy, as_of=as_of)
    return _of_champion(profiles, strategy, champion, as_of=as_of)


def _of_champion(profiles: ProfileStore, strategy: Strategy, champion: Champion, *, as_of: date) -> ReferenceChoice:
    if champion.version is None:
        return _trailing("there is no champion")
    version = f"version {champion.version} of {strategy.model_name}"
    try:
        stored = profiles.get(strategy.model_name, champion.version, seq=champion.seq, identity=champion.identity)
    except (RegistryUnavailable, RegistryError, ConfigurationError) as exc:
        log.warning("drift.profile_not_had", version=champion.version, error=str(exc), next="the trailing window")
        return _trailing(f"the profile of {version} cannot be had: {exc}")
    profile = stored.profile
    if profile.strategy != strategy.name:
        return _trailing(f"the profile of {version} is of strategy {profile.strategy!r}")
    if profile.as_of > as_of:
        return _trailing(f"{version} was trained as of {profile.as_of}, and would know what came after {as_of}")
    return ReferenceChoice(
        profile=profile,
        used=ReferenceUsed(
            choice="champion",
            used="champion",
            model_name=strategy.model_name,
            model_version=champion.version,
            profile_sha256=stored.sha256,
        ),
    )


def not_compared(choice: ReferenceChoice, strategy: Strategy, targets: Sequence[str]) -> list[DataFinding]:
    """Findings on what a reference without rows leaves out: a profile knows neither predictions nor targets."""
    if choice.profile is None:
        return []
    why = "the reference is the champion's training profile, which holds no rows"
    found = []
    if strategy.drift.predictions:
        message = f"the champion's predictions are not compared: {why}"
        found.append(DataFinding(code="predictions_not_compared", column=None, message=message, is_drift=False))
    if targets:
        message = f"{', '.join(targets)} not compared: {why}"
        found.append(DataFinding(code="targets_not_compared", column=None, message=message, is_drift=False))
    return found


def compare(
    read: WindowsRead,
    strategy: Strategy,
    choice: ReferenceChoice,
    *,
    frames: tuple[FeatureFrame, FeatureFrame, FeatureFrame],
    weights: Weights | None,
    timestamp: datetime,
) -> DriftReport:
    """The report of what was read. frames: history, reference and current. Raises EmptyWindow, UnusableFeatures."""
    history, reference, current = frames
    if choice.profile is not None:
        return detect_drift_from_profile(
            choice.profile,
            current,
            strategy.drift,
            as_of=read.as_of,
            current_window=read.current_window,
            timestamp=timestamp,
            min_current_rows=strategy.data.min_current_rows,
            used=choice.used,
            weights=weights,
        )
    if choice.used.windows:
        return detect_seasonal_drift(
            history,
            reference,
            current,
            strategy.drift,
            strategy.data,
            strategy=strategy.name,
            as_of=read.as_of,
            timestamp=timestamp,
            current_window=read.current_window,
            weights=weights,
        )
    return detect_drift(
        reference,
        current,
        strategy.drift,
        strategy=strategy.name,
        as_of=read.as_of,
        reference_window=read.reference_window,
        current_window=read.current_window,
        timestamp=timestamp,
        min_current_rows=strategy.data.min_current_rows,
        history=history,
        used=choice.used,
        findings=choice.findings,
        weights=weights,
    )


def _seasonal(source: FeatureSource, strategy: Strategy, *, as_of: date) -> ReferenceChoice:
    parts = season_windows(as_of, strategy.data)
    if not any(source.count(strategy.name, part) for part in parts):
        years = strategy.data.season_years
        return _trailing(f"there are no rows of this season of {years} earlier years", choice="season")
    return ReferenceChoice(used=ReferenceUsed(choice="season", used="season", windows=parts))


def _trailing(why: str, *, choice: Reference = "champion") -> ReferenceChoice:
    message = f"{why}; compared with the trailing window in its place"
    finding = DataFinding(code="reference_unavailable", column=None, message=message, is_drift=False)
    return ReferenceChoice(used=ReferenceUsed(choice=choice, used="trailing"), findings=(finding,))
