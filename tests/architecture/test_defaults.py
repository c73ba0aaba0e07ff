"""The documented defaults, in the code and in config/strategies.toml as it is loaded; the two say the same."""

from __future__ import annotations

from operator import attrgetter

import pytest

from config.settings import Settings
from mlops.domain.policies import Strategy
from mlops.strategies.file import load_strategies
from tests.architecture.sources import ROOT

DOCUMENTED = {
    "drift.ks_p": 0.05,
    "drift.psi_moderate": 0.1,
    "drift.psi_significant": 0.2,
    "drift.alert_share": 0.3,
    "drift.bins": 10,
    "promotion.min_accuracy": 0.70,
    "data.reference_days": 90,
    "data.current_days": 7,
    "data.min_current_rows": 100,
    "data.max_current_days": 60,
    "training.training_days": 730,  # 2 years
    "training.params": {
        "max_depth": 6,
        "learning_rate": 0.1,
        "n_estimators": 100,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
    },
    "training.label": "target_return > 0",
    "schedule.drift_check": "0 3 * * *",  # 03:00 UTC daily
    "schedule.retrain": "0 4 * * 0",  # Sunday, 04:00 UTC
}
FILE = ROOT / "config" / "strategies.toml"
STRATEGIES = ("growth", "value", "dividend", "momentum")


@pytest.mark.parametrize(("name", "value"), DOCUMENTED.items())
def test_the_codes_default_is_the_documented_one(name: str, value: object) -> None:
    assert attrgetter(name)(Strategy(name="any")) == value


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("name", "value"), DOCUMENTED.items())
def test_the_strategies_file_says_the_documented_default(strategy: str, name: str, value: object) -> None:
    assert attrgetter(name)(load_strategies(FILE)[strategy]) == value


def test_the_strategies_file_names_the_documented_four() -> None:
    assert tuple(load_strategies(FILE)) == STRATEGIES


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_strategies_file_spells_out_the_codes_defaults_and_nothing_else(strategy: str) -> None:
    loaded = load_strategies(FILE)[strategy]
    assert loaded == Strategy(name=strategy, description=loaded.description)


def test_the_model_is_registered_under_the_documented_name() -> None:
    assert Strategy(name="growth").model_name == "acis_growth_classifier"


def test_the_settings_point_to_the_documented_places() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert defaults["strategies_file"] == FILE
    assert defaults["feature_relation"] == "ml_training_features"
    assert defaults["flower_port"] == 5555
    assert defaults["admin_port"] == 3000
