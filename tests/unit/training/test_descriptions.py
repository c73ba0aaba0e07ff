"""Importance, model card and plots of a small model."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve

from mlops.domain.frame import ColumnRole
from mlops.domain.policies import PromotionPolicy, Strategy
from mlops.domain.promotion.findings import Finding
from mlops.domain.training.card import gates_of, model_card
from mlops.domain.training.checks import TrainingChecks, score_folds
from mlops.domain.training.importance import (
    Contributions,
    contributions,
    contributions_csv,
    feature_importance,
    importance_csv,
)
from mlops.domain.training.metrics import evaluate_classifier
from mlops.domain.training.plots import (
    contributions_figure,
    importance_figure,
    precision_recall,
    signal_figure,
    training_plots,
)
from mlops.domain.training.splits import split_by_date, walk_forward
from mlops.domain.training.trading import signal_curve
from tests.support.models import FEATURES, fitted, training_data

PNG = b"\x89PNG\r\n\x1a\n"


def test_importance_names_every_feature_and_its_shares_sum_to_one() -> None:
    model = fitted()
    parts = feature_importance(model, (*FEATURES, "never_used"))
    assert parts[0].feature == "momentum_50d"  # the label follows it
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert (parts[-1].feature, parts[-1].gain, parts[-1].weight, parts[-1].share) == ("never_used", 0, 0, 0)


def test_importance_agrees_with_xgboost() -> None:
    model = fitted()
    total = model.get_booster().get_score(importance_type="total_gain")
    mean = model.get_booster().get_score(importance_type="gain")
    for part in feature_importance(model, FEATURES):
        assert part.share == pytest.approx(total[part.feature] / sum(total.values()))
        assert part.gain == pytest.approx(mean[part.feature], rel=1e-5)


def test_the_importance_file_has_a_line_per_feature(tmp_path: Path) -> None:
    path = importance_csv(fitted(), FEATURES, tmp_path / "feature_importance.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [*rows[0]] == ["feature", "gain", "weight", "share"]
    assert {row["feature"] for row in rows} == set(FEATURES)


def test_the_plots_are_pictures_and_touch_no_global_state(tmp_path: Path) -> None:
    import sys

    data = training_data()
    model = fitted(data)
    x = np.asarray(data.x)
    before = "matplotlib.pyplot" in sys.modules
    curve = signal_curve(data.dates, np.ones(400), np.full(400, 0.01), label="target_return > 0", horizon_dates=20)
    assert curve is not None
    others = {
        "importance.png": importance_figure(model, FEATURES),
        "shap_summary.png": contributions_figure(contributions(model, x[:50], FEATURES)),
        "equity_curve.png": signal_figure(curve),
    }
    found = training_plots(data.y, model.predict_proba(x)[:, 1], tmp_path, others=others)
    names = ["roc", "precision_recall", "calibration", "confusion", "importance", "shap_summary", "equity_curve"]
    assert set(found) == {f"plots/{name}.png" for name in names}
    assert all(path.read_bytes().startswith(PNG) for path in found.values())
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_who_stops_the_drawing_waits_for_no_further_picture(tmp_path: Path) -> None:
    def check() -> None:
        if list(tmp_path.glob("*.png")):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        training_plots(np.array([0, 1, 1]), np.array([0.2, 0.5, 1.0]), tmp_path, check=check)
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_one_held_out_class_has_no_curves(tmp_path: Path) -> None:
    found = training_plots(np.ones(3), np.array([0.2, 0.5, 1.0]), tmp_path)
    assert set(found) == {"plots/calibration.png", "plots/confusion.png"}


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(4)
    y, p = generator.random(200) < 0.3, np.round(generator.random(200), 1)  # many ties
    expected_precision, expected_recall, _ = precision_recall_curve(y, p)
    precision, recall = precision_recall(y, p)
    np.testing.assert_allclose(precision[::-1], expected_precision[:-1])
    np.testing.assert_allclose(recall[::-1], expected_recall[:-1])


def test_contributions_and_the_bias_sum_to_the_margin() -> None:
    data = training_data()
    model, x = fitted(data), np.asarray(data.x)[:40]
    found = contributions(model, x, FEATURES)
    margin = model.predict(pd.DataFrame(x, columns=list(FEATURES)), output_margin=True)
    bias = margin - found.shap.sum(axis=1)
    assert found.shap.shape == (40, 3)
    np.testing.assert_allclose(bias, bias[0], atol=1e-5)  # one constant for all rows
    assert FEATURES[found.order()[0]] == "momentum_50d"  # the label follows it


def test_the_table_of_contributions_says_size_and_direction(tmp_path: Path) -> None:
    shap = np.array([[1.0, -2.0], [3.0, -2.0]], dtype=np.float32)
    values = np.array([[10.0, 5.0], [30.0, np.nan]], dtype=np.float32)
    found = Contributions(features=("a", "b"), values=values, shap=shap)
    lines = contributions_csv(found, tmp_path / "shap.csv").read_text().splitlines()
    assert lines == ["feature,mean_abs_shap,mean_shap,direction", "a,2,2,1.000", "b,2,-2,"]
    nothing = Contributions(features=("a",), values=np.full((2, 1), np.nan), shap=np.zeros((2, 1)))
    assert contributions_csv(nothing, tmp_path / "shap.csv").read_text().splitlines()[1] == "a,0,0,"


def test_the_card_says_what_was_learnt_judged_and_required() -> None:
    data = training_data()
    split = split_by_date(data.dates, np.ones(400, bool), horizon_dates=20, holdout_dates=30)
    evaluation = evaluate_classifier(np.array([1, 1, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3]), train_positive_share=0.6)
    strategy = Strategy(name="growth", promotion=PromotionPolicy(min_accuracy=0.7, min_roc_auc=0.6))
    checks = TrainingChecks(
        folds=score_folds(
            walk_forward(data.dates, split.train, n_folds=2, horizon_dates=5),
            data.y,
            lambda fold: np.linspace(0, 1, int(fold.test.sum())),
        ),
        findings=(Finding(code="random_split_gap", words="a random split shows 0.82"),),
        notes=("the random split was not measured: too few rows",),
    )
    card = model_card(
        strategy,
        split=split,
        evaluation=evaluation,
        checks=checks,
        tags={"data_fingerprint": "abc123"},
        as_of=date(2019, 4, 10),
        columns=(
            ColumnRole(name="date", role="key"),
            ColumnRole(name="pe", role="feature"),
            ColumnRole(name="sector", role="left out", reason="text"),
        ),
    )
    for words in (
        "| `date` | key |\n| `pe` | feature |\n| `sector` | left out: text |",
        "# acis_growth_classifier",
        "`target_return > 0`",
        f"| trained on | 2019-01-01 to {split.last_train} (51 dates) |",  # 100 - 30 held out, 20 - 1 purged
        f"| last training date | {split.last_train} |",
        "`abc123`",
        "| fold | trained on | judged on | rows | accuracy | majority | AUC | log loss |",
        "| 2 | 2019-01-01 to ",
        "- `random_split_gap`: a random split shows 0.82",
        "A finding blocks promotion until",
        "- the random split was not measured: too few rows",
        "| accuracy | 0.7500 (always the majority class: 0.5000, with hindsight 0.5000) |",
        "| accuracy | at least 0.7000 |",
        "| roc_auc | at least 0.6000 |",
        "| max_depth | 6 |",
        "## Not to be used for",
    ):
        assert words in card


def test_the_card_says_each_gate_and_what_is_asked_against_the_champion() -> None:
    policy = PromotionPolicy(min_accuracy=None, min_roc_auc=0.6, gates={"max_drawdown": 0.2, "mine": None})
    assert gates_of(policy) == {
        "roc_auc": "at least 0.6000",
        "max_drawdown": "at most 0.2000",
        "roc_auc against the champion": "better by 0.01 with probability 0.95 on the same dates",
    }
    assert gates_of(PromotionPolicy(comparison="gates")) == {"accuracy": "at least 0.7000"}
