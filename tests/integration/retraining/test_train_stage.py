"""The train stage over an in-memory view and registry: what it learns from, registers, and refuses to learn from."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb
from sklearn.linear_model import LogisticRegression

from mlops.domain.errors import (
    ConfigurationError,
    InsufficientData,
    LeaseLost,
    MissingColumn,
    RegistryUnavailable,
    SingleClass,
    StageCancelled,
    UnusableFeatures,
    UnusableModelFile,
)
from mlops.domain.policies import DataPolicy
from mlops.domain.ports import TrainingControl, TrainingData
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.training import trainer
from mlops.domain.training.feature_names import feature_names
from mlops.domain.training.trainer import XGBoostTrainer
from mlops.registry.projection import project
from mlops.stages.labelled_rows import read_labelled
from mlops.stages.train import train
from tests.support.features import InMemoryFeatures
from tests.support.ledgers import decision_for
from tests.support.models import trained_model
from tests.support.registry import loaded, sha256_of
from tests.support.services import FEATURES, LAST, MODEL, N_DATES, TICKERS, FakeServices, panel


def trained(services: FakeServices, kind: Kind = Kind.RETRAIN, **asked: Any) -> tuple[Grant, StageOutcome]:
    grant = services.granted(kind, Stage.TRAIN, **asked)
    return grant, train(grant, services, services.keeper(grant))


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values))


class WatchingTrainer(XGBoostTrainer):
    """The default trainer; keeps what it was given."""

    seen: list[TrainingData] = []  # noqa: RUF012 -- made anew by each strategy's training, read by the test

    def fit(self, data: TrainingData, **how: Any) -> Any:
        WatchingTrainer.seen.append(data)
        return super().fit(data, **how)


class CancelledTrainer(XGBoostTrainer):
    """A training that is told to stop in its first round."""

    def fit(self, data: TrainingData, *, control: TrainingControl, **how: Any) -> Any:
        raise StageCancelled


class NamelessTrainer:
    """A strategy's own: fits a plain array, so that the model has no names of features."""

    def fit(self, data: TrainingData, *, n_jobs: int, **_: Any) -> Any:
        return xgb.XGBClassifier(n_estimators=3, n_jobs=n_jobs).fit(np.asarray(data.x), data.y)


class LinearTrainer:
    """A strategy's own that returns what is no XGBClassifier."""

    def fit(self, data: TrainingData, **_: Any) -> Any:
        return LogisticRegression()


class RenamingTrainer:
    """A strategy's own whose model has other names than the view."""

    def fit(self, data: TrainingData, *, n_jobs: int, **_: Any) -> Any:
        frame = pd.DataFrame(np.asarray(data.x), columns=["a", "b", "c"])
        return xgb.XGBClassifier(n_estimators=3, n_jobs=n_jobs).fit(frame, data.y)


def test_a_model_without_names_of_features_is_given_the_views(services: FakeServices) -> None:
    table = panel().rename_columns({"value": "ret[5]"})
    services.with_source(table)
    services.with_policy(
        training=replace(services.strategies["growth"].training, trainer=f"{__name__}:NamelessTrainer")
    )
    trained(services)
    model = loaded(services.registry, MODEL, "1")
    assert feature_names(model.get_booster()) == ("momentum", "ret[5]", "noise")


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("LinearTrainer", "returned a LogisticRegression; it must return a fitted XGBClassifier"),
        ("RenamingTrainer", "returned a model of other features than it was given"),
    ],
)
def test_what_a_strategys_own_trainer_returns_is_checked(services: FakeServices, trainer: str, words: str) -> None:
    services.with_policy(training=replace(services.strategies["growth"].training, trainer=f"{__name__}:{trainer}"))
    with pytest.raises(ConfigurationError, match=words):
        trained(services)
    assert services.registry.versions(MODEL) == []


def test_a_version_stands_in_staging_and_goes_on_to_promotion(services: FakeServices) -> None:
    grant, outcome = trained(services)
    version = services.registry.version(MODEL, outcome.result["version"])
    assert (version.stage, version.aliases) == ("Staging", ("challenger",))
    assert version.tags["acis.run_id"] == grant.run_id
    assert (outcome.next_stage, outcome.run_state) == (Stage.PROMOTE, None)


def test_a_text_column_is_left_out_with_a_warning(services: FakeServices) -> None:
    view = panel()
    services.with_source(view.append_column("sector", pa.array(["tech"] * view.num_rows)))
    _, outcome = trained(services)
    assert outcome.result["warnings"] == ["left out: sector (text; a check compares it where data.include names it)"]


def test_a_training_alone_ends_with_its_version_in_staging(services: FakeServices) -> None:
    _, outcome = trained(services, Kind.TRAIN)
    assert (outcome.next_stage, outcome.run_state) == (None, RunState.SUCCEEDED)
    assert services.registry.version(MODEL, "1").stage == "Staging"


def test_held_out_dates_follow_the_training_dates_by_the_labels_horizon(services: FakeServices) -> None:
    # 200 dates; the last 5 labels are not known yet; the 20 before those are held out, and 5 before them purged.
    _, outcome = trained(services)
    held_out_first = LAST - timedelta(days=5 + 20 - 1)
    assert outcome.result["holdout_end"] == (LAST - timedelta(days=5)).isoformat()
    assert outcome.result["holdout_start"] == held_out_first.isoformat()
    assert outcome.result["train_end"] == (held_out_first - timedelta(days=5)).isoformat()
    assert outcome.result["n_holdout"] == 20 * TICKERS
    assert outcome.result["n_train"] == (N_DATES - 5 - 20 - 5 + 1) * TICKERS


def test_rows_whose_label_is_not_known_are_in_neither_half(services: FakeServices) -> None:
    rows = read_labelled(services.source, services.strategies["growth"], as_of=LAST)
    assert set(rows.dates[~rows.known]) == {np.datetime64(LAST - timedelta(days=days)) for days in range(5)}


def test_a_missing_target_is_unknown_and_never_labelled_0(services: FakeServices) -> None:
    table = panel()
    target = table.column("target_return").to_pylist()
    services.with_source(with_column(table, "target_return", [None] * 80 + target[80:]))
    services.with_policy(
        training=replace(services.strategies["growth"].training, trainer=f"{__name__}:WatchingTrainer")
    )
    WatchingTrainer.seen.clear()
    _, outcome = trained(services)
    (data,) = WatchingTrainer.seen
    # 80 rows of 8 tickers: 1 to 10 January have no target.
    assert data.dates.min() == np.datetime64("2020-01-11")
    known = np.array([value > 0 for value in target[80 : 80 + len(data.y)]])
    assert data.y.tolist() == known.astype(int).tolist()
    assert outcome.result["n_train"] == len(data.y)


def test_the_metrics_are_measured_on_the_held_out_rows(services: FakeServices) -> None:
    _, outcome = trained(services)
    metrics = outcome.result["metrics"]
    assert metrics["n_holdout"] == 20 * TICKERS
    # y = 1 where 0.02 m + 0.01 e > 0; by orthants, the sign of m alone is right in 1/2 + asin(0.894) / pi = 0.85.
    assert metrics["accuracy"] == pytest.approx(0.85, abs=0.09)  # three standard errors of 160 rows
    assert {"majority_accuracy", "roc_auc", "precision", "recall", "f1_score", "log_loss_skill"} <= set(metrics)
    # 20 dates of a label that looks 5 ahead are 4 periods: too few for a Sharpe ratio.
    assert (metrics["n_periods"], "sharpe_ratio" in metrics) == (4, False)


def share_called(dates: Any, y: Any, p: Any, returns: Any) -> float:
    assert len(dates) == len(y) == len(p) == len(returns) == 20 * TICKERS
    return float((p >= 0.5).mean())


def broken(dates: Any, y: Any, p: Any, returns: Any) -> float:
    return 1 / 0


def test_metrics_of_the_strategys_own_are_logged_and_a_broken_one_stops_nothing(services: FakeServices) -> None:
    own = {"share_called": f"{__name__}:share_called", "broken": f"{__name__}:broken"}
    services.with_policy(training=replace(services.strategies["growth"].training, metrics=own))
    _, outcome = trained(services)
    assert 0 < outcome.result["metrics"]["share_called"] < 1
    assert "broken" not in outcome.result["metrics"]
    assert services.registry.version(MODEL, "1").metrics["share_called"] == outcome.result["metrics"]["share_called"]


def test_an_embargo_lies_between_the_purged_and_the_held_out_dates(services: FakeServices) -> None:
    services.with_policy(training=replace(services.strategies["growth"].training, embargo_dates=7))
    _, outcome = trained(services)
    held_out_first = LAST - timedelta(days=5 + 20 - 1)
    assert outcome.result["train_end"] == (held_out_first - timedelta(days=5 + 7)).isoformat()


def test_a_future_that_the_view_holds_already_is_not_looked_at(services: FakeServices) -> None:
    as_of = LAST - timedelta(days=30)
    _, outcome = trained(services, as_of=as_of)
    assert outcome.result["holdout_end"] == (as_of - timedelta(days=5)).isoformat()
    assert outcome.as_of == as_of


def test_a_second_grant_finds_the_version_and_does_not_train_again(services: FakeServices) -> None:
    services.with_policy(
        training=replace(services.strategies["growth"].training, trainer=f"{__name__}:WatchingTrainer")
    )
    WatchingTrainer.seen.clear()
    grant, first = trained(services)
    again = train(grant, services, services.keeper(grant))
    assert again.result == first.result
    assert len(WatchingTrainer.seen) == 1
    assert len(services.registry.versions(MODEL)) == 1


def test_a_version_that_its_run_has_decided_about_does_not_return_to_staging(services: FakeServices) -> None:
    grant, outcome = trained(services)
    services.ledger.decide(grant, decision_for(outcome.result["version"], target_stage="Archived", decision="refuse"))
    services.registry.apply_stage(MODEL, "1", "Archived", seq=0, tags={})
    train(grant, services, services.keeper(grant))
    assert services.registry.version(MODEL, "1").stage == "Archived"


@pytest.mark.parametrize(
    ("decision", "stage"), [("promote", "Production"), ("refuse", "Archived")], ids=["promoted", "refused"]
)
def test_a_version_that_somebody_else_decided_about_before_the_stage_ended_keeps_its_place(
    services: FakeServices, decision: str, stage: str
) -> None:
    grant, outcome = trained(services, Kind.TRAIN)
    made = services.ledger.record_transition(
        "growth", decision_for(outcome.result["version"], decision=decision, target_stage=stage)
    )
    project(made, services.registry, services.ledger)
    aliases = services.registry.version(MODEL, "1").aliases
    train(grant, services, services.keeper(grant))  # the first try died before it wrote its end
    version = services.registry.version(MODEL, "1")
    assert (version.stage, version.aliases) == (stage, aliases)


def test_a_version_that_was_decided_about_and_is_not_shown_yet_is_left_to_its_projection(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    with monkeypatch.context() as patched:
        patched.setattr(services.fake_registry, "apply_stage", _silent)
        with pytest.raises(RegistryUnavailable):
            train(grant, services, services.keeper(grant))
    services.ledger.record_transition("growth", decision_for("1"))
    train(grant, services, services.keeper(grant))
    assert services.registry.version(MODEL, "1").stage == "None"


def test_a_decision_that_commits_while_the_version_is_staged_is_what_the_registry_shows(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, decisions = services.fake_registry.apply_stage, iter([decision_for("1")])

    def apply_while_a_person_promotes(*place: Any, **how: Any) -> None:
        for decision in decisions:
            project(services.ledger.record_transition("growth", decision), services.registry, services.ledger)
        apply(*place, **how)

    monkeypatch.setattr(services.fake_registry, "apply_stage", apply_while_a_person_promotes)
    trained(services, Kind.TRAIN)
    version = services.registry.version(MODEL, "1")
    assert (version.stage, version.aliases) == ("Production", ("champion",))


def _silent(*_: object, **__: object) -> None:
    raise RegistryUnavailable


def test_attempts_that_died_while_logging_are_closed(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    services.fake_registry.running.append(grant.run_id)
    train(grant, services, services.keeper(grant))
    assert services.fake_registry.running == []


def test_a_worker_that_was_silent_for_46_of_60_seconds_registers_nothing(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    with pytest.raises(LeaseLost, match="46 s ago"):
        train(grant, services, services.keeper(grant, silent_s=46))
    assert services.registry.versions(MODEL) == []


def test_a_worker_that_was_silent_for_44_seconds_may_still_write(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    train(grant, services, services.keeper(grant, silent_s=44))
    assert len(services.registry.versions(MODEL)) == 1


def test_a_cancelled_training_registers_nothing(services: FakeServices) -> None:
    services.with_policy(
        training=replace(services.strategies["growth"].training, trainer=f"{__name__}:CancelledTrainer")
    )
    with pytest.raises(StageCancelled):
        trained(services)
    assert services.registry.versions(MODEL) == []


def test_a_text_among_the_features_is_refused_in_words(services: FakeServices) -> None:
    table = panel()
    services.with_source(table.append_column("sector", pa.array(["tech"] * table.num_rows)))
    services.with_policy(data=DataPolicy(as_of="latest", include=("momentum", "sector")))
    with pytest.raises(UnusableFeatures, match=r"sector \(category\) cannot be trained on"):
        trained(services)


@pytest.mark.parametrize(
    ("column", "values", "error", "words"),
    [
        ("target_return", lambda n: np.full(n, 0.01), SingleClass, "training labels are 1"),
        ("target_return", lambda n: np.full(n, -0.01), SingleClass, "training labels are 0"),
        ("target_return", lambda n: pa.nulls(n, pa.float64()), InsufficientData, "found 0 labelled dates"),
    ],
)
def test_labels_that_teach_nothing_are_refused_in_words(
    services: FakeServices, column: str, values: Any, error: type[Exception], words: str
) -> None:
    table = panel()
    services.with_source(with_column(table, column, values(table.num_rows)))
    with pytest.raises(error, match=words):
        trained(services)
    assert services.registry.versions(MODEL) == []


def test_features_that_are_all_missing_or_constant_are_refused(services: FakeServices) -> None:
    table = panel()
    for name, value in zip(FEATURES, (np.nan, np.inf, 1.0), strict=True):
        table = with_column(table, name, np.full(table.num_rows, value))
    services.with_source(table)
    with pytest.raises(UnusableFeatures, match="none of the 3 features varies"):
        trained(services)


def test_a_label_whose_column_the_view_lacks_is_named(services: FakeServices) -> None:
    services.with_policy(training=replace(services.strategies["growth"].training, label="target_alpha > 0"))
    with pytest.raises(MissingColumn, match="target_alpha"):
        trained(services)


def test_a_history_too_short_to_hold_out_says_what_is_missing(services: FakeServices) -> None:
    services.with_source(panel(n_dates=24))
    with pytest.raises(InsufficientData, match="20 held-out dates"):
        trained(services)


def test_what_is_logged_is_what_the_registry_must_hold(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    log_training = services.fake_registry.log_training

    def keep(model: Any, **_: Any) -> Any:
        assert all(path.is_file() for path in model.artifacts.values())
        logged.append(model)
        return log_training(model)

    monkeypatch.setattr(services.fake_registry, "log_training", keep)
    grant, _ = trained(services)
    (model,) = logged
    assert (model.ledger_run_id, model.model_name, model.features) == (grant.run_id, MODEL, FEATURES)
    assert {"strategy", "model_type", "training_date", "data_fingerprint", "run_id"} <= set(model.tags)
    assert model.tags["training_date"] == LAST.isoformat()
    assert {"max_depth", "n_estimators", "seed", "label", "train_samples", "test_samples"} <= set(model.params)
    assert {"feature_importance.csv", "model_card.md"} <= {name.rpartition("/")[2] for name in model.artifacts}
    assert len(model.example) == 5


def test_the_same_rows_give_the_same_fingerprint_and_other_rows_another(services: FakeServices) -> None:
    prints = [trained(services, Kind.TRAIN, as_of=day)[1].result["data_fingerprint"] for day in (LAST,)]
    services.timed.wipe()
    prints.append(trained(services, Kind.TRAIN, as_of=LAST)[1].result["data_fingerprint"])
    services.timed.wipe()
    prints.append(trained(services, Kind.TRAIN, as_of=date(2020, 7, 1))[1].result["data_fingerprint"])
    assert prints[0] == prints[1] != prints[2]


def test_early_stopping_is_in_the_result_and_the_tags(services: FakeServices) -> None:
    services.with_policy(
        training=replace(
            services.strategies["growth"].training,
            early_stopping_rounds=2,
            validation_dates=20,
            params={"n_estimators": 200, "max_depth": 3, "learning_rate": 0.5},
        )
    )
    _, outcome = trained(services)
    model = loaded(services.registry, MODEL, "1")
    assert outcome.result["best_iteration"] == model.best_iteration == model.get_booster().num_boosted_rounds() - 1
    assert outcome.result["best_iteration"] < 199 - 2
    assert outcome.result["n_validation"] == 20 * TICKERS
    assert services.registry.version(MODEL, "1").tags["best_iteration"] == str(outcome.result["best_iteration"])
    # What the rounds were chosen on is known to the model as well.
    assert outcome.result["train_end"] > "2020-06-01"


def test_a_gpu_that_is_not_there_is_a_warning_in_the_result_and_the_tags(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_ROLE", "train.gpu")
    monkeypatch.setattr(trainer, "probe", lambda _: "cpu")
    _, outcome = trained(services)
    version = services.registry.version(MODEL, "1")
    assert (outcome.result["device"], version.tags["device"]) == ("cpu", "cpu")
    (warning,) = outcome.result["warnings"]
    assert "the CPU was used" in warning
    assert version.tags["warning"] == warning


def test_a_training_on_the_cpu_has_no_warning(services: FakeServices) -> None:
    _, outcome = trained(services)
    assert (outcome.result["warnings"], outcome.result["best_iteration"]) == ([], None)


def test_a_constraint_on_something_that_is_no_feature_is_refused(services: FakeServices) -> None:
    services.with_policy(training=replace(services.strategies["growth"].training, monotone={"momentun": 1}))
    with pytest.raises(ConfigurationError, match="did you mean 'momentum'"):
        trained(services)
    assert services.registry.versions(MODEL) == []


def test_the_same_seed_gives_the_same_model_bytes(services: FakeServices) -> None:
    def content() -> bytes:
        _, outcome = trained(services, Kind.TRAIN)
        model = loaded(services.registry, MODEL, outcome.result["version"])
        return bytes(model.get_booster().save_raw("ubj"))

    first = content()
    services.timed.wipe()
    assert content() == first
    assert len(services.registry.versions(MODEL)) == 1 + 1


def test_a_training_that_fails_leaves_a_run_that_says_why(services: FakeServices) -> None:
    services.with_source(with_column(panel(), "target_return", np.full(panel().num_rows, 0.01)))
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    with pytest.raises(SingleClass):
        train(grant, services, services.keeper(grant))
    (failed,) = services.fake_registry.failures
    assert (failed.ledger_run_id, failed.run_name) == (grant.run_id, f"growth {LAST} train")
    assert failed.reason.startswith("SingleClass: all 1368 training labels are 1")
    assert failed.tags["strategy"] == "growth"


def test_a_training_that_waits_or_stops_leaves_no_failed_run(services: FakeServices) -> None:
    services.with_policy(
        training=replace(services.strategies["growth"].training, trainer=f"{__name__}:CancelledTrainer")
    )
    with pytest.raises(StageCancelled):
        trained(services)
    assert services.fake_registry.failures == []


def test_a_registry_that_does_not_answer_hides_no_failure(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.fake_registry, "log_failure", _silent)
    services.with_policy(training=replace(services.strategies["growth"].training, monotone={"momentun": 1}))
    with pytest.raises(ConfigurationError, match="momentun"):
        trained(services)


def test_a_worker_that_lost_its_lease_logs_no_failure(services: FakeServices) -> None:
    services.with_policy(training=replace(services.strategies["growth"].training, monotone={"momentun": 1}))
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    with pytest.raises(ConfigurationError):
        train(grant, services, services.keeper(grant, silent_s=46, after_writes=1))
    assert services.fake_registry.failures == []


def test_a_worker_that_was_asleep_ends_no_run_of_whoever_took_over(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    services.fake_registry.running = [grant.run_id]
    with pytest.raises(LeaseLost):
        train(grant, services, services.keeper(grant, silent_s=46))
    assert services.fake_registry.running == [grant.run_id]


def test_sizes_and_counts_are_among_the_metrics_and_summaries_among_the_files(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    log_training = services.fake_registry.log_training
    monkeypatch.setattr(
        services.fake_registry, "log_training", lambda model, **_: (logged.append(model), log_training(model))[1]
    )
    _, outcome = trained(services)
    (model,) = logged
    metrics = outcome.result["metrics"]
    assert metrics["n_train_positive"] + metrics["n_train_negative"] == outcome.result["n_train"]
    assert metrics["n_holdout_positive"] + metrics["n_holdout_negative"] == outcome.result["n_holdout"]
    assert metrics["model_size_bytes"] == len(model.model.get_booster().save_raw("ubj"))
    plots = ["roc", "precision_recall", "calibration", "confusion", "importance", "shap_summary", "equity_curve"]
    assert set(model.artifacts) >= {f"plots/{name}.png" for name in plots} | {"shap_summary.csv"}
    assert model.run_name == f"growth {LAST} retrain"


def test_a_batch_that_was_read_does_not_stay_in_memory(services: FakeServices) -> None:
    held: list[float] = []

    class FreshBatches(InMemoryFeatures):
        """Batches with buffers of their own, as a database's driver gives them."""

        def read_batches(self, *asked: Any) -> Any:
            before = pa.total_allocated_bytes()
            for batch in super().read_batches(*asked):
                fresh = pa.record_batch({name: pa.array(batch[name].to_pylist()) for name in batch.schema.names})
                held.append((pa.total_allocated_bytes() - before) / fresh.nbytes)
                yield fresh

    rows = read_labelled(FreshBatches(panel()), services.strategies["growth"], as_of=LAST)
    assert len(rows.x) == N_DATES * TICKERS
    assert len(held) == N_DATES * TICKERS / 100
    assert max(held) - held[0] < 3  # in batches, of which there are 16


def test_a_training_on_an_old_feed_says_so_in_result_tag_and_card_and_holds_its_promotion_back(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards: list[str] = []
    log_training = services.fake_registry.log_training

    def kept(model: Any, **how: Any) -> Any:
        cards.append(model.artifacts["model_card.md"].read_text())
        return log_training(model, **how)

    monkeypatch.setattr(services.fake_registry, "log_training", kept)
    as_of = LAST + timedelta(days=60)
    services.today = as_of
    _, outcome = trained(services, as_of=as_of)
    words = f"the newest features are of {LAST}, 60 days before {as_of}"
    assert [found["code"] for found in outcome.result["findings"]] == ["stale_features"]
    assert words in outcome.result["warnings"][0]
    assert words in services.registry.version(MODEL, "1").tags["warning"]
    assert f"Warning: {words}" in cards[0]


def test_a_misdated_row_dates_no_training(services: FakeServices) -> None:
    services.today = LAST + timedelta(days=90)
    table = panel()
    later = table.slice(table.num_rows - 1).set_column(1, "date", pa.array([LAST + timedelta(days=84)], pa.date32()))
    _, whole = trained(services, Kind.TRAIN)
    services.with_source(pa.concat_tables([table, later]))
    _, outcome = trained(services)
    assert outcome.as_of == LAST
    assert outcome.result["data_fingerprint"] == whole.result["data_fingerprint"]
    assert "1 date does not count" in outcome.result["warnings"][0]


# --------------------------------------------------------------------------- the file that the run made


def test_the_ledger_knows_the_files_digest_by_the_versions_number(services: FakeServices) -> None:
    grant, outcome = trained(services)
    content = services.registry.model_file(MODEL, "1")
    known = services.ledger.recorded_model(MODEL, outcome.result["version"])
    assert (known.sha256, known.made_by) == (sha256_of(content), grant.run_id)
    assert outcome.result["model_sha256"] == known.sha256


def test_a_version_that_somebody_registered_under_the_runs_id_is_not_taken_for_its_own(services: FakeServices) -> None:
    services.fake_registry.recorded = lambda _: None
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    foreign = services.registry.log_training(trained_model(grant.run_id))
    outcome = train(grant, services, services.keeper(grant))
    assert outcome.result["version"] != foreign.version
    assert services.ledger.recorded_model(MODEL, foreign.version).sha256 is None


def test_a_file_that_is_swapped_while_it_is_registered_fails_the_training(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.fake_registry, "model_file", lambda *_: b"another model")
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    with pytest.raises(UnusableModelFile, match="it was changed while it was registered; train again"):
        train(grant, services, services.keeper(grant))
    assert services.ledger.recorded_model(MODEL, "1").sha256 is None
