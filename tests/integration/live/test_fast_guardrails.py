"""A challenger that errs or is slow is stopped within a minute, by what was answered lately, and once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from mlops.domain.experiments.decision import Action
from mlops.domain.experiments.records import LATENCY_BOUNDS_MS, AnswerCount, Experiment
from tests.contracts.ledger.test_experiments import new_experiment
from tests.support.live import LIVE, logged, promoted
from tests.support.services import LAST, FakeServices
from worker.live_watch import LiveWatch

MINUTE = timedelta(minutes=1)


@pytest.fixture
def running(services: FakeServices) -> tuple[FakeServices, Experiment]:
    """Version 2 answers a share of the keys beside champion 1."""
    services.with_policy(live=LIVE)
    one, two = promoted(services), logged(services, "made-2", rounds=9)
    made = services.ledger.start_experiment(
        new_experiment(
            champion_version=one.version,
            champion=one.identity,
            challenger_version=two.version,
            challenger=two.identity,
            started_as_of=LAST,
        )
    )
    services.timed.advance(3600)
    return services, made


def answered(services: FakeServices, of: Experiment, *, n: int = 250, n_errors: int = 0, ago: int = 1) -> None:
    """Both were asked that often so many minutes ago; the challenger could not answer some."""
    for variant, version, identity, errors in (
        ("champion", of.champion_version, of.champion, 0),
        ("challenger", of.challenger_version, of.challenger, n_errors),
    ):
        latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        latency[4] = n
        count = AnswerCount(
            strategy=of.strategy,
            version=version,
            model_sha256=str(identity.sha256),
            variant=variant,
            minute=(services.ledger.now() - ago * MINUTE).replace(second=0, microsecond=0),
            writer="one",
            n=n,
            n_errors=errors,
            n_positive=0,
            n_missing_rows=0,
            latency_ms=tuple(latency),
        )
        services.ledger.count_answers([count])


def looked(services: FakeServices) -> list[str]:
    """Events of a look by the reconciler."""
    stop = threading.Event()
    with capture_logs() as logs:
        LiveWatch(services, leads=stop, stop=stop).step()
    return [line["event"] for line in logs if line["event"].startswith("experiment")]


def test_one_that_errs_is_ended_once_whoever_looks(running: tuple[FakeServices, Experiment]) -> None:
    services, made = running
    answered(services, made, n_errors=50)
    assert looked(services) == ["experiment.guardrail_broken"]
    assert looked(services) == []
    ended = services.ledger.experiment(made.id)
    assert ended.end is Action.ABORT
    assert ended.end_words == "ended by a guardrail: error rate is 0.2, and may be 0.01"
    assert services.ledger.running_experiments() == []


def test_one_that_somebody_else_ended_is_told_by_them_alone(
    running: tuple[FakeServices, Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, made = running
    answered(services, made, n_errors=50)
    monkeypatch.setattr(services.ledger, "running_experiments", lambda: [made])  # read before the other one ended it
    services.ledger.break_guardrail(made.id, [], "ended by a guardrail: latency is 9, and may be 3")
    assert looked(services) == []


@pytest.mark.parametrize(("n", "n_errors", "ago"), [(250, 0, 1), (250, 4, 1), (199, 150, 1), (250, 200, 17)])
def test_good_few_and_old_answers_end_nothing(
    running: tuple[FakeServices, Experiment], n: int, n_errors: int, ago: int
) -> None:
    services, made = running
    answered(services, made, n=n, n_errors=n_errors, ago=ago)
    assert looked(services) == []
    assert [one.id for one in services.ledger.running_experiments()] == [made.id]
