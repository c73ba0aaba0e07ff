"""Checkpoints of a stage: kept in a folder or elsewhere, named by the ledger, fenced by the token."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mlops.domain.errors import CheckpointsUnavailable, LeaseLost
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.registry.checkpoint_store import FOLDER, Checkpoint, CheckpointStore
from mlops.runs.checkpoints import StageCheckpoints
from mlops.runs.executor import execute
from mlops.runs.lease import Holder, LeaseKeeper
from tests.support.services import FakeServices


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "checkpoints"))


@pytest.fixture
def grant(services: FakeServices) -> Grant:
    return services.granted(Kind.TRAIN, Stage.TRAIN)


def again(services: FakeServices, grant: Grant) -> Grant:
    """The next grant of the same stage, after its worker was drained."""
    services.ledger.release(grant, cause="a test")
    return services.claimed(grant.run_id, Stage.TRAIN)


def files(store: CheckpointStore) -> list[str]:
    root = Path(store.url) / FOLDER
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# --------------------------------------------------------------------------- the store


@pytest.mark.parametrize("url", ["{folder}", "file://{folder}", "memory://checkpoints"])
def test_what_was_written_is_read_again(url: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").store.clear()
    kept = CheckpointStore(url.format(folder=tmp_path / "kept"))
    written = kept.write("run-1", 3, "rounds-50", b"trees")
    assert (written.path, written.n_bytes) == ("run-1/3/rounds-50", 5)
    assert kept.read(written) == b"trees"
    assert list(kept.newest()) == ["run-1"]
    kept.delete_run("run-1")
    assert kept.read(written) is None
    assert list(kept.newest()) == []


class Listing(MemoryFileSystem):
    """Keeps what it listed once, as the clients of object stores do."""

    protocol = "listing"
    kept: ClassVar[dict[str, list[str]]] = {}

    def find(self, path: str, *_: Any, **__: Any) -> Any:
        return self.kept.setdefault(path, list(super().find(path)))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.kept.clear()


def test_what_another_worker_wrote_since_the_last_look_is_listed() -> None:
    fsspec.register_implementation("listing", Listing, clobber=True)
    Listing.store.clear()
    store = CheckpointStore("listing://checkpoints")
    store.write("run-1", 1, "rounds-50", b"trees")
    assert list(store.newest()) == ["run-1"]
    store.write("run-2", 1, "rounds-50", b"trees")
    assert list(store.newest()) == ["run-1", "run-2"]


def test_a_torn_object_is_no_checkpoint(store: CheckpointStore) -> None:
    written = store.write("run-1", 1, "rounds-50", b"trees")
    (Path(store.url) / FOLDER / written.path).write_bytes(b"tre")
    assert store.read(written) is None


def test_a_run_id_cannot_lead_out_of_the_store(store: CheckpointStore, tmp_path: Path) -> None:
    written = store.write("../../outside", 1, "../x", b"trees")
    assert store.read(written) == b"trees"
    assert list(store.newest()) == ["../../outside"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    store.delete_run("..")
    assert store.read(written) == b"trees"


def test_what_is_not_ours_below_the_url_is_neither_seen_nor_removed(store: CheckpointStore) -> None:
    for name in ("theirs/prices.parquet", "notes.txt", f"{FOLDER}/odd.txt", f"{FOLDER}/run/not-a-token/x"):
        path = Path(store.url) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    assert store.newest() == {}
    store.delete_run("theirs")
    assert (Path(store.url) / "theirs" / "prices.parquet").exists()


def test_deleting_what_is_gone_is_nothing(store: CheckpointStore) -> None:
    store.delete_run("never")
    store.delete(Checkpoint(name="a", path="never/1/a", sha256="", n_bytes=0))
    assert list(store.newest()) == []


def test_a_place_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointsUnavailable, match="ACIS_CHECKPOINT_URL"):
        CheckpointStore(str(tmp_path / "file")).write("run-1", 1, "rounds-50", b"trees")
    with pytest.raises(CheckpointsUnavailable, match="nonsense"):
        CheckpointStore("nonsense://x").read(Checkpoint(name="a", path="a", sha256="", n_bytes=0))


def test_the_doctors_question_leaves_nothing(store: CheckpointStore) -> None:
    assert store.check() == store.url
    assert files(store) == []


# --------------------------------------------------------------------------- of a stage


def test_a_later_grant_gets_what_the_earlier_saved_last(
    services: FakeServices, store: CheckpointStore, grant: Grant
) -> None:
    first = StageCheckpoints(store, services.ledger, grant, every_s=0)
    assert first.load() is None
    first.save("rounds-50", b"fifty")
    first.save("rounds-100", b"a hundred")
    second = again(services, grant)
    assert StageCheckpoints(store, services.ledger, second).load() == ("rounds-100", b"a hundred")
    assert files(store) == [f"{grant.run_id}/1/rounds-100"]  # the one before it is not needed any more


def test_between_two_saves_passes_some_time_and_the_newest_waits(
    services: FakeServices, store: CheckpointStore, grant: Grant
) -> None:
    clock = Clock()
    checkpoints = StageCheckpoints(store, services.ledger, grant, every_s=10.0, monotonic=clock)
    for clock.now in (1.0, 9.9):
        checkpoints.save(f"at {clock.now}", b"x")
    assert files(store) == []
    clock.now = 10.0
    checkpoints.save("at 10", b"x")
    clock.now = 12.0
    checkpoints.save("at 12", b"y")
    assert files(store) == [f"{grant.run_id}/1/at%2010"]
    checkpoints.flush()
    checkpoints.flush()
    assert files(store) == [f"{grant.run_id}/1/at%2012"]


def test_a_worker_that_lost_its_lease_names_nothing(
    services: FakeServices, store: CheckpointStore, grant: Grant
) -> None:
    stale = StageCheckpoints(store, services.ledger, grant, every_s=0)
    second = again(services, grant)
    ours = StageCheckpoints(store, services.ledger, second, every_s=0)
    ours.save("rounds-50", b"ours")
    with pytest.raises(LeaseLost):
        stale.save("rounds-100", b"stale")
    third = again(services, second)
    assert StageCheckpoints(store, services.ledger, third).load() == ("rounds-50", b"ours")


def test_a_store_that_does_not_answer_costs_no_training(services: FakeServices, grant: Grant, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpoints = StageCheckpoints(CheckpointStore(str(tmp_path / "file")), services.ledger, grant, every_s=0)
    checkpoints.save("rounds-50", b"x")
    second = again(services, grant)
    assert second.checkpoint is None


def test_a_store_that_fails_is_asked_less_and_less_often_until_it_is_back(
    services: FakeServices, grant: Grant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, tries, place = Clock(), [], tmp_path / "file"
    place.write_text("a file where the folder should be")
    store = CheckpointStore(str(place))
    write = store.write
    monkeypatch.setattr(store, "write", lambda *given: (tries.append(clock.now), write(*given))[1])
    checkpoints = StageCheckpoints(store, services.ledger, grant, every_s=10.0, monotonic=clock)
    for clock.now in (float(second) for second in range(100)):
        if clock.now == 71.0:
            place.unlink()
        checkpoints.save(f"at {clock.now}", b"x")
    assert tries == [10.0, 30.0, 70.0]
    for clock.now in (149.0, 150.0, 160.0):
        checkpoints.save(f"at {clock.now}", b"x")
    assert tries[3:] == [150.0, 160.0]


def test_a_checkpoint_in_words_that_this_code_does_not_know_is_none(
    services: FakeServices, store: CheckpointStore, grant: Grant
) -> None:
    services.ledger.save_checkpoint(grant, {"of": "another version"})
    assert StageCheckpoints(store, services.ledger, again(services, grant)).load() is None


def test_a_drained_stage_keeps_its_last_border(services: FakeServices, store: CheckpointStore, grant: Grant) -> None:
    holder = Holder(worker="w1", lease_s=60.0, renew_s=10.0, is_draining=lambda: True)
    checkpoints = StageCheckpoints(store, services.ledger, grant, every_s=3600.0)

    def work(_: Grant, keeper: LeaseKeeper) -> StageOutcome:
        keeper.save_checkpoint("rounds-50", b"fifty")
        keeper.check()
        raise AssertionError

    finished = execute(grant, {Stage.TRAIN: work}, services.ledger, holder, checkpoints=checkpoints)
    assert finished is not None
    assert finished.publication is not None  # another worker is told at once
    following = services.claimed(grant.run_id, Stage.TRAIN)
    assert (following.attempt, following.token) == (1, 2)
    assert StageCheckpoints(store, services.ledger, following).load() == ("rounds-50", b"fifty")


@pytest.mark.parametrize(
    ("ends", "left"), [(RunState.SUCCEEDED, 0), (RunState.CANCELLED, 0), (ValueError("a crash"), 1)]
)
def test_a_stage_that_came_to_its_end_leaves_no_checkpoint(
    services: FakeServices, store: CheckpointStore, grant: Grant, ends: Any, left: int
) -> None:
    holder = Holder(worker="w1", lease_s=60.0, renew_s=10.0)

    def work(_: Grant, keeper: LeaseKeeper) -> StageOutcome:
        keeper.save_checkpoint("rounds-50", b"fifty")
        if isinstance(ends, Exception):
            raise ends
        return StageOutcome(result={}, run_state=ends)

    checkpoints = StageCheckpoints(store, services.ledger, grant, every_s=0)
    assert execute(grant, {Stage.TRAIN: work}, services.ledger, holder, checkpoints=checkpoints) is not None
    assert len(files(store)) == left
