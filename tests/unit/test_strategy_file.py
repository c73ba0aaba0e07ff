"""Strategies from TOML: defaults, overrides, errors with place and mend, and the snapshot of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.errors import ConfigurationError, InvalidStrategyFile, UnknownStrategy
from mlops.domain.policies import (
    DataPolicy,
    DriftPolicy,
    ExecutionPolicy,
    PromotionPolicy,
    SchedulePolicy,
    Strategy,
    TrainingPolicy,
)
from mlops.strategies.file import (
    POLICIES,
    Settled,
    Strategies,
    file_schema,
    load_strategies,
    restore,
    run_policy,
    snapshot,
    value_schema,
)

CONFIG = Path(__file__).parents[2] / "config"


def loaded(tmp_path: Path, text: str) -> Strategies:
    path = tmp_path / "strategies.toml"
    path.write_text(text)
    return load_strategies(path)


def test_a_bare_table_is_a_strategy_with_the_documented_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "[strategies.growth]")["growth"] == Strategy(name="growth")


def test_the_documented_defaults_are_what_they_are() -> None:
    strategy = Strategy(name="growth")
    assert (strategy.data.reference_days, strategy.data.current_days, strategy.data.min_current_rows) == (90, 7, 100)
    assert (strategy.drift.ks_p, strategy.drift.psi_moderate, strategy.drift.psi_significant) == (0.05, 0.1, 0.2)
    assert strategy.drift.alert_share == 0.3
    assert strategy.training.training_days == 730
    assert strategy.training.label == "target_return > 0"
    assert strategy.training.params == {
        "max_depth": 6, "learning_rate": 0.1, "n_estimators": 100, "subsample": 0.8, "colsample_bytree": 0.8,
    }  # fmt: skip
    assert strategy.promotion.min_accuracy == 0.7
    assert (strategy.schedule.drift_check, strategy.schedule.retrain) == ("0 3 * * *", "0 4 * * 0")
    assert strategy.model_name == "acis_growth_classifier"


def test_the_projects_file_spells_out_the_defaults_of_the_four_documented_strategies() -> None:
    strategies = load_strategies(CONFIG / "strategies.toml")
    assert list(strategies) == ["growth", "value", "dividend", "momentum"]
    for name, strategy in strategies.items():
        assert strategy == Strategy(name=name, description=strategy.description)


def test_the_samples_file_has_an_honest_gate_and_a_strategy_with_the_documented_one() -> None:
    strategies = load_strategies(CONFIG / "strategies_sample.toml")
    growth, direction = strategies["growth"], strategies["direction"]
    assert (growth.data.as_of, growth.data.current_days) == ("latest", 30)
    assert growth.training.label == "target_volatility_20d > volatility_20d"
    gates = growth.promotion
    assert (gates.min_accuracy, gates.min_roc_auc, gates.min_lift_over_majority) == (None, 0.6, 0.05)
    assert direction.training.label == "target_return > 0"
    gates = direction.promotion
    assert (gates.min_accuracy, gates.min_roc_auc, gates.min_lift_over_majority) == (0.7, None, None)


def test_a_strategy_overrides_the_defaults_key_by_key_params_too(tmp_path: Path) -> None:
    strategies = loaded(
        tmp_path,
        """
        [defaults.drift]
        alert_share = 0.4
        bins = 20
        [defaults.training.params]
        max_depth = 3
        subsample = 0.5
        [strategies.growth.drift]
        bins = 5
        [strategies.growth.training.params]
        max_depth = 4
        [strategies.value]
        """,
    )
    assert (strategies["growth"].drift.alert_share, strategies["growth"].drift.bins) == (0.4, 5)
    assert strategies["growth"].training.params == {"max_depth": 4, "subsample": 0.5}
    assert strategies["value"].drift.bins == 20
    assert strategies["value"].training.params == {"max_depth": 3, "subsample": 0.5}


def test_the_word_none_takes_a_gate_out(tmp_path: Path) -> None:
    gates = loaded(tmp_path, '[strategies.growth.promotion]\nmin_accuracy = "none"')["growth"].promotion
    assert gates.min_accuracy is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "[strategies.growth.drift]\nalert_sahre = 0.4",
            "strategy 'growth': drift.alert_sahre: there is no such value; did you mean 'alert_share'.*found 0.4",
        ),
        ("[strategies.growth]\nlabel = 'x > 0'", "strategy 'growth': label: "),
        ("[strategies.growth.drift]\nalert_share = 'much'", "drift.alert_share: .*found 'much'"),
        ("[strategies.growth.data]\nas_of = 'yesterday'", "data.as_of: .*found 'yesterday'"),
        ("[strategies.growth.promotion]\nconfidence = 1.0", "promotion.confidence is at least 0.5 and below 1"),
        ("[strategies.growth.promotion]\nconfidence = 0.4", "promotion.confidence is at least 0.5 and below 1"),
        ("[strategies.growth.promotion]\nmargin = -0.01", "promotion.margin is 0 to 1,000,000"),
        ("[strategies.growth.promotion]\nmargin = inf", "promotion.margin is 0 to 1,000,000"),
        ("[strategies.growth.promotion]\nmax_champion_age = 0", 'promotion.max_champion_age is 1 to 36,500, or "none"'),
        (
            "[strategies.growth.promotion]\ngates = { sharpe_ratio = nan }",
            "promotion.gates.sharpe_ratio is -1,000,000,000,000 to 1,000,000,000,000.*found nan",
        ),
        ("[strategies.growth.promotion]\ngates = { sharpe_ratio = 'high' }", "promotion.gates.sharpe_ratio"),
        ("[strategies.growth.promotion]\ncomparison = 'coin'", "promotion.comparison"),
        ("[strategies.growth.promotion]\nmain_metric = 'none'", "promotion.main_metric"),
        ("[strategies.growth.training]\nparams = 3", "training.params: .*found 3"),
        ("[strategies.growth.training]\nlabel = \"__import__('os').system('x')\"", "label .* is not understood"),
        ("[strategies.growth.drift]\nalert_share = 30", "drift.alert_share is above 0 and at most 1 .*found 30"),
        ("[strategies.growth.drift]\nalert_share = 0", "drift.alert_share is above 0 and at most 1 .*found 0"),
        ("[strategies.growth.drift]\nks_p = 1.5", "drift.ks_p is above 0 and below 1"),
        ("[strategies.growth.drift]\nbins = 1", "drift.bins is 2 to 10,000 .*found 1"),
        ("[strategies.growth.drift]\npsi_moderate = 0.3", "drift.psi_moderate is at most psi_significant .*found 0.3"),
        ("[strategies.growth.data]\ncurrent_days = 0", "data.current_days is 1 to .*found 0"),
        ("[strategies.growth.drift]\nweights = 'gain'", "drift.weights: .*found 'gain'"),
        ("[strategies.growth.drift]\npredictions = 'champion'", "drift.predictions: .*found 'champion'"),
        ("[strategies.growth.data]\nmax_reference_rows = 99", 'max_reference_rows is 100,000 to .*, or "none"'),
        ("[strategies.growth.training]\nembargo_dates = -1", "training.embargo_dates is 0 to .*found -1"),
        ("[strategies.growth.findings]\nroc_auc = 0", "findings.roc_auc is above 0 and at most 1,000"),
        ('[strategies.growth.promotion]\naccepted_findings = ["vol_20"]', "'vol_20' is no finding; write one of"),
        ("[strategies.growth.training]\nfolds = 21", "training.folds is 0 to 20 .*found 21"),
        ('[strategies.growth.training]\nfold_window = "sliding"', "training.fold_window"),
        ('[strategies.growth.training.metrics]\nhit_rate = "desk.hit_rate"', "write package.module:function"),
        ("[strategies.growth.training.search]\nmax_depth = [8, 3]", "training.search.max_depth = .*goes down"),
        ("[strategies.growth.training.search]\nmax_depth = 3", "training.search.max_depth"),
        ("[strategies.growth.training]\nsearch_folds = 0", "training.search_folds is 1 to 20 .*found 0"),
        ('[strategies.growth.training]\nsearch_metric = "luck"', "training.search_metric"),
        ("[strategies.growth.training]\nincremental_days = 0", "training.incremental_days is 1 to 36,500"),
        ("[strategies.growth.training]\nmax_incremental_updates = -1", "max_incremental_updates is 0 to 10,000"),
        ("[strategies.growth.training]\nholdout_dates = 0", "training.holdout_dates is 1 to 10,000"),
        ("[strategies.growth.training]\nhorizon_dates = -1", "training.horizon_dates is 0 to 10,000"),
        ("[defaults.drfit]\nbins = 3\n[strategies.growth]", "drfit: "),
        ("[strategies.growth]\nname = 'value'", "its name is its table's"),
        ("[strategy.growth]", "unknown table 'strategy'; only defaults and strategies"),
        ("[defaults.drift]\nbins = 3", r"names no strategy; add a table \[strategies.NAME\]"),
        ("", "names no strategy"),
        ("strategies = 3", r"strategies must be a table, found 3; write \[strategies\]"),
        ("[strategies]\ngrowth = 5", r"strategies.growth must be a table, found 5; write \[strategies.growth\]"),
        ("[strategies.growth]\ndrift = 5", r"strategies.growth.drift must be a table, found 5"),
        ("[defaults]\ndrift = 3\n[strategies.growth]", r"defaults.drift must be a table, found 3"),
        ("[strategies.growth", "is not TOML"),
        ('[strategies."growth\'; DROP TABLE x"]', "is no strategy name; use lower-case letters, digits, underscores"),
        ("[strategies.Growth]", "'Growth' is no strategy name"),
        ("[strategies.1growth]", "'1growth' is no strategy name"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(InvalidStrategyFile, match=f"strategies file {tmp_path}/strategies.toml.*{place}"):
        loaded(tmp_path, text)


PARAMS = "[strategies.growth.training.params]\n"
SEARCH = "[strategies.growth.training.search]\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("missing = -999.0", "missing cannot be set by a strategy; .*NULL in the feature view"),
        ('objective = "binary:logitraw"', "objective is 'binary:logistic', the one that gives a probability"),
        ('objective = "rank:pairwise"', "objective is 'binary:logistic'"),
        ('objective = "count:poisson"', "objective is 'binary:logistic'"),
        ('objective = "multi:softprob"', "objective is 'binary:logistic'"),
        ('tree_method = "exact"', "tree_method is 'hist'"),
        ('booster = "gblinear"', "booster is 'gbtree'"),
        ("subsample = 1.5", r"subsample is a number, above 0 and at most 1 \(found 1.5\)"),
        ("subsample = 0.0", "subsample is a number, above 0"),
        ("base_score = 1.5", r"base_score is a number, between 0 and 1 \(found 1.5\)"),
        ("base_score = 1.0", "base_score is a number, between 0 and 1"),
        (
            "learning_rate = 1e-300",
            r"learning_rate is a number, 0 or from 1.17549e-38, the least that XGBoost.s numbers hold",
        ),
        ("n_estimators = 50.5", r"n_estimators is a whole number, 1 to 100,000 \(found 50.5\)"),
        ("n_estimators = -3", "n_estimators is a whole number"),
        ("n_estimators = true", "n_estimators is a whole number"),
        ("learning_rate = nan", "learning_rate is a number, 0 to 1"),
        ('learning_rate = "fast"', "learning_rate is a number"),
        ("reg_lambda = -1.0", "reg_lambda is a number"),
        ("max_depth = 0", "max_depth = 0 puts no bound on a tree; set max_leaves"),
        ("max_dept = 3", "max_dept is no parameter that this system supports; did you mean 'max_depth'"),
        ('interaction_constraints = "[[0, 1]]"', "interaction_constraints is no parameter that this system supports"),
        ('monotone_constraints = "(1,0)"', "monotone_constraints cannot be set by a strategy; set the policy's `mon"),
        ('eval_metric = "auc"', "eval_metric cannot be set by a strategy"),
        ("scale_pos_weight = 0", "scale_pos_weight is a number, above 0"),
    ],
)
def test_a_parameter_is_one_of_a_closed_list_and_in_its_range(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InvalidStrategyFile, match=f"strategy 'growth': training.params.{fault}"):
        loaded(tmp_path, PARAMS + text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("missing = [-999.0, 0.0]", "missing cannot be set by a strategy"),
        ('objective = ["binary:logistic", "binary:logitraw"]', "objective is 'binary:logistic'"),
        ("subsample = [0.5, 1.5]", r"subsample is a number, .*found 1.5"),
        ("n_estimators = [50.0, 300.0]", r"n_estimators is a whole number, .*found 50.0"),
        ("n_estimators = [0, 300]", "n_estimators is a whole number, .*found 0"),
        ("max_dept = [3, 8]", "max_dept is no parameter that this system supports; did you mean 'max_depth'"),
    ],
)
def test_a_search_chooses_supported_values_alone(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InvalidStrategyFile, match=f"strategy 'growth': training.search.{fault}"):
        loaded(tmp_path, SEARCH + text)


def test_a_trainer_of_the_strategys_own_takes_whatever_parameters_it_knows(tmp_path: Path) -> None:
    text = '[strategies.growth.training]\ntrainer = "desk.trainers:Own"\n' + PARAMS + "leaves = 4\nmissing = -1.0\n"
    training = loaded(tmp_path, text + SEARCH + "leaves = [2, 8]")["growth"].training
    assert (training.params["leaves"], training.search["leaves"]) == (4, [2, 8])


@pytest.mark.parametrize("bar", ["min_accuracy = 70.0", "min_roc_auc = nan", "min_f1 = -0.1"])
def test_a_bar_on_a_share_is_a_share(tmp_path: Path, bar: str) -> None:
    with pytest.raises(InvalidStrategyFile, match=r'promotion\.min_.* is 0 to 1, or "none"'):
        loaded(tmp_path, f"[strategies.growth.promotion]\n{bar}")


def test_a_file_that_is_not_there_is_refused_with_the_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(InvalidStrategyFile, match="does not exist; set ACIS_STRATEGIES_FILE"):
        load_strategies(tmp_path / "strategies.toml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "strategies.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidStrategyFile, match="is not TOML"):
        load_strategies(path)


@pytest.mark.parametrize("name", ["growht", "growth'; DROP TABLE ml_training_features", ""])
def test_an_unknown_name_is_refused_with_those_that_are_known(tmp_path: Path, name: str) -> None:
    strategies = loaded(tmp_path, "[strategies.value]\n[strategies.growth]")
    with pytest.raises(UnknownStrategy) as caught:
        strategies[name]
    assert str(caught.value) == f"strategy {name!r} is not known; one of: growth, value"
    assert name not in list(strategies)


def test_values_that_a_caller_gives_replace_the_policys_and_none_keeps_them() -> None:
    strategy = Strategy(name="growth")
    assert strategy.overridden() == strategy
    assert strategy.overridden(drift_threshold=0.5).drift == DriftPolicy(alert_share=0.5)
    assert strategy.overridden(min_accuracy=0.0).promotion.min_accuracy == 0.0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "drift]\npersistence_window = 100_000_000_000_000_000_000_000",
            "drift.persistence_window is 1 to 10,000 .*found 1",
        ),
        ("schedule]\nspread_minutes = -1", "schedule.spread_minutes is 0 to 10,080 .*found -1"),
        ("schedule]\ngrace_hours = nan", "schedule.grace_hours is 0 to 87,600 .*found nan"),
        ("drift]\nbins = 1_000_000_000", "drift.bins is 2 to 10,000 .*found 1000000000"),
        ("drift]\npersistence_checks = 3", "drift.persistence_checks is at most persistence_window .*found 3, 1"),
        ("drift]\nsmoothing = 0", "drift.psi_floor is above 0 where smoothing is 0"),
        ("drift]\nbins = 1\nalpha = 1", "drift.alpha is above 0 and below 1 .*; drift.bins is 2 to"),
        ("data]\nreference = 'season'\nreference_days = 360", "data.reference_days and current_days of a season .*365"),
        ("data]\nreturn_bounds = [0.5, 10]", "data.return_bounds.0 is -1,000,000 to 0 .*found 0.5"),
        ('training]\ntrainer = "desk:Own"\nparams = { leaves = nan }', "training.params.leaves is a finite number"),
    ],
)
def test_a_slip_of_a_finger_is_refused_with_what_was_typed_and_its_bounds(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(InvalidStrategyFile, match=rf"strategies\.toml, strategy 'growth': {fault}"):
        loaded(tmp_path, f"[strategies.growth.{text}")


def numbers(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for part in schema:
            yield from numbers(part)
    elif isinstance(schema, dict):
        if schema.get("type") in ("number", "integer"):
            yield schema
        for key, part in schema.items():
            # What a trainer's parameters and a search's values may be is the trainer's.
            if key not in ("params", "search", "default", "monotone"):
                yield from numbers(part)


def test_every_number_of_a_policy_is_bounded_on_both_sides() -> None:
    for policy in POLICIES:
        for number in numbers(value_schema(policy)):
            assert {"minimum", "exclusiveMinimum"} & set(number), (policy, number)
            assert {"maximum", "exclusiveMaximum"} & set(number), (policy, number)


def test_every_value_of_the_schema_says_what_it_means_and_its_default() -> None:
    for policy in POLICIES:
        for name, value in value_schema(policy)["properties"].items():
            assert value["description"], name
            assert "default" in value or value.get("type") == "object", name
    assert value_schema("drift.alert_share") == {
        "description": "Share of features that must have drifted; the documented alert threshold.",
        "default": 0.3,
        "exclusiveMinimum": 0,
        "maximum": 1,
        "type": "number",
    }
    assert value_schema("promotion.min_f1")["default"] == "none"


def test_the_published_schema_is_the_codes_and_both_files_name_it() -> None:
    assert json.loads((CONFIG / "strategies.schema.json").read_text()) == file_schema(), "make schema"
    for name in ("strategies.toml", "strategies_sample.toml"):
        assert (CONFIG / name).read_text().startswith("#:schema strategies.schema.json\n")


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.lists(st.text(max_size=8), max_size=3).map(tuple)
GATES = st.none() | st.floats(0, 1)
LEVELS = st.floats(0, 1, exclude_min=True, exclude_max=True)
STRATEGIES = st.builds(
    Strategy,
    name=st.text(),
    description=st.text(),
    data=st.builds(DataPolicy, current_days=st.integers(1, 36_500), include=NAMES, exclude=NAMES),
    drift=st.builds(DriftPolicy, alert_share=LEVELS, ks_p=LEVELS, bins=st.integers(2, 10_000)),
    training=st.builds(
        TrainingPolicy,
        label=st.text(),
        params=st.dictionaries(st.text(), st.booleans() | st.integers() | FLOATS | st.text()),
        seed=st.integers(-(2**63), 2**63 - 1),
        device=st.sampled_from(["auto", "cpu", "gpu"]),
    ),
    promotion=st.builds(
        PromotionPolicy,
        min_accuracy=GATES,
        min_roc_auc=GATES,
        min_lift_over_majority=st.none() | st.floats(-1, 1),
        min_f1=GATES,
        approval=st.sampled_from(["automatic", "manual"]),
    ),
    schedule=st.builds(SchedulePolicy, drift_check=st.text(), grace_hours=st.floats(0, 87_600)),
    execution=st.builds(ExecutionPolicy, max_attempts=st.integers(1, 1_000), train_deadline_s=st.floats(1, 2_592_000)),
)


@given(STRATEGIES)
def test_a_snapshot_restores_the_strategy_through_json(strategy: Strategy) -> None:
    stored = json.loads(json.dumps(snapshot(strategy), allow_nan=False))
    restored = restore(stored)
    assert restored == strategy
    # 1, 1.0 and True are equal in Python, and not the same parameter of a trainer
    assert {key: type(value) for key, value in restored.training.params.items()} == {
        key: type(value) for key, value in strategy.training.params.items()
    }
    assert json.loads(json.dumps(asdict(restored))) == stored


_LAST_RELEASE = {
    "data": (
        "as_of reference reference_days season_years current_days min_current_rows max_reference_rows min_date_share "
        "max_stale_days duplicate_rows return_bounds max_bad_returns include exclude"
    ),
    "drift": (
        "rule calibration_days min_calibration_days alpha alert_share ks_p psi_moderate psi_significant bins smoothing "
        "psi_floor predictions weights persistence_checks persistence_window"
    ),
    "training": (
        "label horizon_dates training_days holdout_dates embargo_dates folds fold_window leak_check metrics trainer "
        "params seed device segment_rounds early_stopping_rounds validation_dates incremental_rounds incremental_days "
        "max_incremental_updates search search_folds search_metric class_weight monotone"
    ),
    "findings": "single_feature_auc target_correlation accuracy roc_auc random_split_gap target_like_names",
    "promotion": (
        "min_accuracy min_roc_auc min_lift_over_majority min_f1 gates comparison main_metric margin confidence "
        "max_champion_age accepted_findings approval manual_changes"
    ),
    "schedule": "drift_check retrain spread_minutes grace_hours paused",
    "execution": "max_attempts drift_deadline_s train_deadline_s promote_deadline_s",
}
"""What the oldest worker beside this release knows of a policy; a new value that is its default stays out of it."""


def test_what_a_run_keeps_of_the_defaults_is_what_the_last_release_knows() -> None:
    kept = run_policy(Settled(strategy=Strategy(name="growth"), origins={}))
    assert set(kept) == {"name", "description", "origins", *_LAST_RELEASE}
    assert {table: set(kept[table]) for table in _LAST_RELEASE} == {
        table: set(names.split()) for table, names in _LAST_RELEASE.items()
    }


def test_a_worker_of_the_release_before_can_restore_what_a_run_keeps_of_the_defaults() -> None:
    kept = run_policy(Settled(strategy=Strategy(name="growth"), origins={}))
    assert {"floor", "yearly_error"}.isdisjoint(kept["promotion"])
    assert ("refit" in kept["training"], "refit_distance" in kept["findings"]) == (False, False)
    assert restore(kept) == Strategy(name="growth")
    changed = Strategy(name="growth", promotion=PromotionPolicy(floor=None, yearly_error=0.2))
    assert restore(run_policy(Settled(strategy=changed, origins={}))) == changed


@pytest.mark.parametrize("change", [{"name": 3}, {"drift": {"rule": "calibrated-2"}}, {"colour": "red"}])
def test_a_snapshot_of_another_version_is_refused_by_its_field(change: dict[str, object]) -> None:
    with pytest.raises(InvalidStrategyFile, match=f"policy snapshot is not readable: {next(iter(change))}"):
        restore({**snapshot(Strategy(name="growth")), **change})


@pytest.mark.parametrize("line", ['drift_check = "0 3 * *"', 'retrain = "0 4 * * 7"', 'drift_check = "at dawn"'])
def test_a_time_that_beat_could_not_read_is_refused_when_the_file_is(tmp_path: Path, line: str) -> None:
    name, cron = line.split(" = ")
    with pytest.raises(InvalidStrategyFile, match=rf"'growth': schedule\.{name}") as caught:
        loaded(tmp_path, f"[strategies.growth.schedule]\n{line}\n[strategies.value]")
    assert cron.strip('"') in str(caught.value)


def test_an_empty_time_schedules_nothing_and_is_allowed(tmp_path: Path) -> None:
    strategies = loaded(tmp_path, '[strategies.growth.schedule]\ndrift_check = ""\nretrain = "0 4 * * sun"')
    assert strategies["growth"].schedule == SchedulePolicy(drift_check="", retrain="0 4 * * sun")


@pytest.mark.parametrize("line", ["train_deadline_s = 0", "drift_deadline_s = -1", "promote_deadline_s = inf"])
def test_a_deadline_that_no_stage_can_keep_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(InvalidStrategyFile, match=r"execution\..*_deadline_s is above 0 and at most 2,592,000"):
        loaded(tmp_path, f"[strategies.growth.execution]\n{line}")


def test_a_stage_without_attempts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidStrategyFile, match="max_attempts is 1 to 1,000"):
        loaded(tmp_path, "[strategies.growth.execution]\nmax_attempts = 0")


@pytest.mark.parametrize("line", ["early_stopping_rounds = 0", "early_stopping_rounds = -1", "validation_dates = 0"])
def test_an_early_stopping_that_looks_at_nothing_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(InvalidStrategyFile, match=rf"training\.{line.split(maxsplit=1)[0]} is 1 to"):
        loaded(tmp_path, f"[strategies.growth.training]\n{line}")


@pytest.mark.parametrize("line", ["monotone = { rsi_14 = 2 }", 'class_weight = "heavy"', "monotone = { rsi_14 = 0 }"])
def test_a_constraint_or_weight_that_means_nothing_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(InvalidStrategyFile, match="growth"):
        loaded(tmp_path, f"[strategies.growth.training]\n{line}")


def test_early_stopping_class_weight_and_constraints_are_read_and_restored(tmp_path: Path) -> None:
    text = (
        "[defaults.training]\nearly_stopping_rounds = 10\nmonotone = { rsi_14 = 1 }\n"
        '[strategies.growth.training]\nclass_weight = "balanced"\nmonotone = { beta = -1 }\n'
        '[strategies.value.training]\nearly_stopping_rounds = "none"\n'
    )
    strategies = loaded(tmp_path, text)
    growth, value = strategies["growth"].training, strategies["value"].training
    assert (growth.early_stopping_rounds, growth.class_weight, growth.monotone) == (10, "balanced", {"beta": -1})
    assert (value.early_stopping_rounds, value.class_weight, value.monotone) == (None, None, {"rsi_14": 1})
    assert restore(json.loads(json.dumps(snapshot(strategies["growth"])))).training == growth


def test_gates_on_logged_metrics_are_merged_with_the_defaults_and_taken_out_with_none(tmp_path: Path) -> None:
    content = """
[defaults.promotion]
gates = { sharpe_ratio = 0.5, max_drawdown = 0.2 }
[strategies.growth.promotion]
gates = { max_drawdown = "none", my_metric = 0.1 }
"""
    gates = loaded(tmp_path, content)["growth"].promotion.gates
    assert gates == {"sharpe_ratio": 0.5, "max_drawdown": None, "my_metric": 0.1}


def test_a_snapshot_from_before_the_paired_test_is_read_with_the_defaults() -> None:
    old = snapshot(Strategy(name="growth"))
    for name in ("gates", "comparison", "margin", "confidence", "max_champion_age"):
        del old["promotion"][name]
    assert restore(old) == Strategy(name="growth")


def test_strategies_are_chosen_by_name_and_by_tag(tmp_path: Path) -> None:
    text = '[defaults]\ntags = ["us"]\n[strategies.growth]\n[strategies.value]\ntags = ["eu", "pilot"]\n'
    found = loaded(tmp_path, text)
    assert found.tags == ("eu", "pilot", "us")
    assert found.chosen(tags=["us"]) == ["growth"]
    assert found.chosen(["value"], ["pilot", "us"]) == ["value", "growth"]
    with pytest.raises(ConfigurationError, match=r"no strategy has the tag 'uk'; tags: eu, pilot, us"):
        found.chosen(tags=["uk"])


def test_a_run_keeps_no_tags_so_that_an_older_worker_restores_its_policy(tmp_path: Path) -> None:
    found = loaded(tmp_path, '[strategies.growth]\ntags = ["us"]\n')
    assert "tags" not in run_policy(found.settled("growth"))


@pytest.mark.parametrize(
    ("tags", "words"), [('["US"]', "tag 'US' is not 1 to 32"), ('["us", "us"]', "tags name each word once")]
)
def test_a_tag_that_cannot_be_is_refused_by_name(tmp_path: Path, tags: str, words: str) -> None:
    with pytest.raises(InvalidStrategyFile, match=words):
        loaded(tmp_path, f"[strategies.growth]\ntags = {tags}\n")
