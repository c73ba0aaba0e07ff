"""Importance, model card and plots of a small model."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from mlops.promotion.findings import Finding
from mlops.strategies import PromotionPolicy, Strategy
from mlops.training.card import model_card
from mlops.training.folds import walk_forward
from mlops.training.importance import feature_importance, importance_csv
from mlops.training.metrics import evaluate_classifier
from mlops.training.plots import training_plots
from mlops.training.scrutiny import Scrutiny
from mlops.training.splits import split_by_date
from mlops.training.stability import score_folds
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
    before = "matplotlib.pyplot" in sys.modules
    found = training_plots(data.y, model.predict_proba(data.x)[:, 1], model, FEATURES, tmp_path)
    assert set(found) == {"plots/roc.png", "plots/calibration.png", "plots/confusion.png", "plots/importance.png"}
    assert all(path.read_bytes().startswith(PNG) for path in found.values())
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_one_held_out_class_has_no_roc_curve(tmp_path: Path) -> None:
    found = training_plots(np.ones(3), np.array([0.2, 0.5, 1.0]), fitted(), FEATURES, tmp_path)
    assert "plots/roc.png" not in found
    assert "plots/confusion.png" in found


def test_the_card_says_what_was_learnt_judged_and_required() -> None:
    data = training_data()
    split = split_by_date(data.dates, np.ones(400, bool), horizon_dates=20, holdout_dates=30)
    evaluation = evaluate_classifier(np.array([1, 1, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3]), train_positive_share=0.6)
    strategy = Strategy(name="growth", promotion=PromotionPolicy(min_accuracy=0.7, min_roc_auc=0.6))
    scrutiny = Scrutiny(
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
        scrutiny=scrutiny,
        tags={"data_fingerprint": "abc123"},
        as_of=date(2019, 4, 10),
    )
    for words in (
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
