"""What is predicted beside the champion: by the running experiment's challenger and by watched former champions.

Each is a batch of its own, written once, with an id that follows from the run's. What keeps one of them from answering
is in the run's result and never spoils the champion's predictions, which are in the ledger by then. A model is loaded,
asked and let go before the next: at no time are two of them in memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from mlops.domain.errors import LeaseLost, StageCancelled
from mlops.domain.live.rows import row_digests
from mlops.domain.ports import Window
from mlops.domain.training.metrics import THRESHOLD
from mlops.runs.lease import Drained
from mlops.stages.live.pairs import CHALLENGER, FORMER
from mlops.stages.live.served_champion import load_version
from mlops.stages.live.universe import ORIGIN, matrix_of, predictions_of, read_universe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.promotion.records import Champion, ModelIdentity, Promotion
    from mlops.domain.records import Grant
    from mlops.ledger.ledger import SqlLedger
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.live.pairs import Pairs
    from mlops.stages.table import StageServices

log = structlog.get_logger(__name__)

_RECENT_DECISIONS = 200
"""Among which the champion's own is looked for."""


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """A version that predicts beside the champion."""

    variant: str
    version: str
    identity: ModelIdentity


def predict_beside(
    grant: Grant,
    services: StageServices,
    keeper: LeaseKeeper,
    strategy: Strategy,
    as_of: date,
    *,
    champion_features: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """Let them predict the date; a line for each: variant, version, rows and missing values, or why there are none.

    champion_features : None where the champion was not loaded, as by a second try
    Raises LeaseLost, StageCancelled, Drained.
    """
    found: list[dict[str, Any]] = []
    try:
        champion = services.ledger.champion(strategy.name, namespace=grant.namespace)
        others = _versions(services, strategy, champion, as_of, namespace=grant.namespace)
    except Exception as exc:  # noqa: BLE001 -- the champion's predictions stand, whatever it is
        log.warning("predict.beside_not_known", error=str(exc), next="the champion's predictions stand")
        return [{"variant": CHALLENGER, "version": None, "why_not": f"who predicts beside is not known: {exc}"}]
    for one in others:
        keeper.check()
        said = {"variant": one.variant, "version": one.version, "model_sha256": one.identity.sha256}
        try:
            if grant.attempt >= strategy.execution.max_attempts > 1:
                # A model that ends the process would otherwise cost the run, with the champion's predictions in it.
                found.append(said | {"why_not": f"not asked in the last of {grant.attempt} tries"})
                continue
            found.append(said | _predicted(grant, services, keeper, strategy, champion, one, as_of, champion_features))
        except (LeaseLost, StageCancelled, Drained):
            raise
        except Exception as exc:  # noqa: BLE001 -- as above
            log.warning(
                "predict.beside_failed",
                variant=one.variant,
                version=one.version,
                error=str(exc),
                next="the champion's predictions stand",
            )
            found.append(said | {"why_not": str(exc) or type(exc).__name__})
    return found


def _versions(
    services: StageServices, strategy: Strategy, champion: Champion, as_of: date, *, namespace: str
) -> list[_Beside]:
    experiment = services.ledger.running_experiment(strategy.name, namespace=namespace)
    found = []
    if experiment is not None:
        found.append(_Beside(variant=CHALLENGER, version=experiment.challenger_version, identity=experiment.challenger))
    formers = watched_formers(services.ledger, services.source, strategy, champion, as_of, namespace=namespace)
    return [*found, *(_Beside(variant=FORMER, version=one.version, identity=one.identity) for one in formers)]


def watched_formers(
    ledger: SqlLedger,
    source: FeatureSource,
    strategy: Strategy,
    champion: Champion,
    as_of: date,
    *,
    namespace: str,
) -> list[Promotion]:
    """Former champions that go on predicting, newest first: `watched_former` of them, for `watch_days` dates."""
    policy = strategy.experiments
    if not policy.watched_former or champion.version is None:
        return []
    since = promoted_on(ledger, champion, as_of)
    if since is None or len(source.dates(strategy.name, Window(start=since, end=as_of))) > policy.watch_days:
        return []
    former = ledger.former_champions(strategy.name, namespace=namespace)
    return [one for one in former if one.identity.sha256 is not None][: policy.watched_former]


def promoted_on(ledger: SqlLedger, champion: Champion, as_of: date) -> date | None:
    """Give the day on which the champion took its place; where a past is played again, its place's date."""
    recent = ledger.promotions(champion.strategy, limit=_RECENT_DECISIONS, namespace=champion.namespace)
    made = next((one.created_at.date() for one in recent if one.id == champion.promotion_id), None)
    return made if made is not None and made <= as_of else champion.as_of


def _predicted(
    grant: Grant,
    services: StageServices,
    keeper: LeaseKeeper,
    strategy: Strategy,
    champion: Champion,
    one: _Beside,
    as_of: date,
    champion_features: Sequence[str] | None,
) -> dict[str, Any]:
    """Raises what loading a version and reading its rows raises."""
    said = services.ledger.prediction_days(strategy.name, as_of, as_of, namespace=grant.namespace)
    served = load_version(services.registry, strategy, one.version, one.identity, seq=champion.seq)
    why_not = served.why_not_predict(as_of)
    if why_not is not None:
        return {"why_not": why_not}
    model = served.model
    rows = read_universe(services.source, strategy, model.features, as_of)
    x = matrix_of(rows, model.features)
    probability = np.asarray(model.predictor.probabilities(x))
    is_there = any(
        day.model_sha256 == model.sha256 and day.variant == one.variant and day.n_tickers >= len(rows) for day in said
    )
    if not is_there:
        table = predictions_of(services, model, rows, as_of, probability, row_digests(x), variant=one.variant)
        keeper.check_before_write()
        batch_id = hashlib.sha256(f"{grant.run_id}/{one.variant}/{model.sha256}".encode()).hexdigest()
        services.ledger.write_predictions(batch_id, ORIGIN, table, namespace=grant.namespace, fence=grant)
    return {
        "n_rows": len(rows),
        "positive_share": float(np.mean(probability >= THRESHOLD)),
        "missing_share": _missing(x),
        "champion_missing_share": None
        if champion_features is None
        else _missing(matrix_of(read_universe(services.source, strategy, champion_features, as_of), champion_features)),
        "why_not": None,
    }


def _missing(x: np.ndarray[Any, Any]) -> float:
    """Share of the values that a model reads and are not there."""
    return float(np.isnan(x).mean()) if x.size else 0.0


def missing_shares(
    ledger: SqlLedger, strategy: str, pairs: Pairs, *, variant: str, sha256: str | None, namespace: str
) -> tuple[float, float, int] | None:
    """Share of missing values among what the version reads, and what the champion does, and of how many rows.

    As the runs that predicted the paired dates counted them; None where none of them did.
    """
    if not len(pairs.dates):
        return None
    by_date = {
        run.as_of: line
        for run in ledger.predict_runs([strategy], since=pairs.dates[0].item(), namespace=namespace)
        for line in run.beside or ()
        if (line.get("variant"), line.get("model_sha256")) == (variant, sha256)
        and line.get("champion_missing_share") is not None
    }
    n_rows = [int(line["n_rows"]) for line in by_date.values()]
    if not sum(n_rows):
        return None
    own, champions = (
        float(np.average([line[name] for line in by_date.values()], weights=n_rows))
        for name in ("missing_share", "champion_missing_share")
    )
    return own, champions, sum(n_rows)
