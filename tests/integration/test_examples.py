"""The examples do what they say: each is named in a strategies file or a setting, as a user names it, and works there."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from pyarrow import csv
from scipy.stats import spearmanr

from config.settings import Settings
from examples.metric import information_coefficient
from examples.trainer import RecencyTrainer, recency_weights
from mlops.domain.errors import ConfigurationError, MissingColumn, SourceUnavailable, StageCancelled
from mlops.domain.ports import Progress, TrainingControl, TrainingData, Validation, Window
from mlops.domain.records import Kind, Stage, StageOutcome
from mlops.stages.champion import ChampionModels
from mlops.stages.train import train
from mlops.strategies.file import load_strategies
from tasks.services import connect
from tests.architecture.sources import ROOT
from tests.support.registry import loaded
from tests.support.services import FEATURES, FIRST, LAST, MODEL, N_DATES, TICKERS, FakeServices, panel

STRATEGIES = ROOT / "examples" / "strategies.toml"
ALL = Window(start=FIRST.replace(year=2019), end=LAST)


def trained(services: FakeServices, **changes: object) -> StageOutcome:
    """A training of the small panel, with what the examples' strategies file says."""
    example = load_strategies(STRATEGIES)["growth"].training
    small = replace(
        services.strategies["growth"].training, trainer=example.trainer, metrics=example.metrics, params=example.params
    )
    services.with_policy(training=replace(small, **changes))  # type: ignore[arg-type]
    grant = services.granted(Kind.RETRAIN, Stage.TRAIN)
    return train(grant, services, services.keeper(grant))


# ---- the trainer


class Control:
    """What a training may ask; the nth question is answered by an end."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.told: list[Progress] = []
        self._stop_after = stop_after

    def report(self, progress: Progress) -> None:
        self.told.append(progress)

    def check(self) -> None:
        if self._stop_after is not None and len(self.told) >= self._stop_after:
            raise StageCancelled

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        raise NotImplementedError

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        return None


def some_rows(n_dates: int = 50, per_date: int = 8) -> TrainingData:
    generator = np.random.default_rng(5)
    n = n_dates * per_date
    x = generator.normal(size=(n, 3)).astype(np.float32)
    return TrainingData(
        x=x,
        y=(x[:, 0] + generator.normal(size=n) > 0).astype(np.int8),
        dates=np.repeat(np.datetime64("2020-01-01") + np.arange(n_dates), per_date),
        features=("a", "b", "c"),
    )


def fitted(data: TrainingData, control: TrainingControl, **params: float) -> xgb.XGBClassifier:
    return RecencyTrainer().fit(
        data,
        params={"n_estimators": 10, "max_depth": 2, **params},
        seed=1,
        device="cpu",
        n_jobs=1,
        segment_rounds=5,
        control=control,
    )


def test_a_version_of_the_own_trainer_stands_in_staging_with_its_features(services: FakeServices) -> None:
    outcome = trained(services)
    version = services.registry.version(MODEL, outcome.result["version"])
    assert version.stage == "Staging"
    model = loaded(services.registry, MODEL, version.version)
    # Named by the stage, so that a later version can be compared with it.
    assert tuple(model.get_booster().feature_names) == FEATURES
    assert outcome.result["metrics"]["accuracy"] > 0.7


def test_a_champion_of_the_own_trainer_can_be_asked_by_name(services: FakeServices) -> None:
    trained(services)
    known = services.ledger.recorded_model(MODEL, "1")
    assert ChampionModels(services.registry).load(MODEL, "1", known).features == FEATURES


def test_every_round_is_reported_and_a_cancelled_training_ends_in_the_round() -> None:
    control = Control()
    fitted(some_rows(), control)
    assert [one.done for one in control.told] == list(range(1, 11))
    stopped = Control(stop_after=3)
    with pytest.raises(StageCancelled):
        fitted(some_rows(), stopped)
    assert len(stopped.told) == 3


def test_a_row_weighs_half_for_every_half_life_of_panel_dates() -> None:
    dates = np.array(["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07"], dtype="datetime64[D]")
    assert recency_weights(dates, half_life_dates=2).tolist() == pytest.approx([2**-1.5, 0.5, 2**-0.5, 1.0])


def test_an_endless_half_life_is_the_plain_classifier() -> None:
    data = some_rows()
    plain = xgb.XGBClassifier(n_estimators=10, max_depth=2, random_state=1, n_jobs=1).fit(data.x, data.y)
    ours = fitted(data, Control(), half_life_dates=1e12)
    assert ours.predict_proba(data.x) == pytest.approx(plain.predict_proba(data.x), abs=1e-6)
    assert (
        np.abs(fitted(data, Control(), half_life_dates=5).predict_proba(data.x) - plain.predict_proba(data.x)).max()
        > 0.01
    )


def test_early_stopping_keeps_the_best_round() -> None:
    data = some_rows()
    noise = np.random.default_rng(6)
    validation = Validation(
        x=noise.normal(size=(80, 3)).astype(np.float32), y=noise.integers(0, 2, 80).astype(np.int8), patience_rounds=2
    )
    model = fitted(replace(data, validation=validation), Control(), n_estimators=200)
    assert model.get_booster().num_boosted_rounds() < 200


# ---- the metric


def test_the_own_metric_is_logged_and_a_gate_may_ask_for_it(services: FakeServices) -> None:
    measured = trained(services).result["metrics"]["information_coefficient"]
    # The return follows momentum with a correlation of 2/sqrt(5) = 0.89; a good model's ranks come near it.
    assert 0.5 < measured < 1.0


def test_the_information_coefficient_is_the_mean_of_scipys_rank_correlations() -> None:
    generator = np.random.default_rng(7)
    dates = np.repeat(np.datetime64("2020-01-01") + np.arange(20), 8)
    p, returns = generator.random(160), generator.normal(size=160)
    returns[::17] = np.nan
    expected = [
        spearmanr(p[dates == day], returns[dates == day], nan_policy="omit").statistic for day in np.unique(dates)
    ]
    found = information_coefficient(dates, (p > 0.5).astype(np.int8), p, returns)
    assert found == pytest.approx(float(np.mean(expected)))


def test_without_a_date_that_has_an_order_there_is_no_information_coefficient() -> None:
    dates = np.repeat(np.datetime64("2020-01-01"), 5)
    same = np.full(5, 0.5)
    assert math.isnan(information_coefficient(dates, np.zeros(5, dtype=np.int8), same, np.arange(5.0)))


# ---- the feature source


@pytest.fixture
def features_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "features.csv"
    csv.write_csv(panel(), path)
    monkeypatch.setenv("FEATURES_CSV", str(path))
    return path


def test_the_setting_names_a_function_that_opens_the_source(features_csv: Path) -> None:
    services = connect(Settings(feature_source="examples.feature_source:open_features"))  # type: ignore[arg-type]
    assert services.source.count("growth", ALL) == N_DATES * TICKERS
    assert services.source.latest_date() == LAST


def test_a_training_reads_from_it(services: FakeServices, features_csv: Path) -> None:
    own = connect(Settings(feature_source="examples.feature_source:open_features")).source  # type: ignore[arg-type]
    vars(services)["source"] = own
    assert trained(services).result["n_train"] > 0


def test_a_file_that_was_written_anew_is_read_anew_and_a_snapshot_stays(features_csv: Path) -> None:
    source = connect(Settings(feature_source="examples.feature_source:open_features")).source  # type: ignore[arg-type]
    with source.snapshot() as one:
        csv.write_csv(panel(n_dates=10), features_csv)
        stamp = features_csv.stat().st_mtime_ns + 10**9  # as if a second later, whatever the file system's clock
        os.utime(features_csv, ns=(stamp, stamp))
        assert (source.count("growth", ALL), one.count("growth", ALL)) == (10 * TICKERS, N_DATES * TICKERS)


def test_what_is_missing_is_said(features_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = connect(Settings(feature_source="examples.feature_source:open_features")).source  # type: ignore[arg-type]
    features_csv.write_text("ticker,date\nA,2020-01-02\n", encoding="utf-8")
    with pytest.raises(MissingColumn, match="lacks strategy; found ticker, date"):
        source.columns()
    features_csv.unlink()
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        source.columns()
    monkeypatch.delenv("FEATURES_CSV")
    with pytest.raises(ConfigurationError, match="FEATURES_CSV names no file"):
        connect(Settings(feature_source="examples.feature_source:open_features")).source  # type: ignore[arg-type]  # noqa: B018
