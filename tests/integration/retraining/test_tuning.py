"""Tuning in the train stage: on folds before the held-out dates, the same whether it was interrupted or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlops.domain.errors import ConfigurationError, InsufficientData, StageCancelled
from mlops.domain.policies import TrainingPolicy
from mlops.domain.ports import Progress, TrainedModel, TrainingData
from mlops.domain.records import Grant, Kind, Stage, StageOutcome
from mlops.domain.training.trainer import XGBoostTrainer
from mlops.ledger.studies import Studies
from mlops.reporting.narrative import train_lines
from mlops.runs.request import run_request
from mlops.stages.train import train
from tests.support.services import MODEL, FakeServices, panel, small_strategy

SEARCH: dict[str, Any] = {"max_depth": [1, 4], "learning_rate": [0.05, 0.5, "log"], "n_estimators": [2, 12]}
N_TRIALS = 8


class CountingTrainer(XGBoostTrainer):
    """The default trainer; keeps the parameters and last date of each fit, and stops before the nth."""

    fits: list[dict[str, Any]] = []  # noqa: RUF012 -- made anew by each training, read by the test
    stop_before: int | None = None

    def fit(self, data: TrainingData, **how: Any) -> Any:
        if CountingTrainer.stop_before == len(CountingTrainer.fits):
            raise StageCancelled
        CountingTrainer.fits.append({**how["params"], "last": data.dates[-1]})
        return super().fit(data, **how)


class OwnTrainer:
    """A strategy's own, with a parameter that XGBoost does not know."""

    def fit(self, data: TrainingData, *, params: Any, **how: Any) -> Any:
        return XGBoostTrainer().fit(data, params={"max_depth": params["leaves"] // 2}, **how)


def policy(**changes: Any) -> TrainingPolicy:
    return replace(
        small_strategy().training,
        **{"search": SEARCH, "search_folds": 2, "trainer": f"{__name__}:CountingTrainer", **changes},
    )


@pytest.fixture(scope="module")
def studies(postgres_database: Callable[[], str]) -> Studies:
    """Its tables are made once, beside no ledger of other tests."""
    return Studies(postgres_database())


@pytest.fixture(autouse=True)
def _studies(services: FakeServices, studies: Studies) -> None:
    for run_id in studies.names():
        studies.delete(run_id)
    vars(services)["studies"] = studies
    services.with_policy(training=policy())
    CountingTrainer.fits.clear()
    CountingTrainer.stop_before = None


def attempt(services: FakeServices, grant: Grant) -> StageOutcome:
    return train(grant, services, services.keeper(grant))


def tuned(services: FakeServices, n: int = N_TRIALS, **asked: Any) -> tuple[Grant, StageOutcome]:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, tune=n, **asked)
    outcome = attempt(services, grant)
    services.ledger.finish(grant, outcome)
    return grant, outcome


def test_no_trial_sees_a_date_that_is_held_out_or_purged(services: FakeServices) -> None:
    _, outcome = tuned(services)
    *trials, winner = CountingTrainer.fits
    assert str(winner["last"]) == outcome.result["train_end"]
    assert all(fit["last"] < winner["last"] for fit in trials)


def test_the_winner_is_trained_with_its_parameters_and_its_trials_are_counted(services: FakeServices) -> None:
    _, outcome = tuned(services)
    said = outcome.result["tuning"]
    fitted = CountingTrainer.fits[-1]
    assert {name: fitted[name] for name in said["params"]} == said["params"]
    assert said["value"] <= said["own_value"]  # log loss; the policy's own parameters were the first trial
    tags = services.registry.version(MODEL, outcome.result["version"]).tags
    assert tags["tuning_trials"] == str(N_TRIALS) == str(said["n_trials"])
    assert any(line.startswith(f"Tuned in {N_TRIALS} trials on 2 folds") for line in train_lines(outcome.result))


def test_the_first_trial_is_the_policys_own_parameters(services: FakeServices) -> None:
    tuned(services, 1)
    first = CountingTrainer.fits[0]
    assert {name: value for name, value in first.items() if name != "last"} == {"n_estimators": 5, "max_depth": 2}


def test_the_first_trial_keeps_what_the_space_does_not_hold_and_draws_nothing_that_the_policy_leaves_out(
    services: FakeServices,
) -> None:
    outside = {"max_depth": 2, "n_estimators": 40, "subsample": 0.9}
    services.with_policy(training=policy(params=outside, search=SEARCH | {"reg_lambda": [5.0, 50.0]}))
    tuned(services, 3)
    first, second = CountingTrainer.fits[0], CountingTrainer.fits[2]
    assert {name: value for name, value in first.items() if name != "last"} == outside
    assert second["n_estimators"] <= 12
    assert {"learning_rate", "reg_lambda"} <= set(second)


def test_the_same_seed_gives_the_same_search(services: FakeServices) -> None:
    _, first = tuned(services)
    trained = list(CountingTrainer.fits)
    CountingTrainer.fits.clear()
    _, second = tuned(services)
    assert CountingTrainer.fits == trained
    assert second.result["tuning"] == first.result["tuning"]


@pytest.mark.parametrize("stop_before", [0, 1, 2, 7, 11])
def test_a_search_that_was_interrupted_goes_on_with_its_finished_trials_to_the_same_winner(
    services: FakeServices, stop_before: int
) -> None:
    _, whole = tuned(services)
    in_one_go = list(CountingTrainer.fits)
    CountingTrainer.fits.clear()
    CountingTrainer.stop_before = stop_before
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, tune=N_TRIALS)
    with pytest.raises(StageCancelled):
        attempt(services, grant)
    CountingTrainer.stop_before = None
    before = list(CountingTrainer.fits)
    CountingTrainer.fits.clear()
    outcome = attempt(services, grant)
    assert outcome.result["tuning"] == whole.result["tuning"]
    # Of a trial that was cut short its folds are fitted again, and no more.
    assert before == in_one_go[:stop_before]
    repeated = len(before) + len(CountingTrainer.fits) - len(in_one_go)
    assert 0 <= repeated <= 1
    assert CountingTrainer.fits == in_one_go[stop_before - repeated :]


def test_a_search_that_another_xgboost_began_is_begun_anew(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    CountingTrainer.stop_before = 6
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, tune=N_TRIALS)
    monkeypatch.setattr("mlops.stages.train.xgb.__version__", "3.1.0")
    with pytest.raises(StageCancelled):
        attempt(services, grant)
    monkeypatch.undo()
    CountingTrainer.stop_before = None
    CountingTrainer.fits.clear()
    attempt(services, grant)
    assert len(CountingTrainer.fits) >= N_TRIALS + 1  # every trial once more, and the winner


def test_a_sharpe_ratio_can_be_searched_for(services: FakeServices) -> None:
    services.with_policy(training=policy(search_metric="sharpe", horizon_dates=1))
    _, outcome = tuned(services, 2)
    assert outcome.result["tuning"]["metric"] == "sharpe"


def test_a_study_is_kept_while_its_run_has_not_ended_well_and_forgotten_then(services: FakeServices) -> None:
    CountingTrainer.stop_before = 3
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, tune=3)
    with pytest.raises(StageCancelled):
        attempt(services, grant)
    assert services.studies.names() == [grant.run_id]
    CountingTrainer.stop_before = None
    first = attempt(services, grant)
    assert services.studies.names() == []
    n_fits = len(CountingTrainer.fits)
    # A grant after the registration finds the version, and reads the search back from its tags.
    assert attempt(services, grant).result == first.result
    assert len(CountingTrainer.fits) == n_fits


def test_each_trial_is_progress_and_is_handed_to_the_registry(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[TrainedModel] = []
    log_training = services.fake_registry.log_training
    monkeypatch.setattr(
        services.fake_registry, "log_training", lambda record, **_: (records.append(record), log_training(record))[1]
    )
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, tune=4)
    keeper = services.keeper(grant)
    told: list[Progress] = []
    report = keeper.report
    monkeypatch.setattr(keeper, "report", lambda progress: (told.append(progress), report(progress))[1])
    train(grant, services, keeper)
    trials = [progress for progress in told if progress.unit == "trials"]
    assert [progress.done for progress in trials] == [0, 1, 2, 3, 4]
    assert trials[0].left_s is None
    assert all(progress.left_s is not None for progress in trials[1:])
    (record,) = records
    assert [trial.number for trial in record.trials] == [1, 2, 3, 4]
    assert json.loads(record.tags["tuning"])["n_trials"] == 4


def test_a_bad_trial_is_pruned_and_counts_as_a_look(services: FakeServices) -> None:
    # A learning rate of nothing learns nothing: its log loss is that of a coin, worse than the median.
    services.with_policy(training=policy(search={"learning_rate": [1e-9, 0.5]}, search_folds=3))
    _, outcome = tuned(services, 25)
    said = outcome.result["tuning"]
    assert 0 < said["n_pruned"] < 25
    assert services.registry.version(MODEL, "1").tags["tuning_trials"] == "25"


def test_roc_auc_is_searched_upwards(services: FakeServices) -> None:
    services.with_policy(training=policy(search_metric="roc_auc"))
    _, outcome = tuned(services)
    assert outcome.result["tuning"]["value"] >= outcome.result["tuning"]["own_value"]


def test_a_strategys_own_trainer_is_tuned_with_parameters_of_its_own(services: FakeServices) -> None:
    services.with_policy(
        training=policy(trainer=f"{__name__}:OwnTrainer", search={"leaves": [2, 8]}, params={"leaves": 4})
    )
    _, outcome = tuned(services, 3)
    assert set(outcome.result["tuning"]["params"]) == {"leaves"}


@pytest.mark.parametrize("tune", [0, -1, 501])
def test_a_number_of_trials_that_cannot_be_made_is_refused(services: FakeServices, tune: int) -> None:
    with pytest.raises(ConfigurationError, match="give 1 to 500"):
        run_request(services.strategies, "growth", Kind.TRAIN, reason="a test", requested_by="test", tune=tune)


def test_an_incremental_training_is_not_tuned(services: FakeServices) -> None:
    with pytest.raises(ConfigurationError, match="one of the two"):
        run_request(
            services.strategies, "growth", Kind.TRAIN, reason="a test", requested_by="test", tune=3, incremental=True
        )


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({}, "names no parameter"),
        ({"max_dept": [1, 3]}, "did you mean 'max_depth'"),
        ({"seed": [1, 3]}, "the policy's `seed`"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_any_trial(
    services: FakeServices, search: dict[str, Any], words: str
) -> None:
    services.with_policy(training=policy(search=search, trainer="xgboost"))
    with pytest.raises(ConfigurationError, match=words):
        tuned(services)
    assert services.studies.names() == []


def test_too_short_a_history_for_folds_is_an_error_that_says_so(services: FakeServices) -> None:
    services.with_source(panel(n_dates=40))
    services.with_policy(training=policy(search_folds=9))
    with pytest.raises(InsufficientData, match="9 folds need"):
        tuned(services)
    assert CountingTrainer.fits == []


def test_a_metric_that_is_undefined_on_a_fold_is_an_error_that_says_so(services: FakeServices) -> None:
    table = panel()
    renamed = ["other" if name == "target_return" else name for name in table.column_names]
    services.with_source(table.rename_columns(renamed))
    services.with_policy(training=policy(search_metric="sharpe", label="other > 0"))
    with pytest.raises(InsufficientData, match="'sharpe' is undefined on fold 1"):
        tuned(services)


def test_a_study_that_cannot_be_deleted_does_not_fail_a_run_that_has_its_version(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_id: str) -> None:
        raise ConfigurationError(run_id)

    monkeypatch.setattr(services.studies, "delete", refuse)
    _, outcome = tuned(services, 1)
    assert outcome.result["version"] == "1"
