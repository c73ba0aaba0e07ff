"""A router on real PostgreSQL and MLflow: it follows the ledger, and goes on without either."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from sqlalchemy import make_url

from config.settings import Settings
from mlops.domain.errors import LedgerUnavailable, NoChampion, UnusableModelFile
from mlops.domain.live.rows import row_digests
from mlops.domain.records import ModelIdentity
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import Keeper
from mlops.registry.opening import ModelServices
from mlops.registry.registry import MlflowRegistry
from mlops.serving.router import ModelRouter
from mlops.strategies.file import Strategies
from tests.chaos.proxy import FaultyProxy
from tests.support.ledgers import TimedLedger, decision_for
from tests.support.models import FEATURES, fitted, trained_model, training_data
from tests.support.services import small_strategy
from tests.support.waiting import wait_for

DATA = training_data()
FRAME = pd.DataFrame(DATA.x, columns=list(FEATURES))
NEVER_S = 1e9


class Product:
    """The writing side: versions in MLflow, champions in the ledger."""

    def __init__(self, ledger: SqlLedger, registry: MlflowRegistry, folder: Path) -> None:
        self.ledger, self.registry = ledger, registry
        self.strategy = f"s{secrets.token_hex(4)}"
        self.model_name = f"acis_{self.strategy}_classifier"
        self.checkpoints = str(folder / "checkpoints")
        self.models: dict[str, xgb.XGBClassifier] = {}

    def train(self, *, rounds: int) -> str:
        """A version's number."""
        model = fitted(DATA, rounds=rounds)
        found = self.registry.log_training(
            trained_model(f"run-{secrets.token_hex(6)}", model_name=self.model_name, model=model)
        )
        self.models[found.version] = model
        return found.version

    def place(self, version: str, *, sha256: str | None = None, stage: str = "Production") -> None:
        """Make a version the champion, known by its bytes unless others are said."""
        identity = self.registry.version(self.model_name, version).identity
        decision = decision_for(
            version,
            expected_seq=self.ledger.champion(self.strategy).seq,
            model_name=self.model_name,
            identity=ModelIdentity(sha256=sha256 or identity.sha256, made_by=identity.made_by),
            target_stage=stage,
        )
        self.ledger.record_transition(self.strategy, decision)

    def keep(self, version: str) -> None:
        """Keep its model beside the registry, as the promote stage does."""
        services = self.services(Settings(var_dir=Path(self.checkpoints)), self.ledger, self.registry)
        Keeper().keep(services, self.ledger.champion(self.strategy), self.registry.version(self.model_name, version))

    def services(self, settings: Settings, ledger: SqlLedger, registry: MlflowRegistry) -> Any:
        """Services over these adapters."""
        found = ModelServices(settings)
        vars(found).update(
            strategies=Strategies({self.strategy: small_strategy(self.strategy)}),
            ledger=ledger,
            registry=registry,
            checkpoints=CheckpointStore(self.checkpoints),
        )
        return found

    def probability(self, version: str) -> np.ndarray:
        """What the version's own training would say."""
        return np.asarray(self.models[version].predict_proba(FRAME)[:, 1])


@pytest.fixture
def product(timed: TimedLedger, mlflow_url: str, tmp_path: Path) -> Product:
    return Product(timed.ledger, MlflowRegistry(mlflow_url), tmp_path)


class Network:
    """PostgreSQL and MLflow as a backend reaches them; a test takes them away."""

    def __init__(self, postgres: FaultyProxy, mlflow: FaultyProxy) -> None:
        self.postgres, self.mlflow = postgres, mlflow

    def refuse(self) -> None:
        """Neither answers."""
        self.postgres.refuse()
        self.mlflow.refuse()


@pytest.fixture
def network(ledger_postgres_url: str, mlflow_url: str) -> Iterator[Network]:
    with (
        FaultyProxy(make_url(ledger_postgres_url).port or 0) as postgres,
        FaultyProxy(make_url(mlflow_url).port or 0) as mlflow,
    ):
        yield Network(postgres, mlflow)


@pytest.fixture
def backend(
    product: Product, network: Network, ledger_postgres_url: str, mlflow_url: str, tmp_path: Path
) -> Callable[..., Any]:
    """Opens a router as a backend's process does, behind the network."""
    url = make_url(ledger_postgres_url).set(host="127.0.0.1", port=network.postgres.port)
    registry_url = make_url(mlflow_url).set(host="127.0.0.1", port=network.mlflow.port)

    @contextmanager
    def opened(**options: Any) -> Iterator[ModelRouter]:
        address = url.render_as_string(hide_password=False)
        ledger = open_ledger(address)
        settings = Settings(var_dir=tmp_path / "var", database_url=address)
        services = product.services(
            settings, ledger, MlflowRegistry(registry_url.render_as_string(hide_password=False))
        )
        try:
            with ModelRouter(product.strategy, services=services, **{"poll_s": NEVER_S, **options}) as router:
                yield router
        finally:
            ledger.close()

    return opened


def test_a_promotion_and_a_rollback_are_followed_within_five_seconds(
    product: Product, backend: Callable[..., Any]
) -> None:
    first, second = product.train(rounds=5), product.train(rounds=9)
    product.place(first)
    with backend(poll_s=1.0) as router:
        np.testing.assert_array_equal(router.predict(FRAME).probability, product.probability(first))
        for version in (second, first):
            product.place(version)
            took = wait_for(lambda version=version: router.model.version == version, "the swap", within_s=60)
            np.testing.assert_array_equal(router.predict(FRAME).probability, product.probability(version))
            assert took < 5


def test_without_servers_a_restart_answers_from_its_copy(
    product: Product, backend: Callable[..., Any], network: Network
) -> None:
    version = product.train(rounds=5)
    product.place(version)
    with backend() as router:
        expected = router.predict(FRAME).probability
        network.refuse()
        router.follow()
        np.testing.assert_array_equal(router.predict(FRAME).probability, expected)
        assert "does not answer" in (router.status().problem or "")
    with backend() as router:
        np.testing.assert_array_equal(router.predict(FRAME).probability, expected)
        status = router.status()
        assert (status.version, status.confirmed_age_s is not None) == (version, True)
        network.postgres.pass_on()
        router.follow()
        assert router.status().problem is None


def test_without_mlflow_a_promoted_model_is_found_beside_it(
    product: Product, backend: Callable[..., Any], network: Network
) -> None:
    first, second = product.train(rounds=5), product.train(rounds=9)
    product.place(first)
    with backend() as router:
        network.mlflow.refuse()
        product.place(second)
        router.follow()
        assert router.predict(FRAME).version == first
        assert "MLflow" in (router.status().problem or "")
    product.keep(second)
    with backend() as router:
        np.testing.assert_array_equal(router.predict(FRAME).probability, product.probability(second))


def test_a_model_of_another_digest_in_mlflow_is_refused_and_the_champion_of_before_kept(
    product: Product, backend: Callable[..., Any]
) -> None:
    first, second = product.train(rounds=5), product.train(rounds=9)
    product.place(first)
    with backend() as router:
        product.place(second, sha256=hashlib.sha256(b"other bytes").hexdigest())
        router.follow()
        assert router.predict(FRAME).version == first
        assert "another model" in (router.status().problem or "")
    with backend() as restarted:
        # Whoever starts now has the copy of before, and says that it is not the champion.
        status = restarted.status()
        assert (status.version, "another model" in (status.problem or "")) == (first, True)


def test_a_file_that_was_changed_in_the_artifact_store_is_refused(
    product: Product, backend: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = product.train(rounds=5)
    product.place(version)
    content = product.registry.model_file(product.model_name, version)
    monkeypatch.setattr(MlflowRegistry, "model_file", lambda *_: content[:-9] + b"x" + content[-8:])
    with backend() as router, pytest.raises(UnusableModelFile, match="it was changed after it was logged"):
        router.predict(FRAME)


def test_a_strategy_that_has_no_champion_any_more_says_so(product: Product, backend: Callable[..., Any]) -> None:
    with backend() as router:
        with pytest.raises(NoChampion, match="has no champion;"):
            router.predict(FRAME)
        version = product.train(rounds=5)
        product.place(version)
        router.follow()
        assert router.predict(FRAME).version == version
        product.place(version, stage="Archived")
        router.follow()
        with pytest.raises(NoChampion, match="it was taken out of production"):
            router.predict(FRAME)


def test_a_first_start_without_a_ledger_says_what_is_away(
    product: Product, backend: Callable[..., Any], network: Network
) -> None:
    product.place(product.train(rounds=5))
    network.refuse()
    with backend() as router, pytest.raises(LedgerUnavailable):
        router.predict(FRAME)


def test_answers_with_ticker_and_date_reach_the_ledger(product: Product, backend: Callable[..., Any]) -> None:
    version = product.train(rounds=5)
    product.place(version)
    day = date(2026, 6, 1)  # no month that housekeeping would drop from under other tests
    with backend() as router:
        router.predict(FRAME.head(3), tickers=["A", "B", "C"], as_of=day)
        answer = router.predict_one(FRAME.iloc[3], ticker="D", as_of=day)
        router.flush()
    found = product.ledger.predictions(product.strategy, day, day)
    assert sorted(found.column("ticker").to_pylist()) == ["A", "B", "C", "D"]
    assert set(found.column("version").to_pylist()) == {version}
    (row,) = (one for one in found.to_pylist() if one["ticker"] == "D")
    assert row["probability"] == answer.probability
    assert [row["row_digest"]] == row_digests(FRAME.iloc[3:4].to_numpy())
