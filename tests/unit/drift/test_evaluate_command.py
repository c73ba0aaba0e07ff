"""`acis evaluate-drift` on the sample, cut short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.app import app
from mlops.features import sample
from mlops.features.price_universes import price_source
from tests.support.prices import commodities, random_walks, write_prices


@pytest.fixture(autouse=True)
def short_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """2016-09 to 2022: two years of history, and the crash."""
    prices: pd.DataFrame = sample.read_prices().loc["2016-09":]
    monkeypatch.setattr(sample, "read_prices", lambda: prices)


def test_the_sample_is_the_default_and_each_strategy_is_checked() -> None:
    ended = CliRunner().invoke(app, ["evaluate-drift", "--every", "150", "--break", "2020-03-02", "--json"])
    assert ended.exit_code == 0, ended.output
    results = json.loads(ended.stdout)
    assert [result["strategy"] for result in results] == ["dividend", "growth", "momentum", "value"]
    assert all(result["n_checks"] >= 3 for result in results)
    assert all(result["days_to_detection"]["2020-03-02"] is not None for result in results)


def test_a_narrow_terminal_cuts_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    ended = CliRunner().invoke(app, ["evaluate-drift", "--every", "400", "--break", "2020-03-02"])
    assert ended.exit_code == 0, ended.output
    assert "…" not in ended.stdout
    assert "insufficient" in ended.stdout
    assert "Retrainings a year" not in ended.stdout, "of every 400th check they are no number a year"


def test_panels_of_so_many_names_are_drawn_in_place_of_the_strategies() -> None:
    arguments = ["evaluate-drift", "--names", "3", "--panels", "2", "--every", "200", "--break", "2020-03-02", "--json"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    results = json.loads(ended.stdout)
    assert [result["strategy"] for result in results] == ["3 names, 1", "3 names, 2"]
    # 34 dates of 3 names have 100 rows.
    assert all(result["days_to_detection"]["2020-03-02"] is not None for result in results)


def test_the_alarm_about_single_features_is_measured_in_weeks_of_the_past() -> None:
    ended = CliRunner().invoke(app, ["evaluate-drift", "--names", "8", "--panels", "1", "--alarms", "3", "--json"])
    assert ended.exit_code == 0, ended.output
    (found,) = json.loads(ended.stdout)
    assert (found["strategy"], found["size"], found["n_weeks"]) == ("8 names, 1", 3.0, 3)
    assert found["seen_rate"]["share"] > found["false_rate"]["share"]


def test_what_a_price_file_loses_is_told_with_the_result_and_in_its_document(tmp_path: Path) -> None:
    path = write_prices(commodities(years=4), tmp_path / "prices.csv", empty_rows=True)
    arguments = ["evaluate-drift", "--prices", str(path), "--every", "400", "--break", "2015-02-02"]
    ended = CliRunner().invoke(app, [*arguments, "--json"])
    assert ended.exit_code == 0, ended.output
    results = json.loads(ended.stdout)
    assert [result["strategy"] for result in results] == ["momentum", "laggards", "steady", "volatile"]
    for result in results:
        assert result["n_checks"] >= 1
        given = result["prices"]
        assert given["n_rows"] == given["n_kept"] + sum(given["lost"].values())
        assert [one["ticker"] for one in given["names"] if one["restarts"]] == ["N01"]
    # Said beside a document, too, and before the table otherwise.
    assert "[history_restarted]" in ended.stderr
    ended = CliRunner().invoke(app, arguments)
    assert ended.stdout.index("Prices: ") < ended.stdout.index("[gaps_bridged]") < ended.stdout.index("insufficient")
    assert not ended.stderr.strip()


@pytest.mark.parametrize(
    "command", [["evaluate-drift"], ["evaluate-training"], ["evaluate-refit"], ["leak-check", "all"]], ids=" ".join
)
def test_prices_that_give_no_row_are_refused_with_what_they_lack(tmp_path: Path, command: list[str]) -> None:
    path = write_prices(random_walks(3, pd.bdate_range("2020-01-01", periods=200), seed=1), tmp_path / "prices.csv")
    ended = CliRunner().invoke(app, [*command, "--prices", str(path)])
    assert ended.exit_code == 2
    said = " ".join(ended.stderr.split())
    assert "gives no row with all features: a name needs 253 prices without a gap of more than 10 dates" in said
    assert "the most are N00's 200; give a longer history, or fill the gaps" in said


@pytest.fixture
def short_prices(tmp_path: Path) -> Path:
    """Three names, of which one has no row with all features; 48 dates of rows."""
    close = random_walks(3, pd.bdate_range("2019-01-01", periods=300), seed=1)
    close.iloc[:200, 2] = np.nan
    return write_prices(close, tmp_path / "prices.csv")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["evaluate-drift"], "2020-02-24 holds no day of a check with 462 days before it"),
        (["evaluate-drift", "--alarms", "2"], "2020-02-24 holds no week with 515 days before it"),
        (["evaluate-drift", "--since", "2030-01-01"], "momentum: no row has all features"),
        (["evaluate-drift", "--break", "02/03/2020"], "'02/03/2020' is no date"),
        (["evaluate-refit"], "trainings as of 2 dates at least, 60 dates apart, found 0"),
        (["evaluate-training"], "a split needs 120 held-out dates"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_history_that_is_too_short_is_refused_in_words(short_prices: Path, command: list[str], words: str) -> None:
    ended = CliRunner().invoke(app, [*command, "--prices", str(short_prices)])
    assert (ended.exit_code, words in " ".join(ended.stderr.split())) == (2, True), ended.stderr


def test_what_a_members_file_names_in_vain_is_told(short_prices: Path, tmp_path: Path) -> None:
    members = tmp_path / "members.csv"
    members.write_text("date,ticker,strategy\n2019-01-01,N00,a\n2019-01-01,N02,b\n2019-01-01,X,a\n")
    with price_source(short_prices, members) as made:
        assert made.strategies == ("a",)
        assert made.coverage is not None
        assert {one.code: one.words.rpartition(": ")[2] for one in made.coverage.findings} == {
            "names_without_rows": "N02 (100 prices)",
            "members_without_prices": "X",
            "strategies_without_rows": "b",
        }
    both = ["evaluate-drift", "--names", "3", "--prices", str(short_prices), "--members", str(members)]
    ended = CliRunner().invoke(app, both)
    assert (ended.exit_code, "--names draws panels" in ended.stderr) == (2, True)
    for command in (["evaluate-training"], ["evaluate-refit"], ["leak-check", "all"], ["evaluate-drift"]):
        ended = CliRunner().invoke(app, [*command, "--members", str(members)])
        assert (ended.exit_code, "give --prices, too" in " ".join(ended.stderr.split())) == (2, True), command
