"""`acis leak-check` and `acis evaluate-training` on the sample and on a user's file, cut short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.app import app
from mlops.features import sample


def called(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Four names of the sample from 2017 on, as a user's CSV."""
    close = sample.read_prices().loc["2017":, ["AAPL", "JPM", "KO", "XOM"]]
    rows = close.rename_axis(index="date", columns="ticker").reset_index().melt(id_vars="date", value_name="close")
    path = tmp_path / "prices.csv"
    rows.to_csv(path, index=False)
    return path


@pytest.fixture
def one_universe(tmp_path: Path) -> Path:
    path = tmp_path / "members.csv"
    path.write_text("date,ticker,strategy\n" + "".join(f"2017-01-01,{t},mine\n" for t in ("AAPL", "JPM", "KO", "XOM")))
    return path


def test_a_random_split_of_overlapping_returns_is_called_a_leak_with_exit_code_1(
    prices: Path, one_universe: Path
) -> None:
    ended = called("leak-check", "all", "--prices", str(prices), "--members", str(one_universe), "--json")
    assert ended.exit_code == 1, ended.output
    (check,) = json.loads(ended.stdout)
    assert (check["strategy"], check["label"], check["is_leak"]) == ("mine", "target_return > 0", True)
    split: dict[str, Any] = check["random_split"]
    assert split["accuracy"] > 0.8
    assert split["honest_accuracy"] < 0.65
    assert split["later_accuracy"] < 0.65
    assert check["gap"] == pytest.approx(split["accuracy"] - split["honest_accuracy"])
    assert check["naive_promotes"]
    assert check["decision"] == "refuse"
    assert check["train_end"] < check["holdout_start"]
    assert split["honest_accuracy"] == check["metrics"]["accuracy"]


def test_the_table_stands_beside_the_majority_and_the_gap_is_said_in_a_sentence(
    prices: Path, one_universe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    ended = called("leak-check", "mine", "--prices", str(prices), "--members", str(one_universe))
    assert ended.exit_code == 1, ended.output
    assert "…" not in ended.stdout
    assert "majority" in ended.stdout
    assert "mine: The random split promises an accuracy of 0." in ended.stdout


def test_a_label_that_is_no_return_can_be_asked_about(prices: Path, one_universe: Path) -> None:
    label = "target_volatility_20d > volatility_20d"
    ended = called(
        "leak-check", "mine", "--prices", str(prices), "--members", str(one_universe), "--label", label, "--json",
        "--as-of", "2021-06-30",
    )  # fmt: skip
    (check,) = json.loads(ended.stdout)
    assert check["label"] == label
    assert check["as_of"] == "2021-06-30"
    assert check["holdout_end"] < "2021-06-30"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nonesuch"], "strategy 'nonesuch' is not known; one of: mine"),
        (["mine", "--label", "import os"], "label 'import os' is not understood"),
        (["mine", "--label", "target_beta > 0"], "the feature view lacks target_beta"),
        (["mine", "--as-of", "1999-01-01"], "has no rows"),
        (["mine", "--as-of", "2018-02-15"], "a split needs 60 held-out dates"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(
    prices: Path, one_universe: Path, arguments: list[str], error: str
) -> None:
    ended = called("leak-check", *arguments, "--prices", str(prices), "--members", str(one_universe))
    assert ended.exit_code == 2
    assert error in ended.stderr


def test_a_file_without_prices_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("date,ticker\n2020-01-01,KO\n")
    ended = called("leak-check", "all", "--prices", str(path))
    assert ended.exit_code == 2
    assert "has no column adjclose" in ended.stderr


def test_prices_of_one_class_are_refused(tmp_path: Path, one_universe: Path) -> None:
    days = pd.bdate_range("2016-01-01", "2020-12-31")
    rising = pd.concat(
        pd.DataFrame({"date": days, "ticker": name, "close": 10 * np.exp(np.arange(len(days)) / 500)})
        for name in ("AAPL", "JPM")
    )
    path = tmp_path / "rising.parquet"
    rising.to_parquet(path)
    ended = called("leak-check", "mine", "--prices", str(path), "--members", str(one_universe))
    assert ended.exit_code == 2
    assert "training labels are 1" in ended.stderr


def test_the_evaluation_judges_both_labels_over_dates_that_do_not_overlap(prices: Path, one_universe: Path) -> None:
    arguments = ["evaluate-training", "--prices", str(prices), "--members", str(one_universe), "--dates", "2"]
    ended = called(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert set(found) == {"direction", "growth"}
    (direction,) = found["direction"]["checks"]
    assert [check["label"] for check in direction] == ["target_return > 0"] * 2
    newer, older = direction
    assert older["holdout_end"] < newer["holdout_start"]
    (summary,) = found["direction"]["summaries"]
    assert summary["n_naive_promotes"] == 2
    assert summary["n_promoted"] == 0
    assert summary["random_accuracy"] == pytest.approx(
        sum(check["random_split"]["accuracy"] for check in direction) / 2
    )


def test_the_next_dates_are_scored_with_the_refit_and_without(prices: Path, one_universe: Path) -> None:
    arguments = ["evaluate-refit", "--prices", str(prices), "--members", str(one_universe), "--dates", "3"]
    ended = called(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    for each in found.values():
        assert [one["n_blocks"] for one in each["differences"]] == [3, 3]
        assert each["left_out"] == []
        for one in each["dates"]:
            # 20 dates without a label, and before them 60 held out, 20 purged and 5 of the embargo, the last of which
            # is trained on.
            assert (one["age_refit"], one["age_single"]) == (20, 104)
            assert one["as_of"] < one["last"]
            # A refit of other labels is as far from the twin as a model that says the same of every row.
            assert one["distances"]["refit"] < 0.85 < one["distances"]["refit of random labels"]
        loss = each["differences"][0]
        singles = [one["single"]["log_loss"] for one in each["dates"]]
        assert loss["single"] == pytest.approx(sum(singles) / 3)
        assert loss["low"] < loss["value"] < loss["high"]
    shown = called(*arguments)
    assert "| target_return > 0 | refit | 3 |" in shown.stdout


def test_a_history_that_is_too_short_for_the_refits_is_refused_with_what_is_missing(
    prices: Path, one_universe: Path
) -> None:
    rows = pd.read_csv(prices)
    rows[rows["date"] < "2018-08-01"].to_csv(prices, index=False)
    ended = called("evaluate-refit", "--prices", str(prices), "--members", str(one_universe))
    assert ended.exit_code == 2
    assert "Left out: mine as of 2018-04-06: a split needs 60 held-out dates" in ended.output
    assert "an interval needs trainings as of 2 dates at least, 60 dates apart, found 0" in ended.output


def test_newly_known_labels_of_a_users_prices_are_watched(prices: Path, one_universe: Path) -> None:
    arguments = ["evaluate-labels", "--only", "prices", "--prices", str(prices), "--members", str(one_universe)]
    ended = called(*arguments, "--step", "600", "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert found["streams"] == []
    assert [(one["label"], one["horizon_dates"]) for one in found["champions"]] == [
        (label, horizon) for horizon in (1, 5, 20) for label in ("return", "volatility")
    ]
    for one in found["champions"]:
        assert [rate["method"] for rate in one["rates"]] == ["label watch", "Page-Hinkley", "DDM", "ADWIN"]
        assert 0.3 < one["roc_auc"] < 0.9


def test_a_panel_of_one_name_has_no_pair_to_watch_and_the_evaluation_says_so(prices: Path, tmp_path: Path) -> None:
    members = tmp_path / "members.csv"
    members.write_text("date,ticker,strategy\n2017-01-01,AAPL,alone\n")
    arguments = ["evaluate-labels", "--only", "prices", "--prices", str(prices), "--members", str(members), "--quick"]
    ended = called(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)["champions"]
    assert found
    assert all(one["roc_auc"] is one["own_spread"] is None for one in found)
    assert all(one["n_unwatched"] == one["n_champions"] for one in found)
    assert "alone, return of 1 dates: 1 of 1 champions cannot be watched" in called(*arguments).output


def test_panels_that_are_too_short_for_a_champion_are_named(prices: Path, one_universe: Path) -> None:
    rows = pd.read_csv(prices)
    rows[rows["date"] < "2019-06-01"].to_csv(prices, index=False)
    ended = called("evaluate-labels", "--only", "prices", "--prices", str(prices), "--members", str(one_universe))
    assert ended.exit_code == 2
    assert "mine, volatility of 20 dates: " in ended.output
    assert (
        "dates have labels, and a champion needs 504 to learn from and 252 after them to be watched on" in ended.output
    )


def test_a_file_is_looked_at_before_the_streams_and_refused_where_only_they_are_asked_for(prices: Path) -> None:
    ended = called("evaluate-labels", "--only", "streams", "--prices", str(prices))
    assert ended.exit_code == 2
    assert "--only streams draws its rows" in ended.output
    prices.write_text("date,ticker,close\n")
    ended = called("evaluate-labels", "--prices", str(prices))
    assert ended.exit_code == 2
    assert f"{prices} has no rows" in ended.output
