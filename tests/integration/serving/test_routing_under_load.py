"""Twenty rollbacks and two hundred changes of share, while a router's threads and the service's callers ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from mlops.domain.experiments.decision import Mode
from mlops.domain.experiments.records import Experiment
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import MODEL, key_of
from mlops.serving.router import ModelRouter
from tests.support.ledgers import decision_for
from tests.support.prediction_service import (
    FEATURES,
    Service,
    made_token,
    model_file,
    rows_of,
    service_settings,
)
from tests.support.routing_load import N_ROLLBACKS, N_SHARES, VERSIONS, RoutingLoad
from tests.support.serving import identity_of, new_experiment

CONTENT = {version: model_file(int(version)) for version in VERSIONS}
_SERVICE_FOLLOWS_S = 5.0
"""It asks once a second."""


class Ledger:
    """The writing side of a real ledger."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger, self._made = ledger, -1

    def place(self, version: str) -> None:
        """Make it the champion."""
        seq = self._ledger.champion("growth").seq
        decision = decision_for(version, expected_seq=seq, identity=identity_of(CONTENT[version]))
        self._ledger.record_transition("growth", decision)

    def start(self, challenger: str, steps: tuple[float, ...], number: int) -> Experiment:
        """Start a canary."""
        champion = self._ledger.champion("growth")
        assert champion.version is not None
        made = self._ledger.start_experiment(
            new_experiment(
                CONTENT[challenger],
                version=challenger,
                champion_version=champion.version,
                champion_seq=champion.seq,
                mode=Mode.CANARY,
                steps=steps,
                number=number,
            )
        )
        self._made = made.id
        return made

    def advance(self) -> Experiment:
        """Give the challenger its next share."""
        return self._ledger.steer_experiment(self._made, "advance", by="test", reason="load")


def test_rollbacks_and_changes_of_share_under_load_fail_no_request_and_move_the_fewest_keys(
    postgres_database: Callable[[], str], tmp_path: Path
) -> None:
    url = postgres_database()
    migrate(url)
    settings = service_settings(url, tmp_path / "var", checkpoint_url=str(tmp_path / "models"))
    for content in CONTENT.values():
        CheckpointStore(settings.checkpoint_place).keep_model(key_of(identity_of(content)), {MODEL: content})
    rows = rows_of(500)
    frame = pd.DataFrame(rows, columns=list(FEATURES), dtype=np.float32)
    load = RoutingLoad(frame, {version: _probabilities(content, frame) for version, content in CONTENT.items()})
    ledger = open_ledger(url)
    product = Ledger(ledger)
    product.place(VERSIONS[0])

    def over_http(number: int) -> list[tuple[int, str, str, float]]:
        first = number * 10 % 500
        answer = service.predict(rows[first : first + 10], keys=load.keys[first : first + 10])
        assert answer.status == 200, answer.body
        told = zip(answer.body["versions"], answer.body["variants"], answer.body["probability"], strict=True)
        return [(first + place, *of) for place, of in enumerate(told)]

    with (
        Service(settings, tmp_path / "serve.log", token=made_token(ledger)) as service,
        ModelRouter("growth", settings=settings, poll_s=1e9) as router,
    ):
        load.begin(VERSIONS[0])
        load.ask(load.one_by_one(router))
        load.ask(load.in_frames(router))
        load.ask(over_http, slack_s=_SERVICE_FOLLOWS_S)
        load.ask(over_http, slack_s=_SERVICE_FOLLOWS_S)
        load.drive(product, router)
        found = load.end()
    assert found.faults == []
    assert (found.n_rollbacks, found.n_shares) == (N_ROLLBACKS, N_SHARES)
    assert found.n_moved == found.n_fewest  # none that it need not
    # Each key's position is uniform: the sum of 20 experiments' keys above the first share, whose spread is 10.
    assert abs(found.n_moved - found.expected_moved) < 5 * np.sqrt(N_ROLLBACKS * 500 * 0.01 * 0.99)
    assert found.n_answers > 1000
    ends = ledger.experiments("growth", limit=N_ROLLBACKS + 1)
    assert len(ends) == N_ROLLBACKS
    assert not any(one.is_running for one in ends)
    ledger.close()


def _probabilities(content: bytes, frame: pd.DataFrame) -> Any:
    booster = xgb.Booster()
    booster.load_model(bytearray(content))
    return booster.inplace_predict(frame.to_numpy(), missing=np.nan, validate_features=False)
