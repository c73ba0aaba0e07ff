"""Incremental trainings: what they continue, learn from and are judged on, and when they are full or refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from mlops.domain.errors import ConfigurationError, InsufficientData, MissingColumn, UnusableModelFile
from mlops.domain.policies import TrainingPolicy
from mlops.domain.records import Grant, Kind, Stage, StageOutcome
from mlops.domain.training.trainer import XGBoostTrainer
from mlops.reporting.narrative import train_lines
from mlops.runs.request import run_request
from mlops.stages.promote import promote
from mlops.stages.train import train
from tests.support.registry import loaded
from tests.support.services import FEATURES, LAST, MODEL, TICKERS, FakeServices, panel, small_strategy

DAYS = 30


class FullOnly:
    """A strategy's own trainer that knows nothing of continuing."""

    fit = XGBoostTrainer.fit


def policy(**changes: Any) -> TrainingPolicy:
    return replace(small_strategy().training, incremental_rounds=3, incremental_days=DAYS, **changes)


def trained(services: FakeServices, **asked: Any) -> tuple[Grant, StageOutcome]:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, **asked)
    outcome = train(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant, outcome


def champion(services: FakeServices, *, as_of: date = LAST - timedelta(days=40), **asked: Any) -> str:
    """Trains and promotes by the gates alone."""
    rules = replace(small_strategy().promotion, comparison="gates", accepted_findings=("too_good:roc_auc",))
    services.with_policy(promotion=rules)
    _, outcome = trained(services, as_of=as_of, **asked)
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    decided = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, decided)
    assert decided.result["promoted"], decided.result["reasons"]
    return str(outcome.result["version"])


def retag(services: FakeServices, version: str, **tags: str | None) -> None:
    registry = services.fake_registry
    found = registry.version(MODEL, version)
    kept = {key: value for key, value in {**found.tags, **tags}.items() if value is not None}
    registry.set_tags(MODEL, version, kept)


@pytest.fixture(autouse=True)
def _small(services: FakeServices) -> None:
    services.with_policy(training=policy())


def test_the_champions_trees_stay_and_rounds_are_added(services: FakeServices) -> None:
    base = champion(services)
    _, outcome = trained(services, incremental=True)
    old = loaded(services.registry, MODEL, base).get_booster()
    new = loaded(services.registry, MODEL, outcome.result["version"]).get_booster()
    assert (old.num_boosted_rounds(), new.num_boosted_rounds()) == (5, 8)
    assert new.get_dump()[:5] == old.get_dump()
    said = outcome.result["incremental"]
    assert (said["base_version"], said["update"], said["total_rounds"]) == (base, 1, 8)
    assert said["base_model_sha256"] == services.registry.version(MODEL, base).tags["acis.model_sha256"]
    assert any(line.startswith(f"Continues champion {base}") for line in train_lines(outcome.result))


def test_it_is_judged_on_the_dates_of_a_full_training_and_learns_from_the_newest_before_them(
    services: FakeServices,
) -> None:
    base = champion(services)
    _, full = trained(services)
    _, outcome = trained(services, incremental=True)
    for name in ("holdout_start", "holdout_end", "n_holdout", "train_end"):
        assert outcome.result[name] == full.result[name]
    assert outcome.result["n_train"] == DAYS * TICKERS
    # Promotion and the drift profile take the training dates from the tags: the base's and its own.
    assert outcome.result["train_start"] == services.registry.version(MODEL, base).tags["train_start"]
    recent = date.fromisoformat(outcome.result["train_end"]) - timedelta(days=DAYS - 1)
    assert outcome.result["incremental"]["recent_start"] == recent.isoformat()


def test_without_a_champion_it_is_a_full_training_and_says_so(services: FakeServices) -> None:
    _, outcome = trained(services, incremental=True)
    assert "incremental" not in outcome.result
    (warning,) = outcome.result["warnings"]
    assert "has no champion to continue, so it was trained in full" in warning
    assert f"Warning: {warning}" in train_lines(outcome.result)


def test_after_as_many_updates_as_are_allowed_the_training_is_full(services: FakeServices) -> None:
    services.with_policy(training=policy(max_incremental_updates=1))
    champion(services, as_of=LAST - timedelta(days=60))
    second = champion(services, as_of=LAST - timedelta(days=30), incremental=True)
    assert services.registry.version(MODEL, second).tags["incremental_updates"] == "1"
    _, outcome = trained(services, incremental=True)
    assert "incremental" not in outcome.result
    assert "has had 1 incremental updates" in outcome.result["warnings"][0]


@pytest.mark.parametrize(
    ("changed", "named"), [({"label": "target_return > 0.01"}, "label"), ({"horizon_dates": 3}, "horizon_dates")]
)
def test_a_champion_of_another_question_is_refused(services: FakeServices, changed: dict[str, Any], named: str) -> None:
    champion(services)
    services.with_policy(training=policy(**changed))
    with pytest.raises(ConfigurationError, match=f"training.{named}"):
        trained(services, incremental=True)


def test_a_champion_that_does_not_say_its_horizon_is_continued_with_a_warning(services: FakeServices) -> None:
    retag(services, champion(services), horizon_dates=None)
    _, outcome = trained(services, incremental=True)
    assert "does not say how far" in outcome.result["warnings"][0]


@pytest.mark.parametrize(("tag", "error"), [("train_end", UnusableModelFile), ("label", ConfigurationError)])
def test_a_champion_that_does_not_say_what_it_knows_is_refused(
    services: FakeServices, tag: str, error: type[Exception]
) -> None:
    retag(services, champion(services), **{tag: None})
    with pytest.raises(error, match="train in full"):
        trained(services, incremental=True)


def test_a_column_that_the_champion_needs_and_the_view_lacks_is_named(services: FakeServices) -> None:
    champion(services)
    services.with_source(panel().drop_columns([FEATURES[1]]))
    with pytest.raises(MissingColumn, match=FEATURES[1]):
        trained(services, incremental=True)


def test_a_new_column_is_left_to_the_next_full_training(services: FakeServices) -> None:
    champion(services)
    table = panel()
    services.with_source(table.append_column("newer", table.column("noise")))
    _, outcome = trained(services, incremental=True)
    assert outcome.result["n_features"] == len(FEATURES)


def test_a_champion_that_reads_what_the_strategy_leaves_out_now_is_refused(services: FakeServices) -> None:
    champion(services)
    services.with_policy(data=replace(small_strategy().data, exclude=(FEATURES[1],)))
    with pytest.raises(ConfigurationError, match=f"champion 1 reads {FEATURES[1]}, which .* train in full"):
        trained(services, incremental=True)


def test_a_champion_without_names_of_features_is_refused(services: FakeServices) -> None:
    loaded(services.registry, MODEL, champion(services)).get_booster().feature_names = None
    with pytest.raises(UnusableModelFile, match="names of its features"):
        trained(services, incremental=True)


def test_a_champion_that_knows_held_out_dates_is_refused(services: FakeServices) -> None:
    champion(services, as_of=LAST)
    with pytest.raises(InsufficientData, match="knows dates that are held out"):
        trained(services, incremental=True, as_of=LAST - timedelta(days=1))


def test_a_trainer_that_cannot_continue_is_refused(services: FakeServices) -> None:
    champion(services)
    services.with_policy(training=policy(trainer=f"{__name__}:FullOnly"))
    with pytest.raises(ConfigurationError, match="can_continue"):
        trained(services, incremental=True)


def test_labels_that_come_late_are_looked_for_in_the_whole_window(services: FakeServices) -> None:
    champion(services, as_of=LAST - timedelta(days=60))
    table = panel()
    late = np.array(table.column("target_return").to_pylist())
    late[-40 * TICKERS :] = np.nan
    services.with_source(table.set_column(table.column_names.index("target_return"), "target_return", [late]))
    _, outcome = trained(services, incremental=True)
    assert outcome.result["holdout_end"] == (LAST - timedelta(days=40)).isoformat()
    assert outcome.result["n_train"] == DAYS * TICKERS


def test_folds_are_not_made_of_an_incremental_training(services: FakeServices) -> None:
    with pytest.raises(ConfigurationError, match="no folds"):
        run_request(
            services.strategies, "growth", Kind.TRAIN, reason="a test", requested_by="test", folds=3, incremental=True
        )
