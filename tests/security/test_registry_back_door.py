"""Whoever may write to MLflow and to its artifact store makes no champion, and nobody is served a model of theirs.

The attacker here has all rights in MLflow (aliases, stages, tags, versions) and may swap any file of the store. Ledger,
MLflow and router are the real ones; the reconciler's passes are taken one by one, and once at their own pace.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from admin.alerts import alerts_of_registry
from config.settings import Settings
from mlops.domain.errors import InvalidTransition, RegistryError, UnrecordedModelFile, UnusableModelFile
from mlops.domain.policies import PromotionPolicy, model_name_of
from mlops.domain.ports import Evidence, ModelVersion
from mlops.ledger.ledger import SqlLedger
from mlops.mlflow.mlflow_client import ACISMLflowClient
from mlops.registry.adoption import record_version
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import restore
from mlops.registry.opening import ModelServices
from mlops.registry.projection import record_and_show
from mlops.registry.registry import MlflowRegistry
from mlops.registry.repair import SOON_S, RegistryRepair
from mlops.serving.router import ModelRouter
from mlops.stages.live.served_champion import load_champion
from mlops.strategies.file import Strategies
from tests.support.ledgers import TimedLedger, decision_for, record_file
from tests.support.models import FEATURES, fitted, trained_model, training_data
from tests.support.services import small_strategy
from tests.support.waiting import wait_for
from worker.reconciler import registry_threads

pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage.*:FutureWarning")
DATA = training_data()
FRAME = pd.DataFrame(DATA.x, columns=list(FEATURES))
NEVER_S = 1e9
WITHIN_S = 60.0
"""After so long nothing is left of what somebody changed in MLflow."""
N_STRATEGIES = 40


@dataclass
class Product:
    """Two strategies with a champion each, in ledger and MLflow, and passes of the reconciler by a clock of the test."""

    services: Any
    client: MlflowClient
    """The attacker's"""
    folder: Path
    """Of MLflow's artifacts"""
    passed_s: float = 0.0
    repair: RegistryRepair = field(init=False)

    def __post_init__(self) -> None:
        self.repair = RegistryRepair(monotonic=lambda: self.passed_s)

    @property
    def ledger(self) -> SqlLedger:
        return self.services.ledger  # type: ignore[no-any-return]

    @property
    def registry(self) -> MlflowRegistry:
        return self.services.registry  # type: ignore[no-any-return]

    @property
    def names(self) -> list[str]:
        return list(self.services.strategies)

    def follow_policy(self, promotion: PromotionPolicy) -> None:
        found = {name: replace(strategy, promotion=promotion) for name, strategy in self.services.strategies.items()}
        vars(self.services)["strategies"] = Strategies(found)

    def logged(self, strategy: str, *, rounds: int) -> ModelVersion:
        """A version with a run, of which the ledger has nothing."""
        run_id = f"run-{secrets.token_hex(6)}"
        model = fitted(DATA, rounds=rounds)
        return self.registry.log_training(trained_model(run_id, model_name=model_name_of(strategy), model=model))

    def trained(self, strategy: str, *, rounds: int, decision: str, stage: str) -> ModelVersion:
        """A version that a training of this ledger registered, and that it decided about."""
        version = self.logged(strategy, rounds=rounds)
        record_file(self.ledger, version)
        seq = self.ledger.champion(strategy).seq
        reasons = ("accuracy missed its gate",) if decision == "refuse" else ("better",)
        found = self.ledger.record_transition(
            strategy,
            decision_for(
                version.version,
                expected_seq=seq,
                model_name=version.name,
                decision=decision,
                target_stage=stage,
                identity=version.identity,
                reasons=reasons,
            ),
        )
        self.registry.apply_stage(version.name, version.version, stage, seq=found.seq, tags={})
        self.ledger.projected(found.id)
        return self.registry.version(version.name, version.version)

    def copied(self, version: ModelVersion, strategy: str, tags: Mapping[str, str]) -> Any:
        """Its file as a version without a run, with tags of the attacker's choice; the library's own object."""
        name, model_id = model_name_of(strategy), version.tags["acis.model_id"]
        return self.client.create_model_version(name, source=version.source, tags=dict(tags), model_id=model_id)

    def swap_file(self, version: ModelVersion) -> None:
        """Another model in place of the version's, and the tags that said what it was."""
        (file,) = self.folder.rglob(f"{version.tags['acis.model_id']}/artifacts/model.ubj")
        fitted(DATA, rounds=1).save_model(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.client.set_model_version_tag(version.name, version.version, "acis.model_sha256", digest)
        self.client.set_tag(version.run_id, "acis.model_sha256", digest)

    def make_champion(self, version: ModelVersion) -> None:
        """By the alias alone, as one request does it."""
        self.client.set_registered_model_alias(version.name, "champion", version.version)

    def shown(self, strategy: str) -> tuple[list[str], list[str]]:
        """Versions in Production, and with the alias."""
        versions = self.registry.versions(model_name_of(strategy))
        return (
            [item.version for item in versions if item.stage == "Production"],
            [item.version for item in versions if "champion" in item.aliases],
        )

    def pass_a_minute(self, *, each: Callable[[], object] = lambda: None) -> None:
        """Let the reconciler look as often as it does in a minute; `each`: before each look."""
        for _ in range(int(WITHIN_S / SOON_S)):
            each()
            self.repair.step(self.services)
            self.passed_s += SOON_S

    def alerts(self) -> list[str]:
        """What the page's overview says of the registry."""
        return [alert.words for alert in alerts_of_registry(self.ledger)]


def services_of(ledger: SqlLedger, mlflow_url: str, names: list[str], folder: Path) -> Any:
    """Services with default settings over these servers."""
    found = ModelServices(Settings(var_dir=folder, mlflow_tracking_uri=mlflow_url))  # type: ignore[arg-type]
    vars(found).update(
        strategies=Strategies({name: small_strategy(name, promotion=PromotionPolicy()) for name in names}),
        ledger=ledger,
        registry=MlflowRegistry(mlflow_url),
        checkpoints=CheckpointStore(str(folder / "checkpoints")),
    )
    return found


@pytest.fixture
def product(timed: TimedLedger, mlflow_url: str, servers_folder: Path, tmp_path: Path) -> Product:
    names = [f"s{secrets.token_hex(4)}" for _ in range(2)]
    services = services_of(timed.ledger, mlflow_url, names, tmp_path)
    product = Product(services=services, client=MlflowClient(mlflow_url), folder=servers_folder)
    product.trained(names[0], rounds=5, decision="promote", stage="Production")
    return product


def to_a_refused_version(product: Product, strategy: str) -> None:
    product.make_champion(product.trained(strategy, rounds=2, decision="refuse", stage="Archived"))


def to_a_refused_version_by_its_stage(product: Product, strategy: str) -> None:
    refused = product.trained(strategy, rounds=2, decision="refuse", stage="Archived")
    product.client.transition_model_version_stage(refused.name, refused.version, "Production")


def to_a_foreign_model_with_a_run(product: Product, strategy: str) -> None:
    product.make_champion(product.logged(strategy, rounds=3))


def to_a_foreign_model_without_a_run(product: Product, strategy: str) -> None:
    made = product.copied(product.logged(strategy, rounds=3), strategy, {})
    product.client.set_registered_model_alias(made.name, "champion", made.version)


def to_a_foreign_model_with_the_tags_of_a_judged_one(product: Product, strategy: str) -> None:
    judged = product.trained(strategy, rounds=7, decision="inconclusive", stage="Staging")
    made = product.copied(product.logged(strategy, rounds=3), strategy, judged.tags)
    product.client.set_registered_model_alias(made.name, "champion", made.version)


def to_a_judged_version_whose_file_was_swapped(product: Product, strategy: str) -> None:
    judged = product.trained(strategy, rounds=7, decision="inconclusive", stage="Staging")
    product.swap_file(judged)
    product.make_champion(judged)


def to_nothing(product: Product, strategy: str) -> None:
    product.client.delete_registered_model_alias(model_name_of(strategy), "champion")


def out_of_production(product: Product, strategy: str) -> None:
    champion = product.ledger.champion(strategy).version
    product.client.transition_model_version_stage(model_name_of(strategy), str(champion), "Archived")


@pytest.mark.parametrize(
    ("moved", "found"),
    [
        (to_a_refused_version, "it was refused: accuracy missed its gate"),
        (to_a_refused_version_by_its_stage, "it was refused: accuracy missed its gate"),
        (to_a_foreign_model_with_a_run, "the ledger has none"),
        (to_a_foreign_model_without_a_run, "the ledger has none"),
        (to_a_foreign_model_with_the_tags_of_a_judged_one, "the ledger has none"),
        (to_a_judged_version_whose_file_was_swapped, "it was changed after it was logged"),
        (to_nothing, "MLflow did not show the champion"),
        (out_of_production, "MLflow did not show the champion"),
    ],
)
def test_what_was_not_judged_is_taken_back_within_a_minute_and_never_served(
    product: Product, moved: Callable[[Product, str], None], found: str
) -> None:
    # The policy that would adopt: by default everything is taken back.
    product.follow_policy(PromotionPolicy(manual_changes="adopt"))
    strategy = product.names[0]
    before = product.ledger.champion(strategy)
    with ModelRouter(strategy, services=product.services, poll_s=NEVER_S) as router:
        expected = router.predict(FRAME).probability
        moved(product, strategy)
        product.pass_a_minute(each=lambda: (router.follow(), router.model.sha256 == before.identity.sha256))
        assert router.model.sha256 == before.identity.sha256
        np.testing.assert_array_equal(router.predict(FRAME).probability, expected)
    assert product.ledger.champion(strategy) == before
    assert product.shown(strategy) == ([before.version], [before.version])
    (said,) = product.alerts()
    assert found in said
    assert strategy in said
    assert f"the ledger has champion {before.version}" in said
    (line,) = product.ledger.audit_lines(action="registry.reverted")
    assert (line.actor, line.subject) == ("reconciler", strategy)


def test_a_judged_version_is_adopted_only_where_the_policy_says_so_with_audit_and_alert(product: Product) -> None:
    strategy = product.names[0]
    judged = product.trained(strategy, rounds=7, decision="inconclusive", stage="Staging")
    product.make_champion(judged)
    product.pass_a_minute()
    assert product.shown(strategy) == (["1"], ["1"])
    assert "it was judged (inconclusive) and not refused. It was taken back" in product.alerts()[0]
    product.follow_policy(PromotionPolicy(manual_changes="adopt"))
    product.make_champion(judged)
    product.pass_a_minute()
    champion = product.ledger.champion(strategy)
    assert (champion.version, champion.identity.sha256) == (judged.version, judged.identity.sha256)
    assert product.shown(strategy) == ([judged.version], [judged.version])
    assert "was adopted" in product.alerts()[0]
    assert product.ledger.audit_lines(action="registry.adopted")[0].detail == {"shown": "2", "champion": "1"}


def test_a_strategy_without_a_champion_gets_none_from_mlflow(product: Product) -> None:
    product.follow_policy(PromotionPolicy(manual_changes="adopt"))
    strategy = product.names[1]
    to_a_foreign_model_with_a_run(product, strategy)
    product.pass_a_minute()
    assert product.ledger.champion(strategy).version is None
    assert product.shown(strategy) == ([], [])
    assert "the ledger has no champion" in product.alerts()[0]


def test_a_champion_whose_version_was_deleted_is_served_on_and_comes_back_in_place_of_what_was_put_there(
    product: Product,
) -> None:
    strategy = product.names[0]
    before = product.ledger.champion(strategy)
    product.pass_a_minute()  # keeps its file
    foreign = product.logged(strategy, rounds=3)
    product.client.delete_model_version(foreign.name, str(before.version))
    product.make_champion(foreign)
    product.pass_a_minute()
    assert product.shown(strategy) == ([], [])
    missing, changed = product.alerts()
    assert f"champion 1 of '{strategy}'" in missing
    assert "is not in the registry" in missing
    assert f"version {foreign.version} of '{strategy}'" in changed
    with ModelRouter(strategy, services=product.services, poll_s=NEVER_S) as router:
        assert router.model.sha256 == before.identity.sha256
    restored = restore(product.services, product.services.strategies[strategy], actor="ada", reason="deleted")
    assert restored.state == "restored"
    after = product.ledger.champion(strategy)
    assert (after.identity, product.shown(strategy)) == (before.identity, ([after.version], [after.version]))
    served = load_champion(product.registry, product.services.strategies[strategy], after)
    assert served.model.sha256 == before.identity.sha256


def test_two_changes_at_once_are_both_taken_back(product: Product) -> None:
    one, two = product.names
    product.trained(two, rounds=6, decision="promote", stage="Production")
    to_a_refused_version(product, one)
    to_a_foreign_model_with_a_run(product, two)
    refused = product.registry.version(model_name_of(one), "2")
    product.client.transition_model_version_stage(refused.name, refused.version, "Production")
    product.pass_a_minute()
    assert product.shown(one) == product.shown(two) == (["1"], ["1"])
    assert sorted(strategy for strategy in product.names for said in product.alerts() if strategy in said) == sorted(
        product.names
    )


def test_whoever_repeats_it_every_second_gets_one_alert_that_counts(product: Product) -> None:
    strategy = product.names[0]
    refused = product.trained(strategy, rounds=2, decision="refuse", stage="Archived")
    product.pass_a_minute(each=lambda: product.make_champion(refused))
    (change,) = product.ledger.changes_by_hand(within_s=3600)
    assert change.n_times >= (WITHIN_S - 30) / SOON_S
    assert len(product.ledger.audit_lines(action="registry.reverted")) == 1
    assert f"{change.n_times} times since" in product.alerts()[0]
    product.pass_a_minute()
    assert product.shown(strategy) == (["1"], ["1"])


def test_one_of_forty_strategies_is_taken_back_within_a_minute_at_the_reconcilers_own_pace(
    timed: TimedLedger, mlflow_url: str, servers_folder: Path, tmp_path: Path
) -> None:
    names = [f"p{place:02}{secrets.token_hex(3)}" for place in range(N_STRATEGIES)]
    services = services_of(timed.ledger, mlflow_url, names, tmp_path)
    product = Product(services=services, client=MlflowClient(mlflow_url), folder=servers_folder)
    first = product.trained(names[0], rounds=5, decision="promote", stage="Production")
    for name in names[1:]:  # the same file under another name
        product.client.create_registered_model(model_name_of(name))
        made = product.copied(first, name, first.tags)
        product.client.transition_model_version_stage(made.name, made.version, "Production")
        product.client.set_registered_model_alias(made.name, "champion", made.version)
        decision = decision_for(made.version, model_name=made.name, identity=first.identity)
        timed.ledger.projected(timed.ledger.record_transition(name, decision).id)
    leads, stop = threading.Event(), threading.Event()
    leads.set()
    watch, _ = registry_threads(services, leads=leads, stop=stop)
    watch.start()
    try:
        foreign = product.copied(first, names[-1], {})
        product.client.set_registered_model_alias(foreign.name, "champion", foreign.version)
        took_s = wait_for(lambda: product.shown(names[-1]) == (["1"], ["1"]), "it is taken back", within_s=WITHIN_S)
    finally:
        stop.set()
        watch.join()
    assert took_s < WITHIN_S


# --------------------------------------------------------------------------- every door that a file comes in by


def test_a_swapped_file_is_refused_by_everything_that_would_use_it(product: Product, tmp_path: Path) -> None:
    strategy = product.names[0]
    champion = product.ledger.champion(strategy)
    judged = product.trained(strategy, rounds=7, decision="inconclusive", stage="Staging")
    for version in (judged, product.registry.version(judged.name, str(champion.version))):
        product.swap_file(version)
    client = ACISMLflowClient(product.registry.tracking_uri, ledger=product.ledger)
    with pytest.raises(UnusableModelFile, match="it was changed after it was logged"):
        record_and_show(
            product.ledger,
            product.registry,
            model_name=judged.name,
            version=judged.version,
            stage="Production",
            reason="a better feeling",
        )
    with pytest.raises(InvalidTransition, match="it was changed, and is not recorded"):
        record_version(
            product.ledger,
            product.registry,
            product.services.strategies[strategy],
            judged.version,
            actor="ada",
            reason="it is fine",
        )
    for uri in (
        f"models:/{judged.name}/{judged.version}",
        f"models:/{judged.name}/Production",
        f"models:/{judged.tags['acis.model_id']}",
    ):
        with pytest.raises(UnusableModelFile, match="it was changed after it was logged"):
            client.load_model(uri)
    with pytest.raises(RegistryError, match="is another model in this registry"):
        load_champion(product.registry, product.services.strategies[strategy], champion)
    with (
        ModelRouter(strategy, services=product.services, poll_s=NEVER_S) as router,
        pytest.raises(RegistryError, match="is another model in this registry"),
    ):
        router.predict(FRAME)


def test_while_a_change_stands_the_documented_client_loads_the_ledgers_champion(product: Product) -> None:
    strategy = product.names[0]
    refused = product.trained(strategy, rounds=2, decision="refuse", stage="Archived")
    product.make_champion(refused)
    client = ACISMLflowClient(product.registry.tracking_uri, ledger=product.ledger)
    expected = fitted(DATA, rounds=5).predict_proba(FRAME)
    for wanted in ("/Production", "@champion"):
        found = client.load_model(f"models:/{refused.name}{wanted}")
        np.testing.assert_array_equal(found.predict_proba(FRAME), expected)
    foreign = product.logged(strategy, rounds=3)
    with pytest.raises(UnrecordedModelFile, match=r"the ledger has none of it.*acis registry record"):
        client.load_model(f"models:/{foreign.name}/{foreign.version}")


@dataclass
class Noted(Evidence):
    """What a ledger keeps of one run."""

    digests: set[str] = field(default_factory=set)

    def note(self, sha256: str) -> None:
        self.digests.add(sha256)

    def known(self) -> frozenset[str]:
        return frozenset(self.digests)


def test_a_version_that_somebody_registered_under_a_runs_id_is_not_taken_for_the_runs(product: Product) -> None:
    strategy = product.names[0]
    foreign = product.logged(strategy, rounds=3)
    run_id, evidence = foreign.tags["acis.run_id"], Noted()
    record = trained_model(run_id, model_name=foreign.name, model=fitted(DATA, rounds=9))
    version = product.registry.log_training(record, evidence=evidence)
    assert version.version != foreign.version
    assert {version.identity.sha256} == evidence.digests
    again = product.registry.log_training(record, evidence=evidence)
    assert again.version == version.version
