"""The short chaos suite: each fault once under load, a kill at every place, and then what must hold.

The long one is `make chaos MINUTES=…`; docs/reliability.md has what it found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.chaos.faults import FAULTS, impossible_here, inject, sleep
from tests.chaos.invariants import look, rest
from tests.chaos.load import Load
from tests.chaos.places import UNREACHED, all_places, reached_places
from tests.chaos.system import ChaosSystem
from tests.support.waiting import wait_for

SEED = 20
#: A paused beat takes half a minute of nothing else; an MLflow that is made anew has an emptied registry as its part.
LEFT_TO_THE_LONG_SUITE = {"beat paused", "MLflow recreated"}
RECOVERS_WITHIN_S = 120.0
REACHED_WITHIN_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Chaos:
    system: ChaosSystem
    load: Load
    rng: random.Random


@pytest.fixture(scope="module")
def chaos(system: ChaosSystem) -> Iterator[Chaos]:
    rng = random.Random(SEED)
    with Load(system, random.Random(SEED + 1)) as load:
        # From now on somebody dies at one place after the other, whatever else happens.
        for place in reached_places():
            (system.failpoints / place).write_text("kill")
        yield Chaos(system=system, load=load, rng=rng)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in LEFT_TO_THE_LONG_SUITE])
def test_the_system_recovers_from(name: str, chaos: Chaos) -> None:
    if reason := impossible_here(name):
        pytest.skip(f"{name}: {reason}")
    inject(name, chaos.system, chaos.load, chaos.rng, within_s=RECOVERS_WITHIN_S)


def test_a_kill_at_every_place_before_and_after_each_write(chaos: Chaos) -> None:
    armed = [chaos.system.failpoints / place for place in reached_places()]

    def waiting(names: str = "") -> list[str]:
        return [path.name for path in armed if path.name.startswith(names) and path.exists()]

    try:
        # A stage that fails needs a server that is away.
        wait_for(lambda: _fails(chaos, partial(waiting, "ledger.fail.")), "a stage fails", within_s=60.0)
        wait_for(lambda: not waiting(), "every place is reached", within_s=REACHED_WITHIN_S)
    except AssertionError:
        pytest.fail(f"never reached: {', '.join(waiting())}")
    finally:
        for path in armed:
            path.unlink(missing_ok=True)


def _fails(chaos: Chaos, waiting: Callable[[], list[str]]) -> bool:
    if not waiting():
        return True
    proxy = chaos.system.servers.mlflow_proxy
    proxy.refuse()
    sleep(2.0)
    proxy.pass_on()
    return False


def test_nothing_was_lost_doubled_or_left_behind(chaos: Chaos) -> None:
    chaos.load.stop()
    found = look(chaos.system, chaos.load, until=rest(chaos.system))
    assert str(found) == ""
    assert found.n_accepted > 20


def test_each_place_that_no_kill_reaches_has_its_reason() -> None:
    assert set(UNREACHED) <= {place.rpartition(".")[0] for place in all_places()}
    assert len(reached_places()) >= 50
