from __future__ import annotations

import pytest
import xgboost as xgb

from mlops.domain.training import trainer
from mlops.domain.training.trainer import usable_device


def test_the_cpu_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "probe", lambda _: pytest.fail("probed"))
    assert usable_device("cpu").device == "cpu"
    assert usable_device("cpu").warning == ""


def test_a_gpu_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "probe", lambda _: "cuda:0")
    assert usable_device("cuda") == trainer.DeviceChoice(device="cuda", warning="")


def test_without_a_gpu_the_cpu_is_used_and_the_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "probe", lambda _: "cpu")
    chosen = usable_device("cuda")
    assert chosen.device == "cpu"
    assert "'cuda' was asked for and the CPU was used" in chosen.warning


def test_a_driver_that_raises_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> str:
        raise xgb.core.XGBoostError("[00:00:00] cudaErrorInsufficientDriver\nStack trace:\n  [bt] (0) …")

    monkeypatch.setattr(trainer, "probe", broken)
    chosen = usable_device("cuda")
    assert chosen.device == "cpu"
    assert chosen.warning.endswith("cudaErrorInsufficientDriver")


def test_the_probe_says_where_boosting_ended() -> None:
    assert trainer.probe("cpu") == "cpu"
    assert trainer.probe("cuda").startswith(("cpu", "cuda"))  # as this machine has one or not
