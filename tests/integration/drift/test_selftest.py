"""The self-test of a policy: it finds what the check itself finds, with nothing planted and with something."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cli.app import app
from lab.placebos import PsiReference, chosen_placebos, eligible_dates
from lab.selftest import PowerPoint, Selftest, selftest
from mlops.domain.drift.calibration import calibrate, own_distances
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.report import DriftReport
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DataPolicy, DriftPolicy, Strategy
from mlops.domain.windows import calibration_window, drift_windows
from tasks import services as task_services
from tests.support.services import FIRST, FakeServices, panel

DATA = DataPolicy(as_of="latest", reference_days=30, current_days=5, min_current_rows=20)
DRIFT = DriftPolicy(calibration_days=200, min_calibration_days=120)
N_DATES, N_ASSETS = 500, 8


def past_of(**columns: Any) -> FeatureFrame:
    """Independent rows of three features; columns replace or add some."""
    rng = np.random.default_rng(11)
    n = N_DATES * N_ASSETS
    numbers = {name: rng.normal(size=n) for name in ("a", "b", "c")} | columns
    dates = np.repeat(np.datetime64(FIRST, "D") + np.arange(N_DATES), N_ASSETS)
    return FeatureFrame(n_rows=n, numbers=numbers, categories={}, dates=dates)


PAST = past_of()


def measured(
    past: FeatureFrame = PAST, *, n: int = 30, drift: DriftPolicy = DRIFT, seed: int = 1, **more: Any
) -> Selftest:
    assert past.dates is not None
    rng = np.random.default_rng(seed)
    days = chosen_placebos(eligible_dates(past.dates, data=DATA, drift=drift), n, rng)
    sizes = more.pop("sizes", (0.2, 3.0))
    strategy = Strategy(name="growth", data=DATA, drift=drift)
    return selftest(strategy, past, more.pop("days", days), sizes=sizes, rng=rng, **more)


def point(result: Selftest, change: str, where: str, size: float) -> PowerPoint:
    (found,) = (one for one in result.points if (one.change, one.where, one.size) == (change, where, size))
    return found


def report(
    past: FeatureFrame, day: date, current: FeatureFrame | None = None, drift: DriftPolicy = DRIFT
) -> DriftReport:
    """The check itself."""
    reference_window, current_window = drift_windows(day, DATA)
    return detect_drift(
        past.between(reference_window),
        current or past.between(current_window),
        drift,
        strategy="growth",
        as_of=day,
        reference_window=reference_window,
        current_window=current_window,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        min_current_rows=DATA.min_current_rows,
        history=past.between(calibration_window(reference_window, drift.calibration_days)),
    )


# --------------------------------------------------------------------------- agreement with the check


@pytest.mark.parametrize("number", [200, 313, 499])
def test_a_placebo_says_what_the_check_of_its_date_says(number: int) -> None:
    # Shares of three features at the threshold of a third, with a wide band: both verdicts occur.
    for drift in (DRIFT, replace(DRIFT, alpha=0.5, psi_significant=0.1)):
        day = FIRST + timedelta(days=number)
        result, checked = measured(days=[day], drift=drift), report(PAST, day, drift=drift)
        assert result.calibrated.share == float(checked.calibrated.verdict == "drifted")
        assert result.raw.share == float(checked.raw.verdict == "drifted")


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0])
def test_a_planted_shift_says_what_the_check_of_the_shifted_rows_says(size: float) -> None:
    found, expected = [], []
    for number in range(200, 500, 30):
        day = FIRST + timedelta(days=number)
        reference_window, current_window = drift_windows(day, DATA)
        reference, current = PAST.between(reference_window), PAST.between(current_window)
        by = {name: size * float(np.std(values, ddof=1)) for name, values in reference.numbers.items()}
        shifted = current.with_numbers({name: values + by[name] for name, values in current.numbers.items()})
        checked = report(PAST, day, shifted)
        expected.append((checked.calibrated.verdict == "drifted", checked.raw.verdict == "drifted"))
        one = point(measured(days=[day], sizes=(size,)), "mean", "all", size)
        found.append((one.calibrated.share == 1.0, one.raw.share == 1.0))
    assert found == expected


nan_or_inf = st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.5, float("nan"), float("inf"), -1.0])


@given(st.lists(nan_or_inf, min_size=80, max_size=80), st.lists(nan_or_inf, min_size=40, max_size=40))
def test_a_feature_drifted_by_psi_where_the_report_says_so(before: list[float], now: list[float]) -> None:
    rng = np.random.default_rng(3)
    frames = [
        FeatureFrame(
            n_rows=len(values),
            numbers={"odd": np.array(values), "plain": rng.normal(size=len(values)), "one": np.ones(len(values))},
            categories={"text": np.array([f"{value:g}" if value == value else None for value in values], dtype=object)},  # noqa: PLR0124
            dates=np.full(len(values), np.datetime64(FIRST, "D")),
        )
        for values in (before, now)
    ]
    windows = drift_windows(FIRST, DATA)
    checked = detect_drift(
        frames[0], frames[1], DRIFT, strategy="growth", as_of=FIRST, reference_window=windows[0],
        current_window=windows[1], timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    drifted = PsiReference(frames[0], DRIFT).drifted(frames[1])
    assert "one" not in drifted  # the same value throughout: nothing of it can drift
    assert drifted == {name: checked.features[name].drifted_psi for name in drifted}
    assert sum(drifted.values()) / len(drifted) == checked.raw.share


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_a_check_s_own_distances_need_no_placements(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    holes = past_of(a=np.where(rng.random(N_DATES * N_ASSETS) < 0.2, np.nan, rng.normal(size=N_DATES * N_ASSETS)))
    reference_window, current_window = drift_windows(FIRST + timedelta(days=400), DATA)
    history = holes.between(calibration_window(reference_window, 200))
    reference, current = holes.between(reference_window), holes.between(current_window)
    current = current.with_numbers({"b": current.numbers["b"] + shift})
    whole = calibrate(history, reference, current, min_days=100, reference_start=reference_window.start)
    assert own_distances(history, reference, current) == pytest.approx(whole.distances, rel=1e-6)


# --------------------------------------------------------------------------- what it finds


def test_without_drift_it_seldom_fires_and_a_large_shift_is_always_seen() -> None:
    result = measured(n=60)
    assert result.calibrated.share <= 0.1
    assert point(result, "mean", "all", 3.0).calibrated.share == 1.0
    assert point(result, "scale", "all", 3.0).raw.share == 1.0
    # A small shift is seen no less than none, by either rule.
    assert point(result, "mean", "all", 0.2).raw.share >= result.raw.share


def test_the_smallest_shift_lies_between_the_sizes_around_the_power() -> None:
    result = measured(sizes=(0.2, 3.0))
    (whole,) = (one for one in result.smallest if (one.change, one.where) == ("mean", "all"))
    low = point(result, "mean", "all", 0.2).calibrated.share
    # A straight line from (0.2, low) to (3, 1).
    assert whole.calibrated == pytest.approx(0.2 + 2.8 * (0.8 - low) / (1 - low))
    (one,) = (one for one in measured(sizes=(0.01,)).smallest if (one.change, one.where) == ("mean", "one"))
    assert one.calibrated is None


def test_the_same_seed_gives_the_same_figures() -> None:
    assert measured(n=10) == measured(n=10)
    assert measured(n=10) != measured(n=10, seed=2)


def test_features_that_count_nothing_raise_no_alarm_and_the_one_that_counts_does() -> None:
    only_a = measured(n=20, weights={"a": 1.0, "b": 0.0, "c": 0.0})
    one = point(only_a, "mean", "one", 3.0)
    assert 0.0 < one.calibrated.share < 1.0  # the feature that is moved is a by chance
    assert one.raw.share == 1.0  # a third of the features, whatever they weigh
    assert point(only_a, "mean", "all", 3.0).calibrated.share == 1.0


def test_a_constant_feature_is_never_moved() -> None:
    constant = past_of(c=np.full(N_DATES * N_ASSETS, 7.0))
    result = measured(constant, n=5, drift=replace(DRIFT, alert_share=1.0))
    # Two of three features move; the third one cannot, and does not count.
    assert point(result, "mean", "all", 3.0).raw.share == 1.0


def test_features_that_are_all_constant_have_nothing_to_plant() -> None:
    flat = np.full(N_DATES * N_ASSETS, 7.0)
    result = measured(past_of(a=flat, b=flat, c=flat), n=5)
    assert (result.calibrated.share, result.raw.share) == (0.0, 0.0)
    assert {one.raw.share for one in result.points} == {0.0}


def test_missing_and_infinite_values_stay_what_they_are() -> None:
    values = np.random.default_rng(1).normal(size=N_DATES * N_ASSETS)
    values[::7], values[3::11] = np.nan, np.inf
    assert point(measured(past_of(a=values), n=5), "mean", "all", 3.0).calibrated.share == 1.0


def test_checks_with_too_few_rows_are_insufficient_and_never_fire() -> None:
    rng = np.random.default_rng(1)
    days = eligible_dates(PAST.dates, data=DATA, drift=DRIFT)[:4]
    strategy = Strategy(name="growth", data=replace(DATA, min_current_rows=1000), drift=DRIFT)
    result = selftest(strategy, PAST, days, sizes=(3.0,), rng=rng)
    assert (result.n_insufficient, result.calibrated.share) == (4, 0.0)
    assert result.insufficient_reason is not None
    assert "40 rows; a verdict needs 1000" in result.insufficient_reason
    assert {one.calibrated.share for one in result.points} == {0.0}


# --------------------------------------------------------------------------- the command


@pytest.fixture
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    services.with_source(panel(n_dates=N_DATES))
    services.with_policy(data=DATA, drift=DRIFT)
    # It reads no ledger and writes none.
    vars(services)["ledger"] = None
    monkeypatch.setattr(task_services, "connect", lambda: services)
    return services


def command(*arguments: str, strategy: str = "growth") -> Result:
    return CliRunner().invoke(app, ["selftest", strategy, "--placebos", "10", *arguments])


def test_the_command_prints_both_rules_with_intervals(connected: FakeServices) -> None:
    ended = command("--shifts", "0.5,3")
    assert ended.exit_code == 0, ended.output
    assert "calibrated (in force)" in ended.stdout
    assert "10 of 345 dates" in ended.stdout  # 500 dates, the first 120 + 30 + 5 of them history
    assert "seen in 80% of the checks" in ended.stdout
    assert "…" not in ended.stdout


def test_json_holds_the_seed_and_every_rate(connected: FakeServices) -> None:
    answer = json.loads(command("--shifts", "3", "--seed", "4", "--json").stdout)
    assert (answer["seed"], answer["n_eligible"]) == (4, 345)
    assert [one["size"] for one in answer["selftest"]["points"]] == [3.0] * 4
    again = json.loads(command("--shifts", "3", "--seed", "4", "--json").stdout)
    assert again == answer


@pytest.mark.parametrize(
    ("name", "begins"), [("power.png", b"\x89PNG"), ("power.svg", b"<?xml"), ("power.html", b"<!doctype html>")]
)
def test_the_picture_is_written_whole(connected: FakeServices, tmp_path: Path, name: str, begins: bytes) -> None:
    assert command("--shifts", "3", "--plot", str(tmp_path / name)).exit_code == 0
    content = (tmp_path / name).read_bytes()
    assert content.startswith(begins)
    assert b"http-equiv" not in content
    assert b"src=" not in content


def test_known_breaks_can_be_left_out_by_name(connected: FakeServices) -> None:
    until = FIRST + timedelta(days=N_DATES)
    ended = command("--shifts", "3", "--without", f"{FIRST + timedelta(days=300)}:{until}")
    assert "10 of 145 dates" in ended.stdout  # 155 … 299
    assert "none whose windows touch" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shifts", "0.1,x"), "are no sizes; give numbers above 0"),
        (("--shifts", "0"), "are no sizes"),
        (("--shifts", "nan"), "are no sizes"),
        (("--without", "2020-02-30:2020-03-01"), "is no period"),
        (("--without", "2020-03-01:2020-02-01"), "runs backwards"),
        (("--plot", "power.pdf"), "the picture is a .png, .svg or .html file"),
        (("--plot", "nowhere/power.png"), "there is no folder nowhere"),
        (("--since", "2021-04-01"), "a check needs 155"),
        (("--since", "2031-01-01"), "has no rows from 2031-01-01 on"),
        (("--prices", "nowhere.parquet"), "nowhere.parquet cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_an_error_in_words(
    connected: FakeServices, arguments: tuple[str, ...], words: str
) -> None:
    ended = command(*arguments)
    assert (ended.exit_code, words in " ".join(ended.stderr.split())) == (2, True), ended.stderr


def test_an_unknown_strategy_and_one_without_rows_are_errors_in_words(connected: FakeServices) -> None:
    ended = command(strategy="growht")
    assert (ended.exit_code, "'growht' is not known" in ended.stderr) == (2, True)
    connected.with_source(panel("value", n_dates=30))
    ended = command()
    assert (ended.exit_code, "has no rows: it has none at all" in " ".join(ended.stderr.split())) == (2, True)


@pytest.mark.parametrize("reference", ["champion", "season"])
def test_a_policy_that_it_cannot_measure_is_refused_and_not_taken_for_another(
    connected: FakeServices, reference: Any
) -> None:
    connected.with_policy(data=replace(DATA, reference=reference))
    ended = command()
    assert (ended.exit_code, "the self-test knows the trailing one alone" in " ".join(ended.stderr.split())) == (
        2,
        True,
    )


def test_prices_of_a_file_take_the_place_of_the_features(connected: FakeServices, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    days = np.busday_offset("2018-01-01", np.arange(900), roll="forward")
    lines = ["date,ticker,close"]
    for ticker in ("AA", "BB", "CC", "DD", "EE"):
        close = 100 * np.exp(np.cumsum(rng.normal(scale=0.01, size=len(days))))
        lines += [f"{moment},{ticker},{price:.6f}" for moment, price in zip(days, close, strict=True)]
    prices, members = tmp_path / "prices.csv", tmp_path / "members.csv"
    prices.write_text("\n".join(lines))
    members.write_text("date,ticker,strategy\n2018-01-01,AA,value\n")
    ended = command("--shifts", "3", "--prices", str(prices), "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["selftest"]["n_placebos"] == 10
    ended = command("--shifts", "3", "--prices", str(prices), "--members", str(members))
    assert (ended.exit_code, "has no members of 'growth'" in " ".join(ended.stderr.split())) == (2, True)
