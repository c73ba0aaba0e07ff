"""OpenFeature's own client is told which version answers a key, and is given its default with the specified errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from examples.flags import make_client, version_of
from mlops.domain.errors import ConfigurationError
from mlops.domain.experiments.decision import Mode
from mlops.serving.openfeature import RoutingProvider
from mlops.serving.router import ModelRouter
from tests.support.serving import NEVER_S, ChampionServices, Recording, champion, classifier

FIRST, SECOND = classifier(seed=1), classifier(seed=2)
AAPL = EvaluationContext(targeting_key="AAPL")


@pytest.fixture
def services(tmp_path: Path) -> ChampionServices:
    found = ChampionServices(tmp_path)
    found.promote("1", 1, FIRST)
    return found


@pytest.fixture
def router(services: ChampionServices) -> Iterator[ModelRouter]:
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=Recording()) as found:
        yield found


@pytest.fixture
def client(router: ModelRouter) -> Iterator[OpenFeatureClient]:
    api.set_provider(RoutingProvider({"growth": router}), "acis")
    yield api.get_client("acis")
    api.clear_providers()


def test_without_an_experiment_the_champion_is_told_to_everybody(client: OpenFeatureClient) -> None:
    for context in (AAPL, EvaluationContext(), None):
        found = client.get_string_details("growth", "none", context)
        assert (found.value, found.variant, found.reason) == ("1", "champion", Reason.STATIC)
        assert found.flag_metadata["why"] == "no experiment runs: the champion answers every key"


def test_each_key_is_told_the_version_that_answers_it(
    client: OpenFeatureClient, router: ModelRouter, services: ChampionServices
) -> None:
    services.challenge(SECOND, share=0.5, keys=("AAPL",))
    router.follow()
    for key in ("AAPL", *(f"T{number}" for number in range(50))):
        found = client.get_string_details("growth", "none", EvaluationContext(targeting_key=key))
        answer = router.predict_one(dict.fromkeys(router.model.features, 1.0), key=key)
        assert (found.value, found.variant) == (answer.version, answer.variant)
        assert (found.reason, found.flag_metadata["experiment"]) == (Reason.SPLIT, 1)
    told = client.get_object_details("growth", {}, AAPL)
    assert isinstance(told.value, dict)
    assert told.value["version"] == "2"
    assert told.value["share"] == told.flag_metadata["share"] == 0.5
    assert "named for the challenger" in str(told.value["reason"])
    assert version_of("growth", "AAPL", client) == ("2", "challenger")
    missing = client.get_string_details("growth", "none")
    assert (missing.value, missing.error_code) == ("none", ErrorCode.TARGETING_KEY_MISSING)
    assert version_of("growth", "", client) == (None, None)


def test_the_sdk_closes_the_routers_that_were_opened_for_it_and_no_others(
    services: ChampionServices, router: ModelRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[ModelRouter] = []

    def made(strategy: str) -> ModelRouter:
        opened.append(ModelRouter(strategy, services=services, poll_s=NEVER_S, recorder=Recording()))
        return opened[-1]

    monkeypatch.setattr("mlops.serving.openfeature.ModelRouter", made)
    assert version_of("growth", "AAPL", make_client("growth")) == ("1", "champion")
    api.set_provider(RoutingProvider({"growth": router}), "other")
    api.shutdown()
    with pytest.raises(ConfigurationError, match="was closed"):
        _ = opened[0].model
    assert router.model.version == "1"


def test_a_shadow_divides_no_keys(client: OpenFeatureClient, router: ModelRouter, services: ChampionServices) -> None:
    services.challenge(SECOND, mode=Mode.SHADOW, share=0.0)
    router.follow()
    found = client.get_string_details("growth", "none", AAPL)
    assert (found.value, found.reason, found.flag_metadata["experiment"]) == ("1", Reason.STATIC, 1)


def test_errors_are_those_of_the_specification(
    client: OpenFeatureClient, router: ModelRouter, services: ChampionServices
) -> None:
    assert client.get_string_details("growht", "none", AAPL).error_code == ErrorCode.FLAG_NOT_FOUND
    for ask, default in (
        (client.get_boolean_details, True),
        (client.get_integer_details, 7),
        (client.get_float_details, 0.5),
    ):
        found = ask("growth", default, AAPL)  # type: ignore[operator]
        assert (found.value, found.error_code) == (default, ErrorCode.TYPE_MISMATCH)
    services.one.champion_now = champion(None, 2)
    router.follow()
    found = client.get_string_details("growth", "none", AAPL)
    assert (found.value, found.error_code) == ("none", ErrorCode.PROVIDER_NOT_READY)
    assert "has no champion" in (found.error_message or "")
