"""How often the promotion decision errs: equal models (A/A) on real prices, planted panels of known skill, whole years.

    python bench/promotion.py [--cases 200] [--sequences 200] [--only sequences] [--quick] [--json]

A/A: on the sample's five strategies and on days of 25 years, a model is trained as the train stage does, once more with
another seed, and judged against the first. Planted: 20 names, 60 held-out dates, labels that look 20 dates ahead, and
scores whose true AUC is known. Sequences: a new challenger every week for 60 weeks, each decided with the evidence and
the error budget of those before it, until one replaces the champion. --quick: a tenth of the cases, under 45 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow.parquet as pq
import xgboost as xgb
from scipy.stats import t

from config.settings import ROOT
from lab.decision_simulation import planted_pair, planted_sequence
from mlops.domain.policies import PromotionPolicy, Strategy
from mlops.domain.ports import Progress, TrainingData
from mlops.domain.promotion import paired
from mlops.domain.promotion.date_parts import ScoredRows, date_parts, influence
from mlops.domain.promotion.error_budget import LOOKBACK_DAYS, YEAR_DAYS, allowance
from mlops.domain.promotion.evidence import CommonDates, Facts, evidence_of
from mlops.domain.promotion.gates import apply_gates
from mlops.domain.promotion.paired import SEED
from mlops.domain.training.metrics import evaluate_classifier, majority_class_share, roc_auc
from mlops.domain.training.splits import split_by_date
from mlops.domain.training.trainer import load_trainer
from mlops.features.sample import compute_sample
from mlops.features.source import open_source
from mlops.stages.labelled_rows import read_labelled
from mlops.strategies.file import load_strategies

UNGATED = PromotionPolicy(min_accuracy=None, floor=None)
WEEKS = 60
HORIZON = 20
"""Dates that the planted labels look ahead."""
WITHIN = (4, 13, 26, 52)
"""Weeks within which the table counts replacements."""
DESIGNS = {
    "own errors, a common market": {"common": 0.3, "shared": 0.5},
    "errors that share nothing": {"common": 0.3, "shared": 0.0},
    "errors as lasting as labels, 9/10 shared": {"lasting_noise": True, "shared": 0.9},
    "errors as lasting as labels, half shared": {"lasting_noise": True, "shared": 0.5},
}


LASTING, OWN = "errors as lasting as labels, half shared", "own errors, a common market"
NOISE = PromotionPolicy(min_accuracy=0.57, floor=None)
"""A gate around the accuracy of models of AUC .60: which of them miss it on 60 dates is chance."""


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One row of the table of sequences."""

    design: str
    challenger_auc: float
    champion_auc: float = 0.60
    n_dates: int = 60
    policy: PromotionPolicy = UNGATED
    figure: str = ""
    """Name under which --json gives the share replaced by the end"""

    @property
    def title(self) -> str:
        """What stands in the first column."""
        gain = self.challenger_auc - self.champion_auc
        said = f"{gain:+.2f}".replace("0.", ".") if gain else "equal"
        gated = ", gated" if self.policy is not UNGATED else ""
        areas = f"{self.challenger_auc:.2f}/{self.champion_auc:.2f}".replace("0.", ".")
        return f"{said} ({areas}), {'lasting' if self.design == LASTING else 'own'} errors{gated}, {self.n_dates} dates"


SEQUENCES = (
    Sequence(design=LASTING, challenger_auc=0.60, figure="sequence_replaced_share"),
    Sequence(design=LASTING, challenger_auc=0.60, policy=NOISE, figure="sequence_gated_replaced_share"),
    Sequence(design=LASTING, challenger_auc=0.60, n_dates=120, figure="sequence_replaced_share_120_dates"),
    Sequence(design=OWN, challenger_auc=0.60),
    Sequence(design=OWN, challenger_auc=0.60, n_dates=120),
    Sequence(design=LASTING, challenger_auc=0.55),
    *(
        Sequence(design=design, challenger_auc=round(0.60 + gain, 2), n_dates=n_dates)
        for design in (LASTING, OWN)
        for gain in (0.02, 0.05, 0.10)
        for n_dates in (60, 120)
    ),
)


class Quiet:
    """A training that nobody watches."""

    def report(self, progress: Progress) -> None:
        """Nothing."""

    def check(self) -> None:
        """Never stops."""

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Keeps none."""

    def load_checkpoint(self) -> None:
        """None."""


def evidence(
    challenger: ScoredRows,
    champion: ScoredRows,
    *,
    policy: PromotionPolicy = UNGATED,
    share: float = 0.5,
    horizon: int = 20,
    **of_facts: Any,  # noqa: ANN401 -- fields of the facts
) -> dict[str, Any]:
    """The whole decision, as the promote stage has it made."""
    metrics = [
        evaluate_classifier(rows.y, rows.probability, train_positive_share=share).metrics
        for rows in (challenger, champion)
    ]
    common = CommonDates(
        first=str(challenger.dates[0]),
        last=str(challenger.dates[-1]),
        n_dates=len(np.unique(challenger.dates)),
        n_rows=len(challenger.y),
        data_fingerprint=str(challenger.dates[0]),
        champion_data_fingerprint=str(challenger.dates[0]),
        is_enough=True,
        challenger=metrics[0],
        champion=metrics[1],
        parts_challenger=date_parts(policy.main_metric, challenger),
        parts_champion=date_parts(policy.main_metric, champion),
        gate_parts={
            gate.metric: date_parts(gate.metric, champion)
            for gate in apply_gates(policy, metrics[1])
            if not gate.passed
        },
    )
    given = {"version": "2", "model_sha256": None, "earlier_challengers": (), "error_spent": 0.0} | of_facts
    facts = Facts(
        kind="promote", as_of=None, metrics=metrics[0], data_fingerprint=None, holdout=(None, None),
        champion={"version": "1", "seq": 1}, policy=policy, horizon_dates=horizon, seed=SEED, tuning_trials=0,
        code={}, common=common, **given,
    )  # fmt: skip
    return evidence_of(facts)


def decided(challenger: ScoredRows, champion: ScoredRows, **how: Any) -> str:  # noqa: ANN401 -- as `evidence` takes it
    return str(evidence(challenger, champion, **how)["decision"])


# --------------------------------------------------------------------------- sequences of weekly decisions


def area(rows: ScoredRows) -> float:
    return roc_auc(rows.y == 1, rows.probability) or 0.5


def hits(rows: ScoredRows) -> float:
    return float(np.mean((rows.probability >= 0.5) == (rows.y == 1)))


paired.stationary_counts = lru_cache(maxsize=64)(paired.stationary_counts)


def is_hopeless(challenger: ScoredRows, champion: ScoredRows, excess: float, level: float) -> bool:
    """Whether the test cannot promote within the level, by half of the standard error that blocks have to first order.

    The stationary bootstrap's variance in closed form (Politis & Romano 1994, lemma 1), for blocks as long as labels:
    a decision that this leaves open is made whole. A hundred times as fast as the resamples.
    """
    if excess < 0.0:
        return True
    moved = np.subtract(*(influence("roc_auc", date_parts("roc_auc", one)) for one in (challenger, champion)))
    n = len(moved)
    k = np.arange(1, n)
    together = (1 - k / n) * (1 - 1 / HORIZON) ** k + (k / n) * (1 - 1 / HORIZON) ** (n - k)
    alike = np.array([float(moved[lag:] @ moved[:-lag]) for lag in k])
    error = np.sqrt(max(0.0, float(moved @ moved + 2 * together @ alike)))
    blocks = n / HORIZON
    return bool(t.sf(2 * excess / (error * np.sqrt(blocks / (blocks - 1))), 1.5 * (blocks - 1)) > level)


def first_replaced(row: Sequence, number: int) -> int:
    """The week, counted from 1, in which a sequence's champion is replaced; 0 where it is not within WEEKS."""
    policy = row.policy
    pairs = planted_sequence(
        np.random.default_rng([17, number]),
        challenger_auc=row.challenger_auc,
        champion_auc=row.champion_auc,
        n_decisions=WEEKS,
        n_dates=row.n_dates,
        **DESIGNS[row.design],  # type: ignore[arg-type]
    )
    earlier: list[dict[str, Any]] = []
    spent: list[float] = []
    has_gates = policy.min_accuracy is not None
    for week, (challenger, champion) in enumerate(pairs, start=1):
        in_year = sum(spent[-YEAR_DAYS // 7 :])
        about = {"version": str(week + 1), "model_sha256": f"{week:064d}", "metric": "roc_auc", "margin": policy.margin}
        allowed = allowance(policy.yearly_error or 0.0, in_year, has_gates=has_gates)
        ahead = area(challenger) - area(champion)
        if ahead < 0.0 or (not has_gates and is_hopeless(challenger, champion, ahead - policy.margin, allowed.test)):
            # Neither path replaces a champion by such a challenger: the level is spent for nothing.
            spent.append(allowed.spends)
            missed = [] if policy.min_accuracy is None or hits(champion) >= policy.min_accuracy else ["accuracy"]
            earlier.append({**about, "rows": str(week), "predictions": None, "level": allowed.level, "missed": missed})
            continue
        # The same resamples serve every week; the stage, which decides once, makes them anew.
        found = evidence(
            challenger,
            champion,
            policy=policy,
            version=about["version"],
            model_sha256=about["model_sha256"],
            earlier_challengers=tuple(earlier[-LOOKBACK_DAYS // 7 :]),
            error_spent=in_year,
        )
        if found["decision"] == "promote":
            return week
        spent.append(found["error"]["spends"])
        missed = [gate["metric"] for gate in found["missed_gates"]]
        level = found["error"]["level"]
        earlier.append({**about, "rows": str(week), "predictions": None, "level": level, "missed": missed})
    return 0


def print_sequences(pool: ProcessPoolExecutor, n: int, figures: dict[str, float]) -> None:
    print(
        f"\nSequences of {WEEKS} weekly decisions, {n} a row: share of them in which the champion was replaced within"
    )
    heading = "".join(f"{weeks:>8}" for weeks in (*WITHIN, WEEKS))
    print(f"{'challengers / champion, held-out dates':<54}{heading} weeks, median", flush=True)
    for row in SEQUENCES:
        weeks = np.array(list(pool.map(partial(first_replaced, row), range(n))))
        shares = [float(np.mean((weeks > 0) & (weeks <= limit))) for limit in (*WITHIN, WEEKS)]
        median = float(np.median(np.where(weeks > 0, weeks, np.inf)))
        said = f"{median:.0f}" if np.isfinite(median) else f"> {WEEKS}"
        print(f"{row.title:<54}" + "".join(f"{one:>8.3f}" for one in shares) + f"{said:>14}", flush=True)
        if row.figure:
            figures[row.figure] = shares[-1]


# --------------------------------------------------------------------------- A/A on real prices


def sample_strategies(holdout_dates: int) -> list[Strategy]:
    strategies = load_strategies(ROOT / "config" / "strategies_sample.toml").values()
    return [replace(one, training=replace(one.training, holdout_dates=holdout_dates)) for one in strategies]


@lru_cache(maxsize=1)
def source_of(path: str):  # noqa: ANN201
    return open_source(path)


def a_against_a(path: str, holdout_dates: int, number: int) -> tuple[str, str, float]:
    """By the test alone, by the whole decision with the sample's gates, and how far the seed alone moved the AUC."""
    rng = np.random.default_rng([11, number])
    strategies = sample_strategies(holdout_dates)
    strategy = strategies[number % len(strategies)]
    as_of = date.fromordinal(int(rng.integers(date(1997, 1, 1).toordinal(), date(2022, 12, 1).toordinal())))
    rows = read_labelled(source_of(path), strategy, as_of=as_of)
    policy = strategy.training
    split = split_by_date(
        rows.dates,
        rows.known,
        horizon_dates=policy.horizon_dates,
        holdout_dates=policy.holdout_dates,
        embargo_dates=policy.embargo_dates,
    )
    pair = []
    for seed in rng.integers(0, 2**31, 2):
        model = load_trainer("xgboost").fit(
            TrainingData(
                x=rows.x[split.train], y=rows.y[split.train], dates=rows.dates[split.train], features=rows.features
            ),
            params=policy.params,
            seed=int(seed),
            device="cpu",
            n_jobs=1,
            segment_rounds=policy.segment_rounds,
            control=Quiet(),
        )
        held = split.holdout
        pair.append(
            ScoredRows(
                dates=rows.dates[held],
                y=rows.y[held],
                probability=model.predict_proba(rows.x[held])[:, 1],
                target_return=None,
            )
        )
    share = majority_class_share(rows.y[split.train])
    areas = [
        evaluate_classifier(one.y, one.probability, train_positive_share=share).metrics.get("roc_auc", 0.5)
        for one in pair
    ]
    gated = decided(pair[1], pair[0], policy=strategy.promotion, share=share)
    return decided(pair[1], pair[0], share=share), gated, abs(areas[1] - areas[0])


# --------------------------------------------------------------------------- planted panels


def planted(design: str, areas: tuple[float, float], number: int) -> tuple[str, float]:
    """The decision, and what it took in ms."""
    challenger, champion = planted_pair(
        np.random.default_rng([5, number]),
        challenger_auc=areas[0],
        champion_auc=areas[1],
        **DESIGNS[design],  # type: ignore[arg-type]
    )
    began = time.perf_counter()
    return decided(challenger, champion), (time.perf_counter() - began) * 1000


def share(answers: list[str], wanted: str) -> float:
    return answers.count(wanted) / len(answers)


@contextmanager
def sample_file() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        path = Path(folder) / "features.parquet"
        pq.write_table(compute_sample(), path)
        yield str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--holdout-dates", type=int, default=60)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sequences", type=int, default=200)
    parser.add_argument("--only", choices=["sequences"])
    options = parser.parse_args()
    n = 20 if options.quick else options.cases
    figures: dict[str, float] = {"cases": n}
    if options.only:
        with ProcessPoolExecutor() as pool:
            print_sequences(pool, options.sequences, figures)
        return
    with ProcessPoolExecutor() as pool, sample_file() as path:
        found = list(pool.map(partial(a_against_a, path, options.holdout_dates), range(n)))
        alone, gated = [row[0] for row in found], [row[1] for row in found]
        moved = [row[2] for row in found]
        print(f"A/A on the sample, {n} cases, {options.holdout_dates} held-out dates; the seed alone moves AUC by")
        print(f"  {np.median(moved):.4f} (median), {np.quantile(moved, 0.95):.4f} (95 %)")
        print(f"{'':<44}{'promote':>10}{'keep':>10}{'inconcl.':>10}{'refuse':>10}")
        words = ("promote", "keep", "inconclusive", "refuse")
        for title, answers in (("the test alone", alone), ("the whole decision, with the sample's gates", gated)):
            print(f"{title:<44}" + "".join(f"{share(answers, word):>10.3f}" for word in words), flush=True)
        figures["aa_promoted_share"] = share(alone, "promote")
        figures["aa_promoted_share_gated"] = share(gated, "promote")
        figures["aa_auc_moved_median"] = float(np.median(moved))
        print(f"\nPlanted, {n} panels of 20 names x 60 dates, labels of 20 dates")
        print(f"{'promoted with AUC of challenger / champion':<44}{'.65/.55':>10}{'.60/.60':>10}{'.55/.65':>10}")
        times: list[float] = []
        for design in DESIGNS:
            shares = []
            for areas in ((0.65, 0.55), (0.6, 0.6), (0.55, 0.65)):
                answers = list(pool.map(partial(planted, design, areas), range(n)))
                times += [ms for _, ms in answers]
                shares.append(share([word for word, _ in answers], "promote"))
            print(f"{design:<44}" + "".join(f"{one:>10.3f}" for one in shares), flush=True)
            if design == next(iter(DESIGNS)):
                figures["planted_promoted_share"], figures["equal_promoted_share"] = shares[:2]
                figures["planted_worse_promoted_share"] = shares[2]
        if not options.quick:
            print_sequences(pool, options.sequences, figures)
    figures["decision_ms"] = float(np.median(times))
    print(f"\nA decision, evidence and all: {figures['decision_ms']:.0f} ms")
    if options.json:
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        versions = {"python": platform.python_version(), "numpy": np.__version__, "xgboost": xgb.__version__}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
