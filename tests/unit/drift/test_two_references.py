"""The champion's dates beside the trailing window: one verdict, and what either of them says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from lab.drift_simulation import PanelDesign, simulate_year
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.references.frozen import detect_drift_from_profile
from mlops.domain.drift.references.two_references import detect_drift_by_both
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.drift.what_if import verdict_under
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window
from mlops.ledger.reports import check_columns
from tests.unit.drift.profiles import SPANS, day, frame, profile_of
from tests.unit.drift.test_frozen import columns
from tests.unit.drift.test_what_if import Figures

N, K = sum(SPANS), 5
NOW = datetime(2019, 1, 1, tzinfo=UTC)
USED = ReferenceUsed(choice="champion", used="champion", model_version="3")
POLICY = DriftPolicy(min_calibration_days=50)


def check(found: dict[str, np.ndarray], *, start: int = N, policy: DriftPolicy = POLICY) -> DriftReport:
    """The check of five dates from `start` on; the trailing window has 30 dates, and the panel all those before it."""
    rows = frame(start, {name: values[start : start + K] for name, values in found.items()})
    before = {name: values[: start - 30] for name, values in found.items()}

    def against_trailing(asked: DriftPolicy) -> DriftReport:
        return detect_drift(
            frame(start - 30, {name: values[start - 30 : start] for name, values in found.items()}),
            rows,
            asked,
            strategy="growth",
            as_of=day(start + K - 1),
            reference_window=Window(start=day(start - 31), end=day(start - 1)),
            current_window=Window(start=day(start - 1), end=day(start + K - 1)),
            timestamp=NOW,
            min_current_rows=10,
            history=frame(0, before),
        )

    return detect_drift_by_both(
        against_trailing,
        profile_of({name: values[:N] for name, values in found.items()}),
        rows,
        policy,
        current_start=day(start - 1),
        used=USED,
        min_current_rows=10,
    )


def normal(*, n: int = N + K, rows: int = 20, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, rows))


def left_behind() -> DriftReport:
    """The check of a feature whose level rose by 1.5 before the trailing window, which knows nothing else."""
    x = normal(n=N + 41)
    x[N + 5 :] += 1.5
    return check({"x": x}, start=N + 36)


def test_psi_and_decision_against_the_champion_are_those_of_a_check_against_its_profile_alone() -> None:
    found = columns()
    both = check(found)
    whole = detect_drift_from_profile(
        profile_of({name: values[:N] for name, values in found.items()}),
        frame(N, {name: values[N:] for name, values in found.items()}),
        replace(POLICY, alpha=POLICY.alpha / 2),
        as_of=day(N + K - 1),
        current_window=Window(start=day(N - 1), end=day(N + K - 1)),
        timestamp=NOW,
        min_current_rows=10,
        used=USED,
    )
    assert both.champion is not None
    assert both.champion.psi == pytest.approx({name: report.psi for name, report in whole.features.items()})
    assert both.champion.decision == whole.calibrated
    assert both.champion.calibration is not None
    assert both.champion.calibration.p_value == whole.calibration.p_value
    assert both.champion.reference is not None
    assert both.champion.reference.gap_dates == whole.reference.gap_dates


def test_each_has_half_of_alpha_and_the_verdicts_p_is_twice_the_smaller_one() -> None:
    found = check({"x": normal(), "y": normal(seed=4)})
    assert found.champion is not None
    assert found.champion.calibration is not None
    own, other = found.calibration, found.champion.calibration
    assert (own.alpha, other.alpha, found.alpha) == (0.025, 0.025, 0.05)
    assert own.p_value is not None
    assert other.p_value is not None
    assert found.p_value == min(1.0, 2 * min(own.p_value, other.p_value))
    assert found.verdict == "stable"
    assert found.policy == POLICY


def test_what_the_trailing_window_has_followed_is_drift_against_the_champion() -> None:
    found = left_behind()
    assert found.trailing is not None
    assert (found.trailing.verdict, found.verdict, found.decided_by) == ("stable", "drifted", "champion")
    assert found.reason.startswith(
        "against the dates that the champion was trained on: so large a shift is rare here (p "
    )
    assert "; against the trailing window: " in found.reason
    assert (found.p_value or 1) <= found.alpha


def test_what_is_new_today_is_drift_against_the_trailing_window_too() -> None:
    x = normal()
    x[N:] += 3
    found = check({"x": x})
    assert found.trailing is not None
    assert (found.trailing.verdict, found.verdict) == ("drifted", "drifted")


def test_a_profile_that_is_too_old_leaves_alpha_to_the_trailing_window() -> None:
    found = check({"x": normal(n=N + 120)}, start=N + 110)
    assert found.champion is not None
    assert (found.champion.decision, found.trailing, found.calibration.alpha) == (None, None, 0.05)
    assert "days past the dates that it was trained on" in str(found.champion.missing)
    assert found.p_value == found.calibration.p_value


def test_too_few_rows_are_no_verdict_of_either() -> None:
    found = check({"x": normal(rows=1)})
    assert found.verdict == "insufficient"
    assert "5 rows; a verdict needs 10" in found.reason


@pytest.mark.parametrize("made", [left_behind, lambda: check({"x": normal()})], ids=["left behind", "calm"])
def test_the_figures_in_the_ledger_decide_it_again(made: Any) -> None:
    found = made()
    kept = check_columns(found.to_json())
    assert (kept["verdict"], kept["alpha"], kept["p_value"]) == (found.verdict, 0.05, found.p_value)
    names = ("raw_verdict", "share", "p_value", "alpha", "n_placements")
    figures = Figures(**{name: kept[name] for name in names})
    assert verdict_under(figures, POLICY) == found.verdict
    assert verdict_under(figures, replace(POLICY, alpha=1e-6)) == "insufficient"


def test_a_slow_ramp_is_seen_against_the_champion_and_never_against_the_trailing_window() -> None:
    design = PanelDesign(common=0.0, ar=0.0, n_assets=20, n_features=10)
    checks = simulate_year(design, 1.0, np.random.default_rng(5), every=40)
    seen = [one.n_dates for one in checks if one.both(alpha=0.05, alert_share=0.3)]
    assert seen
    assert seen[0] <= 125
    assert not any(one.trailing.drifted(alpha=0.05, alert_share=0.3) for one in checks)
    calm = simulate_year(design, 0.0, np.random.default_rng(6), every=40)
    assert not any(one.both(alpha=0.05, alert_share=0.3) for one in calm)
