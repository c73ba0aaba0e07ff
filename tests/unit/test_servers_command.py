"""`acis up`: what is the sample's and what is the user's own. No server is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from cli.servers import _serve, _watch
from cli.up_display import UpDisplay
from config.settings import ROOT, Settings
from devstack.layout import Layout
from devstack.plan import StackOptions
from devstack.stack import Stack, Trouble
from mlops.domain.errors import ServerFailed
from mlops.reporting.terminal import ERROR
from mlops.volumes import Volume


class FakeStack:
    """Prepares its database, then fails as a server does."""

    made: FakeStack
    endpoints = None

    def __init__(self, options: StackOptions, *, prepare: Callable[[Any], None]) -> None:
        self.options, self.prepare = options, prepare
        self.layout = Layout(var_dir=options.var_dir)
        FakeStack.made = self

    def start(self, _on_step: object) -> None:
        self.prepare(Prepared())
        raise ServerFailed("far enough")


class Prepared:
    """Stands for endpoints."""

    database_url = "postgresql://started/db"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Databases that the sample was loaded into."""
    urls: list[str] = []
    monkeypatch.setattr("config.log_setup.set_up_logging", lambda **_: None)  # of the whole process
    monkeypatch.setattr("devstack.stack.Stack", FakeStack)
    monkeypatch.setattr("mlops.ledger.schema.migrate", lambda _: None)
    monkeypatch.setattr("mlops.features.sample.load_sample", urls.append)
    monkeypatch.setattr("mlops.ledger.grants.let_features_be_read", lambda *_: True)
    return urls


def served(tmp_path: Path, **settings: Any) -> FakeStack:
    found = Settings(var_dir=tmp_path / "var", **settings)
    assert _serve(found, UpDisplay(quiet=True), once=True, json=True) == ERROR
    return FakeStack.made


def test_without_data_of_ones_own_the_sample_is_loaded_with_its_strategies(tmp_path: Path, loaded: list[str]) -> None:
    stack = served(tmp_path)
    assert loaded == ["postgresql://started/db"]
    assert stack.options.strategies_file == ROOT / "config" / "strategies_sample.toml"


@pytest.mark.parametrize(
    "own", [{"database_url": "postgresql://them/db"}, {"feature_source": "/data/features.parquet"}]
)
def test_on_data_of_ones_own_neither_the_sample_nor_its_strategies_are_used(
    tmp_path: Path, loaded: list[str], own: dict[str, str]
) -> None:
    stack = served(tmp_path, **own)
    assert loaded == []
    assert stack.options.strategies_file == ROOT / "config" / "strategies.toml"


def test_a_program_that_goes_down_is_said_once_with_its_log_and_again_when_it_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Flapping:
        looks = iter([[], ["worker"], ["worker"], [], ["worker", "beat"]])

        def full_volumes(self) -> list[Volume]:
            return []

        def troubles(self) -> list[Trouble]:
            return [Trouble(name=name, state="BACKOFF", log_tail=f"last words of {name}") for name in next(self.looks)]

    look = _watch(cast("Stack", Flapping()), UpDisplay(quiet=True))
    said = []
    for _ in range(5):
        look()
        said.append(capsys.readouterr().err.splitlines())
    assert [len(lines) for lines in said] == [0, 2, 0, 1, 4]
    assert said[1] == ["worker is down and is started again; the end of its log:", "last words of worker"]
    assert said[3] == ["worker is back."]


def test_a_full_volume_is_said_once_with_where_it_is_and_again_when_it_has_room(
    capsys: pytest.CaptureFixture[str],
) -> None:
    volume = Volume(mount=Path("/data"), folder=Path("/data/var"), free_bytes=0, total_bytes=64_000_000)

    class Filling:
        looks = iter([[], [volume], [volume], []])

        def full_volumes(self) -> list[Volume]:
            return next(self.looks)

        def troubles(self) -> list[Trouble]:
            return []

    assert str(volume) == "the volume at /data (/data/var) has 0 B free of 64 MB"
    look = _watch(cast("Stack", Filling()), UpDisplay(quiet=True))
    said = []
    for _ in range(4):
        look()
        said.append(capsys.readouterr().err.splitlines())
    assert said == [
        [],
        [f"no space left: {volume}; free some, and what waits for it goes on by itself"],
        [],
        ["The volume at /data has room again; what waited for it goes on."],
    ]
