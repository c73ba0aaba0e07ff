"""Two promotions of one strategy at the same moment, on real PostgreSQL and MLflow: one wins, the registry agrees."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pandas as pd
import pytest
import xgboost as xgb

from config.settings import Settings
from mlops.domain.policies import PromotionPolicy
from mlops.domain.promotion.evidence import replay
from mlops.domain.records import Grant, Kind, Promotion, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from mlops.registry.registry import MlflowRegistry
from mlops.runs.approval import approval_request
from mlops.stages.labelled_rows import read_labelled
from mlops.stages.promote import promote
from tests.support.ledgers import TimedLedger, record_file
from tests.support.models import trained_model
from tests.support.services import FEATURES, LAST, FakeServices, panel, small_strategy

_SEEDS = itertools.count()
HOLDOUT = (LAST - timedelta(days=24), LAST - timedelta(days=5))


def services_on(folder: Path, ledger: SqlLedger, mlflow_url: str, name: str, **promotion: Any) -> FakeServices:
    """Real ledger and registry, features in memory."""
    strategy = small_strategy(name, promotion=PromotionPolicy(**{"min_accuracy": 0.0, **promotion}))
    timed = TimedLedger(ledger=ledger, owner=ledger.database, advance=lambda _: None, wipe=lambda: None)
    services = FakeServices(Settings(var_dir=folder / "var", report_dir=folder), timed, {name: strategy}, panel(name))
    vars(services)["registry"] = MlflowRegistry(mlflow_url)
    return services


def registered(services: FakeServices, name: str, *, skill: bool, run_id: str | None = None) -> str:
    """A version that knows the labels, or their opposite; its number. No two have the same bytes."""
    rows = read_labelled(services.source, services.strategies[name], as_of=LAST)
    y = rows.y if skill else 1 - rows.y
    frame = pd.DataFrame(rows.x[:], columns=list(FEATURES))
    how = {"n_estimators": 5, "max_depth": 2, "n_jobs": 1, "subsample": 0.9, "random_state": next(_SEEDS)}
    model = xgb.XGBClassifier(**how).fit(frame, y)
    tags = {
        "training_date": LAST.isoformat(),
        "train_end": (HOLDOUT[0] - timedelta(days=5)).isoformat(),
        "holdout_start": HOLDOUT[0].isoformat(),
        "holdout_end": HOLDOUT[1].isoformat(),
    }
    trained = trained_model(run_id or f"run-{secrets.token_hex(6)}", model_name=f"acis_{name}_classifier")
    trained = replace(trained, model=model, tags=tags, example=frame.head(5), predictions=model.predict(frame.head(5)))
    version = services.registry.log_training(trained)
    record_file(services.ledger, version)
    return version.version


@pytest.fixture
def pair(tmp_path: Path, postgres_url: str, mlflow_url: str) -> Iterator[Callable[..., tuple[str, list[FakeServices]]]]:
    """Two processes' services over one ledger and one registry, and the strategy's name."""
    migrate(postgres_url)
    with ExitStack() as stack:

        def make(**promotion: Any) -> tuple[str, list[FakeServices]]:
            name = f"growth_{secrets.token_hex(4)}"
            both = []
            for _ in range(2):
                ledger = open_ledger(postgres_url)
                stack.callback(ledger.close)
                both.append(services_on(tmp_path, ledger, mlflow_url, name, **promotion))
            return name, both

        yield make


def decide_at_once(
    both: list[FakeServices], grants: list[Grant], monkeypatch: pytest.MonkeyPatch
) -> list[StageOutcome]:
    """Both have compared with the same champion before either commits."""
    compared = Barrier(2, timeout=60)
    for services in both:
        decide, waits = services.ledger.decide, [True]

        def decide_together(
            *asked: Any, decide: Callable[..., Promotion] = decide, waits: list[bool] = waits
        ) -> Promotion:
            if waits.pop() if waits else False:
                compared.wait()
            return decide(*asked)

        monkeypatch.setattr(services.ledger, "decide", decide_together)

    def one(services: FakeServices, grant: Grant) -> StageOutcome:
        outcome = promote(grant, services, services.keeper(grant))
        services.ledger.finish(grant, outcome)
        return outcome

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, both, grants))


def trained_up_to_promotion(services: FakeServices, name: str) -> tuple[Grant, str]:
    """The promote stage of a retraining, and the version that it registered."""
    train = services.granted(Kind.RETRAIN, Stage.TRAIN, name)
    version = registered(services, name, skill=True, run_id=train.run_id)
    services.ledger.finish(
        train, StageOutcome(result={"version": version}, run_state=None, next_stage=Stage.PROMOTE, as_of=LAST)
    )
    return services.claimed(train.run_id, Stage.PROMOTE), version


def test_of_two_better_challengers_one_wins_and_the_other_is_compared_with_the_winner(
    pair: Callable[..., tuple[str, list[FakeServices]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, both = pair()
    first = both[0]
    versions = [registered(first, name, skill=skill) for skill in (False, True)]
    grant = first.granted(Kind.PROMOTE, Stage.PROMOTE, name, version=versions[0])
    first.ledger.finish(grant, promote(grant, first, first.keeper(grant)))

    promoting = first.granted(Kind.PROMOTE, Stage.PROMOTE, name, version=versions[1])
    outcomes = decide_at_once(both, [promoting, trained_up_to_promotion(both[1], name)[0]], monkeypatch)
    by_end = {outcome.run_state: outcome.result for outcome in outcomes}
    won, lost = by_end[RunState.SUCCEEDED], by_end[RunState.REFUSED]
    assert (won["decision"], lost["decision"]) == ("promote", "inconclusive")
    assert f"champion {won['version']} on 20 common dates" in lost["reasons"][0]

    champion = first.ledger.champion(name)
    assert (champion.version, champion.seq) == (won["version"], 2)
    shown = {item.version: (item.stage, item.aliases) for item in first.registry.versions(f"acis_{name}_classifier")}
    assert shown == {
        versions[0]: ("Archived", ()),
        won["version"]: ("Production", ("champion",)),
        lost["version"]: ("Staging", ("challenger",)),
    }
    # What PostgreSQL gives back is what was decided from, to the last byte.
    for promotion in first.ledger.promotions(name):
        again = replay(promotion.evidence, promotion.evidence_digest)
        assert again is not None
        assert again.agrees, again.words


def test_an_approval_that_meets_a_promotion_is_refused_and_changes_nothing(
    pair: Callable[..., tuple[str, list[FakeServices]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, both = pair(approval="manual")
    first, second = both
    versions = [registered(first, name, skill=True) for _ in range(2)]
    proposals = []
    for version in versions:
        grant = first.granted(Kind.PROMOTE, Stage.PROMOTE, name, version=version)
        outcome = promote(grant, first, first.keeper(grant))
        first.ledger.finish(grant, outcome)
        assert outcome.run_state is RunState.AWAITING_APPROVAL
        proposals.append(grant.run_id)
    request = approval_request(
        first.ledger, first.registry, proposals[0], answer="approve", actor="anna", reason="the first"
    )
    approving = first.claimed(first.ledger.accept(request).run_id, Stage.PROMOTE)
    second.with_policy(name, promotion=PromotionPolicy(min_accuracy=0.0))
    promoting, newest = trained_up_to_promotion(second, name)
    approved, promoted = decide_at_once(both, [approving, promoting], monkeypatch)
    champion = first.ledger.champion(name)
    if approved.run_state is RunState.REFUSED:
        assert f"it is {newest} at seq 1 now" in approved.result["reasons"][0]
        assert (champion.version, promoted.run_state) == (newest, RunState.SUCCEEDED)
    else:
        assert (champion.version, promoted.run_state) == (versions[0], RunState.REFUSED)
    in_production = [
        item.version for item in first.registry.versions(f"acis_{name}_classifier") if item.stage == "Production"
    ]
    assert in_production == [champion.version]
