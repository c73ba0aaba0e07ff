"""Two versions beside each other, as a run on a worker: metrics, parameters, importance, the paired test.

Safe to run twice: nothing is decided, and nothing is written but the stage's own result.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlops.domain.errors import RegistryError
from mlops.domain.records import RunState, StageOutcome
from mlops.stages.version_comparison import compare_versions

if TYPE_CHECKING:
    from datetime import date

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, ModelRegistry, ModelVersion
    from mlops.domain.records import Grant


def compare(
    grant: Grant, registry: ModelRegistry, source: FeatureSource, strategy: Strategy, *, today: date
) -> StageOutcome:
    """Version `second` of the parameters beside `first`. Raises what the registry and the features raise."""
    first, second = str(grant.params["first"]), str(grant.params["second"])
    found = compare_versions(registry, source, strategy, first, second, today=today)
    result = {
        "first": _side(registry, found.champion),
        "second": _side(registry, found.challenger),
        "test": asdict(found.test) if found.test else None,
        "words": found.words,
        "findings": list(found.findings),
    }
    return StageOutcome(result=result, run_state=RunState.SUCCEEDED, as_of=grant.as_of)


def _side(registry: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    try:
        facts = registry.training_facts(version)
    except RegistryError:
        params, importance = {}, {}
    else:
        params, importance = dict(facts.params), dict(facts.importance)
    return {
        "version": version.version,
        "stage": version.stage,
        "metrics": dict(version.metrics),
        "params": params,
        "importance": importance,
        "trained_at": version.created_at.isoformat(),
    }
