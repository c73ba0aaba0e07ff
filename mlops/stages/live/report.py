"""The report of a scoring: the document of `mlops_live_report`, which stands beside the scores of the days.

Each part stands alone: what cannot be computed says why, and keeps no other part from being. Called by the score stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import structlog

from mlops.domain.errors import DataError, RegistryError, RegistryUnavailable
from mlops.domain.live.attribution import attribution_drift, summarise_attributions
from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.decay import detect_decay
from mlops.domain.live.estimate import Estimate, check_estimates, estimate_performance
from mlops.domain.live.performance import Performance, measure_performance
from mlops.domain.live.rows import row_digests
from mlops.domain.live.slices import compare_slices
from mlops.domain.ports import Window
from mlops.domain.sampling import RowSample, group_starts
from mlops.domain.training.judged_twin import judged_of
from mlops.domain.training.trading import is_long_label
from mlops.reporting.narrative import decay_words, without_outcome_words
from mlops.stages.labelled_rows import rows_once
from mlops.stages.live.outcomes import Outcomes, read_outcomes
from mlops.stages.live.pairs import CHAMPION
from mlops.stages.live.universe import matrix_of, rows_between

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.promotion.records import Champion
    from mlops.domain.records import DayScored
    from mlops.serving.model import ServedModel
    from mlops.stages.live.score import JoinedPredictions
    from mlops.stages.live.served_champion import ServedChampion

log = structlog.get_logger(__name__)

RECENT_DATES = 20
"""Newest predicted dates whose rows are read again for parity, and explained: a month of trading."""
_SLICED_DAYS = 365
_EXPLAINED_ROWS = 2_000
"""Rows of the training, and of the newest dates, whose contributions are averaged."""
_LEAST_DAYS = 20
"""Days with an outcome from which on what was measured is the headline, and not the estimate."""
_EXAMPLES = 5
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class LiveData:
    """The inputs of the document."""

    strategy: Strategy
    as_of: date
    champion: Champion
    served: ServedChampion | None
    judge: Callable[[ServedChampion], ServedModel]
    """Gives the model that was scored on the dates which the champion's training held out"""
    why_not_served: str | None
    days: Sequence[DayScored]
    """Every day's newest score, by date, of champions alone"""
    joined: JoinedPredictions
    """The champion's alone"""
    outcomes: Outcomes
    earlier: Mapping[str, Any]
    """The document of the scoring before; empty for the first"""

    def of_version(self, version: str | None, sha256: str | None) -> dict[date, DayScore]:
        """Days of one model as champion."""
        return {
            day.as_of: DayScore.from_json(day.score)
            for day in self.days
            if day.variant == CHAMPION and day.version == version and (sha256 is None or day.model_sha256 == sha256)
        }

    def of_champions(self) -> dict[date, DayScore]:
        """One score for each day: of the model that predicted most of its rows, of those alike the last promoted."""
        best: dict[date, DayScored] = {}
        for day in self.days:
            found = best.get(day.as_of)
            if day.variant == CHAMPION and (found is None or _rank(day) > _rank(found)):
                best[day.as_of] = day
        return {day: DayScore.from_json(one.score) for day, one in best.items()}


def _rank(day: DayScored) -> tuple[int, int, str]:
    return day.n_predictions, int(day.version) if day.version.isdigit() else 0, day.version


def live_document(data: LiveData, source: FeatureSource) -> dict[str, Any]:
    """The document, JSON but for dates that are text: headline, performance, estimate, decay and what stands beside."""
    horizon = data.strategy.training.horizon_dates
    notes = [*data.outcomes.notes]
    models = list(dict.fromkeys((day.version, day.model_sha256, day.variant) for day in data.days))
    performances = {model: measure_performance(_days_of(data, *model), horizon_dates=horizon) for model in models}
    of_champions = data.of_champions()
    ripe_to = data.outcomes.ripe_to
    first = min(of_champions, default=data.as_of) if ripe_to is None else ripe_to + _DAY
    estimates = estimate_performance(of_champions, first=first, as_of=data.as_of, horizon_dates=horizon)
    checks = check_estimates(of_champions, as_of=data.as_of, horizon_dates=horizon)
    decay = _decay(data, source)
    parts: dict[str, Callable[[], Any]] = {
        "attribution": lambda: _attribution(data, source),
        "slices": lambda: _slices(data, source),
        "parity": lambda: _parity(data, source),
    }
    beside = {name: _part_or_note(name, part, notes) for name, part in parts.items()}
    performance = next((found for model, found in performances.items() if _is_champion(data, *model)), None)
    counts = _counts(data)
    headline = _headline(data, performance, estimates, decay, counts)
    return {
        "strategy": data.strategy.name,
        "as_of": data.as_of.isoformat(),
        "label": data.strategy.training.label,
        "horizon_dates": horizon,
        "champion": {
            "version": data.champion.version,
            "model_sha256": data.champion.identity.sha256,
            "trained_as_of": as_json(data.champion.trained_as_of),
        },
        "headline": headline,
        "words": _words(headline, counts, decay),
        "counts": counts,
        "outcomes": {
            "first": as_json(data.joined.dates[0].item()),
            "last": data.as_of.isoformat(),
            "ripe_to": as_json(ripe_to),
            "digest": data.outcomes.digest,
        },
        "performance": [
            {"version": version, "model_sha256": sha256, "variant": variant, **as_json(found)}
            for (version, sha256, variant), found in performances.items()
        ],
        "estimate": as_json(estimates),
        "estimate_checks": [{**as_json(check), "is_covered": check.is_covered} for check in checks],
        "decay": decay,
        **beside,
        "notes": notes,
    }


def _counts(data: LiveData) -> dict[str, int]:
    """Count the predictions: each has an outcome, is not ripe, is ripe and has none, or its row is gone."""
    joined = data.joined
    ripe_to = data.outcomes.ripe_to
    is_ripe = np.zeros(len(joined.known), dtype=np.bool_) if ripe_to is None else joined.dates <= np.datetime64(ripe_to)
    found = {
        "n_labelled": joined.known,
        "n_unripe": joined.is_there & ~is_ripe,
        "n_without_outcome": joined.is_there & is_ripe & ~joined.known,
        "n_gone": ~joined.is_there,
    }
    return {"n_predictions": len(joined.known), **{name: int(np.count_nonzero(on)) for name, on in found.items()}}


def _days_of(data: LiveData, version: str, sha256: str, variant: str) -> dict[date, DayScore]:
    return {
        day.as_of: DayScore.from_json(day.score)
        for day in data.days
        if (day.version, day.model_sha256, day.variant) == (version, sha256, variant)
    }


def _is_champion(data: LiveData, version: str, sha256: str, variant: str) -> bool:
    known = data.champion.identity.sha256
    return variant == CHAMPION and version == data.champion.version and (known is None or sha256 == known)


def _part_or_note(name: str, part: Callable[[], Any], notes: list[str]) -> Any:  # noqa: ANN401 -- JSON
    try:
        return part()
    except DataError as exc:
        notes.append(f"{name}: {exc}")
        return None


# ---- Headline


def _headline(
    data: LiveData,
    performance: Performance | None,
    estimates: Sequence[Estimate],
    decay: Mapping[str, Any],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    measured = performance.roc_auc if performance is not None else None
    estimate = next((one for one in estimates if one.metric == "roc_auc"), None)
    n_days = performance.n_days if performance is not None else 0
    is_estimate = measured is None or n_days < _LEAST_DAYS
    shown = estimate if is_estimate and estimate is not None else measured
    return {
        "version": data.champion.version,
        "metric": "roc_auc",
        "value": shown.value if shown is not None else None,
        "low": shown.low if shown is not None else None,
        "high": shown.high if shown is not None else None,
        "is_estimate": is_estimate and estimate is not None,
        "n_days": n_days,
        "n_labelled": performance.n_labelled if performance is not None else 0,
        **{name: counts[name] for name in ("n_unripe", "n_without_outcome", "n_gone")},
        "decayed_on": decay["fired_on"],
    }


def _words(headline: Mapping[str, Any], counts: Mapping[str, int], decay: Mapping[str, Any]) -> list[str]:
    """The report in a few sentences."""
    value = headline["value"]
    if value is None and headline["n_labelled"]:
        found = f"all outcomes of {headline['n_days']} days are alike, so that there is no AUC"
    elif value is None:
        found = "no outcome is known yet"
    else:
        interval = "" if headline["low"] is None else f" ({headline['low']:.3f} to {headline['high']:.3f})"
        how = "estimated" if headline["is_estimate"] else f"on {headline['n_days']} days"
        found = f"AUC {value:.3f}{interval}, {how}"
    never = without_outcome_words(counts)
    return [f"Version {headline['version']}: {found}", *([never] if never else []), *decay_words(decay)]


# ---- Decay


def _decay(data: LiveData, source: FeatureSource) -> dict[str, Any]:
    """The sequential test of the champion's days, or why there is none."""
    found: dict[str, Any] = {
        "fired_on": None,
        "alpha": data.strategy.live.decay_alpha,
        "words": None,
        "why_not": None,
        "retrain_on_decay": data.strategy.live.retrain_on_decay,
    }
    if data.served is None:
        return found | {"why_not": data.why_not_served}
    days = data.of_version(data.champion.version, data.served.model.sha256)
    if not days:
        return found | {"why_not": f"no day of version {data.champion.version} was scored yet"}
    try:
        at_promotion = scores_at_promotion(data, data.served, source)
    except (DataError, RegistryUnavailable, RegistryError) as exc:
        return found | {"why_not": str(exc)}
    decay = detect_decay(
        days,
        at_promotion=at_promotion,
        as_of=data.as_of,
        horizon_dates=data.strategy.training.horizon_dates,
        alpha=data.strategy.live.decay_alpha,
    )
    return {**found, **as_json(decay)}


def scores_at_promotion(data: LiveData, served: ServedChampion, source: FeatureSource) -> dict[date, DayScore]:
    """Scores of the dates that the champion's training held out, as the rows are now, by the model that was judged on
    them: a refitted champion knows them. Raises DataError, UnusableModelFile, RegistryUnavailable.
    """
    tags = served.version.tags
    held = judged_of(tags).holdout
    if held is None:
        message = f"version {served.model.version} does not say which dates its training held out"
        raise DataError(message)
    first, last = held
    judge = data.judge(served)
    known_by = min(data.as_of, _date_of(tags.get("training_date")) or data.as_of)
    outcomes = read_outcomes(source, data.strategy, first=first, last=max(last, known_by))
    rows = rows_between(source, data.strategy, judge.features, first, last)
    # Both have every row of these dates once, in the order of date and ticker.
    n = rows.num_rows
    probability = np.asarray(judge.predictor.probabilities(matrix_of(rows, judge.features)))
    dates = _dates(rows)
    starts = group_starts(dates.astype(np.int64))
    is_long = is_long_label(data.strategy.training.label)
    scores = {}
    for start, end in zip(starts, np.append(starts[1:], n), strict=True):
        on = slice(int(start), int(end))
        returns = None if outcomes.next_return is None else outcomes.next_return[on]
        score = score_day(probability[on], outcomes.y[on], outcomes.known[on], returns, is_long=is_long)
        if score.n_labelled:
            scores[dates[start].item()] = score
    return scores


def _dates(rows: pa.Table) -> npt.NDArray[np.datetime64]:
    return np.asarray(rows.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")


def _date_of(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


# ---- What the model relies on


def _attribution(data: LiveData, source: FeatureSource) -> dict[str, Any] | None:
    """Contributions of the features on the newest predicted dates against those on the training's rows."""
    served = data.served
    if served is None:
        raise DataError(data.why_not_served)
    features = served.model.features
    earlier = data.earlier.get("attribution") or {}
    if earlier.get("model_sha256") == served.model.sha256:
        training = {name: float(value) for name, value in earlier["training"].items()}
    else:
        training = _training_attribution(data, served, source)
    first, last = _recent(data)
    now = _explained(data, served, source, first, last)
    drift = attribution_drift(training, now)
    return {
        "model_sha256": served.model.sha256,
        "version": served.model.version,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "training": {name: training.get(name, 0.0) for name in features},
        "now": now,
        **as_json(drift),
    }


def _training_attribution(data: LiveData, served: ServedChampion, source: FeatureSource) -> dict[str, float]:
    tags = served.version.tags
    first, last = _date_of(tags.get("train_start")), _date_of(tags.get("train_end"))
    if first is None or last is None:
        message = f"version {served.model.version} does not say which dates it was trained on"
        raise DataError(message)
    return _explained(data, served, source, first, last)


def _explained(
    data: LiveData, served: ServedChampion, source: FeatureSource, first: date, last: date
) -> dict[str, float]:
    """Mean absolute contribution of each feature on a sample of the dates' rows."""
    by_date = source.rows_by_date(data.strategy.name, Window(start=first - _DAY, end=last))
    n = sum(by_date.values())
    if not n:
        message = f"the feature view has no rows from {first} to {last}"
        raise DataError(message)
    sample = RowSample(shares=dict.fromkeys(by_date, _EXPLAINED_ROWS / n)) if n > _EXPLAINED_ROWS else None
    rows = rows_between(source, data.strategy, served.model.features, first, last, sample=sample)
    x = matrix_of(rows, served.model.features)
    return summarise_attributions(served.model.features, served.contributions(x))


def _recent(data: LiveData) -> tuple[date, date]:
    """The newest dates that were predicted."""
    dates = np.unique(data.joined.dates)[-RECENT_DATES:]
    return dates[0].item(), dates[-1].item()


# ---- Slices


def _slices(data: LiveData, source: FeatureSource) -> list[dict[str, Any]]:
    """Where the champions' predictions of the last year were worse than elsewhere; empty where no column is named."""
    names = data.strategy.live.slices
    if not names:
        return []
    kinds = {column.name: column.kind for column in source.columns()}
    lacking = [name for name in names if name == "date" or kinds.get(name) not in ("number", "category")]
    if lacking:
        message = f"live.slices: {', '.join(lacking)} is no column of numbers or text of the feature view"
        raise DataError(message)
    on = data.joined.known & (data.joined.dates > np.datetime64(data.as_of - timedelta(days=_SLICED_DAYS), "D"))
    on &= np.asarray(data.joined.said.column("variant").to_pylist(), dtype=object) == CHAMPION
    if not on.any():
        return []
    columns = _columns_of(data, source, names, kinds, on)
    found = compare_slices(
        columns,
        dates=data.joined.dates[on],
        y=data.joined.y[on],
        probability=data.joined.probability[on],
        horizon_dates=data.strategy.training.horizon_dates,
    )
    return [as_json(one) for one in found]


def _columns_of(
    data: LiveData,
    source: FeatureSource,
    names: Sequence[str],
    kinds: Mapping[str, str],
    on: npt.NDArray[np.bool_],
) -> dict[str, npt.NDArray[Any]]:
    """The columns' values of the predicted rows."""
    dates = data.joined.dates[on]
    tickers = data.joined.said.column("ticker").to_numpy(zero_copy_only=False)[on]
    window = Window(start=dates[0].item() - _DAY, end=dates[-1].item())
    wanted = [name for name in names if name != "ticker"]
    rows = rows_once(source.read(data.strategy.name, window, ["ticker", "date", *wanted]), data.strategy)
    row_of = {
        key: i for i, key in enumerate(zip(_dates(rows).tolist(), rows.column("ticker").to_pylist(), strict=True))
    }
    at = np.array([row_of.get(key, -1) for key in zip(dates.tolist(), tickers.tolist(), strict=True)])
    found: dict[str, npt.NDArray[Any]] = {"ticker": tickers} if "ticker" in names else {}
    for name in wanted:
        values = rows.column(name).to_numpy(zero_copy_only=False)
        blank: Any = np.nan if kinds[name] == "number" else None
        full = np.append(np.asarray(values, dtype=np.float64 if kinds[name] == "number" else object), blank)
        found[name] = full[at]
    return found


# ---- Parity of the rows that were served with the rows that training would read


def _parity(data: LiveData, source: FeatureSource) -> dict[str, Any] | None:
    """How many of the champion's newest predictions were made from the row that the feature view has now."""
    served = data.served
    if served is None:
        raise DataError(data.why_not_served)
    first, last = _recent(data)
    predictions = data.joined.said
    on = data.joined.dates >= np.datetime64(first, "D")
    on &= np.asarray(predictions.column("model_sha256").to_pylist(), dtype=object) == served.model.sha256
    if not on.any():
        return None
    rows = rows_between(source, data.strategy, served.model.features, first, last)
    digests = row_digests(matrix_of(rows, served.model.features))
    now = dict(zip(zip(_dates(rows).tolist(), rows.column("ticker").to_pylist(), strict=True), digests, strict=True))
    chosen = predictions.filter(pa.array(on))
    keys = list(zip(chosen.column("as_of").to_pylist(), chosen.column("ticker").to_pylist(), strict=True))
    served_digests = chosen.column("row_digest").to_pylist()
    other = [key for key, digest in zip(keys, served_digests, strict=True) if now.get(key) not in (None, digest)]
    return {
        "version": served.model.version,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "n_rows": len(keys),
        "n_equal": sum(now.get(key) == digest for key, digest in zip(keys, served_digests, strict=True)),
        "n_other": len(other),
        "n_gone": sum(key not in now for key in keys),
        "examples": [{"ticker": ticker, "date": day.isoformat()} for day, ticker in other[:_EXAMPLES]],
    }


def as_json(value: object) -> Any:  # noqa: ANN401 -- JSON is any
    """Dataclasses and named tuples as objects, dates as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: as_json(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
