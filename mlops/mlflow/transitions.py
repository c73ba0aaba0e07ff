"""A stage transition that a person asks for: written to the ledger first, then shown in the registry.

Called by the documented client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.invocation import command_line_actor
from mlops.ledger.records import PromotionDecision
from mlops.mlflow.adoption import place_as_of
from mlops.mlflow.projection import project
from mlops.strategies import strategy_of_model
from mlops.training.fingerprint import evidence_digest

if TYPE_CHECKING:
    from mlops.ledger.records import Promotion
    from mlops.ports import Ledger, ModelRegistry


def record_and_show(
    ledger: Ledger, registry: ModelRegistry, *, model_name: str, version: str, stage: str, reason: str
) -> Promotion:
    """Commit the transition as a promotion by this user, then project it.

    Raises LedgerUnavailable, RegistryUnavailable, ModelNotFound, VersionNotFound, ChampionMoved.
    """
    found = registry.version(model_name, version)  # a version that is not there must not become the champion
    strategy = strategy_of_model(model_name)
    champion = ledger.champion(strategy)
    evidence = {"kind": "transition", "from": champion.version, "to": version, "stage": stage, "reason": reason}
    decision = PromotionDecision(
        decision="transition",
        version=version,
        model_name=model_name,
        reasons=(reason,),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=command_line_actor(),
        target_stage=stage,
        expected_seq=champion.seq,
        as_of=place_as_of(champion, found) if stage == "Production" else champion.as_of,
    )
    promotion = ledger.record_transition(strategy, decision)
    project(promotion, registry, ledger)
    return promotion
