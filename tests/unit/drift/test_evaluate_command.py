"""`acis evaluate-drift` on the sample, cut short."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.app import app
from mlops.features import sample
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
