"""The evaluation of the label watch: streams, detectors of the literature, and the steps that follow an alarm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from config.settings import ROOT, Settings
from lab.label_evaluation import CHANGE_AT, WATCH
from lab.label_replacement import StreamDesign, evaluate_stream
from lab.label_streams import STREAMS, StreamName, adwin, ddm, draw_stream, page_hinkley
from mlops.strategies.file import load_strategies


class Quiet:
    """A training that nobody watches."""

    def report(self, progress: object) -> None: ...
    def check(self) -> None: ...
    def save_checkpoint(self, name: str, payload: bytes) -> None: ...
    def load_checkpoint(self) -> None: ...


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_changes_as_it_says_and_nothing_before(name: StreamName) -> None:
    def drawn(change: str) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        rows = draw_stream(name, coin=0.0, n_dates=200, n_rows=40, change=change, change_at=100, rng=rng)  # type: ignore[arg-type]
        is_one = (
            rows.x[..., 0] + rows.x[..., 1] <= 8 if name == "SEA" else (rows.x[..., 1] == 1) | (rows.x[..., 2] == 1)
        )
        return rows.y, is_one.astype(np.int8)

    for change in ("none", "market", "turned", "gradual"):
        y, concept = drawn(change)
        assert (y[:100] == concept[:100]).all()
        # A market in which most labels are 1 has the rows that go with them.
        assert (y[160:] == (1 - concept[160:] if change in ("turned", "gradual") else concept[160:])).all()
    y, _ = drawn("market")
    assert y[100:].mean() == pytest.approx(0.8, abs=0.03)
    y, concept = drawn("gradual")
    # Date i after the change is turned around with probability (i + 1) / 60: half of them on average.
    assert (y != concept)[100:160].mean() == pytest.approx(0.5, abs=0.05)


def test_the_detectors_are_those_of_the_literature_row_by_row() -> None:
    rng = np.random.default_rng(3)
    wrong = rng.random(600) < np.where(np.arange(600) < 300, 0.2, 0.5)
    losses = wrong + 0.1 * rng.random(600)
    ends = np.arange(20, 601, 20)

    def first_page_hinkley() -> int:
        mean = total = least = 0.0
        for n, loss in enumerate(losses, start=1):
            mean += (loss - mean) / n
            total += loss - mean - 0.005
            least = min(least, total) if n > 1 else total
            if total - least > 10.0:
                return (n - 1) // 20
        raise AssertionError

    def first_ddm() -> int:
        n_wrong, best, rate_then, deviation_then = 0, np.inf, 0.0, 0.0
        for n, one in enumerate(wrong, start=1):
            n_wrong += int(one)
            rate = n_wrong / n
            deviation = np.sqrt(rate * (1 - rate) / n)
            if n < 30:
                continue
            if rate + deviation <= best:
                best, rate_then, deviation_then = rate + deviation, rate, deviation
            if rate + deviation > rate_then + 3 * deviation_then:
                return (n - 1) // 20
        raise AssertionError

    assert page_hinkley(losses, ends, bound=10.0) == first_page_hinkley()
    assert ddm(wrong, ends) == first_ddm()
    at = adwin(wrong, ends)
    assert at is not None
    assert 15 <= at <= 20
    assert adwin(wrong[:300], ends[:15]) is None
    assert adwin(~wrong, ends) is None, "a rate that falls is no alarm"


def test_a_turned_around_stream_is_told_from_a_market_and_its_champion_is_replaced_by_a_better_one() -> None:
    sample = load_strategies(ROOT / "config" / "strategies_sample.toml")["growth"]
    ungated = replace(sample.promotion, min_roc_auc=None, min_lift_over_majority=None, min_accuracy=None)
    strategy = replace(sample, training=replace(sample.training, holdout_dates=60), promotion=ungated)
    design = StreamDesign(name="STAGGER", coin=0.5, horizon_dates=5, n_rows=30)
    settings = Settings(train_n_jobs=1)
    found = evaluate_stream(design, strategy, seeds=1, years=1, settings=settings, control=Quiet())
    (turned,) = (one for one in found.rates["turned"] if one.method == WATCH)
    (market,) = (one for one in found.rates["market"] if one.method == WATCH)
    assert (turned.false, turned.found, market.found) == (0.0, 1.0, 0.0)
    assert turned.delay is not None
    assert turned.delay[0] <= 5
    replacement, _ = found.replacements
    assert replacement.alarm == turned.delay[0] + 5
    assert replacement.replaced is not None
    assert replacement.replaced <= 60 < CHANGE_AT
    assert (replacement.new_auc or 0.0) > 0.65
    assert (replacement.old_auc or 1.0) < 0.35
