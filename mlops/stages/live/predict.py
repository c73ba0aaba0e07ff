"""The predict stage: the champion's predictions of one date's universe, written once.

Safe to run twice: a run's predictions are one batch of the log, which is written once and is found again by a later
try, also where the champion has changed meanwhile. A model is loaded in this process, so workers run it in a child.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from mlops.domain.errors import EmptyWindow
from mlops.domain.live.rows import row_digests
from mlops.domain.panel import left_out_date
from mlops.domain.ports import Progress, Window
from mlops.domain.records import Grant, RunState, StageOutcome
from mlops.domain.training.metrics import THRESHOLD
from mlops.domain.windows import newest_complete_date
from mlops.stages.labelled_rows import rows_once
from mlops.stages.live.beside import predict_beside
from mlops.stages.live.served_champion import load_champion
from mlops.stages.live.universe import ORIGIN, matrix_of, predictions_of, read_universe, refuse_columns
from mlops.strategies.file import restore

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops.domain.policies import Strategy
    from mlops.domain.promotion.records import Champion
    from mlops.ledger.queries.live import BatchSummary
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.table import AllServices, StageServices

log = structlog.get_logger(__name__)

_DAY = timedelta(days=1)


def predict_universe(grant: Grant, services: StageServices, keeper: LeaseKeeper) -> StageOutcome:
    """The predictions are in the ledger; refused, with the reason, where nobody is asked.

    The versions that are compared with the champion predict after it; what keeps them from it is in the result.
    """
    strategy = restore(grant.policy)
    outcome, features = _predict_champion(grant, services, keeper, strategy)
    if outcome.run_state is not RunState.SUCCEEDED or outcome.as_of is None:
        return outcome
    beside = predict_beside(grant, services, keeper, strategy, outcome.as_of, champion_features=features)
    return replace(outcome, result={**outcome.result, "beside": beside}) if beside else outcome


def _predict_champion(
    grant: Grant, services: StageServices, keeper: LeaseKeeper, strategy: Strategy
) -> tuple[StageOutcome, tuple[str, ...] | None]:
    """How the champion's predictions ended, and what it reads; None where it was not loaded."""
    written = services.ledger.batch_summary(grant.run_id, threshold=THRESHOLD)
    if written is not None:
        log.info("predict.batch_found", as_of=written.as_of.isoformat(), version=written.version)
        return _done(written), None
    champion = services.ledger.champion(strategy.name, namespace=grant.namespace)
    if champion.version is None:
        reason = f"strategy {strategy.name!r} has no champion; `acis retrain {strategy.name}` trains and judges one"
        return _refused(grant.as_of, reason), None
    today = services.feature_day()
    as_of = grant.as_of or newest_complete_date(strategy, services.source, today=today)
    if as_of > today:
        message = f"the universe of {as_of} was asked for, and it is {today}; give a date that has begun"
        raise EmptyWindow(message)
    left_out = left_out_date(services.source, strategy.name, as_of, min_share=strategy.data.min_date_share, today=today)
    if left_out is not None:
        then = "; it is predicted when its features are complete" if left_out.reason == "incomplete" else ""
        return _refused(as_of, f"the date does not count: {left_out.words}{then}", n_found=left_out.n_rows), None
    n_found = services.source.count(strategy.name, Window(start=as_of - _DAY, end=as_of))
    earlier = _predicted_by(services, grant, strategy, champion, as_of, n_found=n_found)
    if earlier is not None:
        return _done(earlier, n_found=n_found, by=earlier.run_id), None
    keeper.report(Progress(done=0, total=3, unit="steps"))
    served = load_champion(services.registry, strategy, champion)
    why_not = served.why_not_predict(as_of)
    if why_not is not None:
        return _refused(as_of, why_not), None
    model = served.model
    rows = read_universe(services.source, strategy, model.features, as_of)
    keeper.report(Progress(done=1, total=3, unit="steps"))
    keeper.check()
    x = matrix_of(rows, model.features)
    table = predictions_of(services, model, rows, as_of, model.predictor.probabilities(x), row_digests(x))
    keeper.report(Progress(done=2, total=3, unit="steps"))
    keeper.check_before_write()
    if services.ledger.write_predictions(grant.run_id, ORIGIN, table, namespace=grant.namespace, fence=grant):
        log.info("predict.written", as_of=as_of.isoformat(), version=model.version, n_rows=len(table))
    found = services.ledger.batch_summary(grant.run_id, threshold=THRESHOLD)
    if found is None:
        raise AssertionError(f"batch {grant.run_id} was written and is not in the ledger")
    return _done(found, n_found=n_found), model.features


def _predicted_by(
    services: StageServices, grant: Grant, strategy: Strategy, champion: Champion, as_of: date, *, n_found: int
) -> BatchSummary | None:
    """The batch of another run that has predicted the date with this champion, and all rows that it has now."""
    for run in services.ledger.predict_runs([strategy.name], since=as_of, namespace=grant.namespace):
        is_other = run.as_of == as_of and run.run_id != grant.run_id
        if is_other and run.has_predicted and run.is_of(champion) and not run.has_grown(n_found):
            return services.ledger.batch_summary(run.run_id, threshold=THRESHOLD)
    return None


def _done(found: BatchSummary, *, n_found: int | None = None, by: str | None = None) -> StageOutcome:
    """n_found : rows that the date had then, those without a ticker too; None: as many as were predicted"""
    result = {
        "as_of": found.as_of.isoformat(),
        "version": found.version,
        "model_sha256": found.model_sha256,
        "n_rows": found.n_rows,
        "n_found": found.n_rows if n_found is None else n_found,
        "positive_share": found.positive_share,
        "batch_id": found.run_id,
        "threshold": THRESHOLD,
        "predicted_by": by,
    }
    return StageOutcome(result=result, run_state=RunState.SUCCEEDED, as_of=found.as_of)


def _refused(as_of: date | None, *reasons: str, n_found: int | None = None) -> StageOutcome:
    """n_found : rows that the date had, where more of them would be another answer"""
    result = {
        "as_of": as_of.isoformat() if as_of else None,
        "version": None,
        "n_found": n_found,
        "reasons": list(reasons),
    }
    return StageOutcome(result=result, run_state=RunState.REFUSED, as_of=as_of)


def predict_dates(
    services: AllServices,
    strategy: Strategy,
    champion: Champion,
    first: date,
    last: date,
    *,
    batch_id: str,
    on_date: Callable[[date, int, int], None] = lambda *_: None,
) -> int:
    """Let the champion predict each date of a past stretch from that date's rows alone; the rows that were written.

    One batch, whose id makes it safe to repeat: 0 where it is there already.

    on_date : called with each date, how many are done, and of how many
    Raises as `predict_universe` does; EmptyWindow where these dates have no row, or its training knew one.
    """
    served = load_champion(services.registry, strategy, champion)
    why_not = served.why_not_predict(first)
    if why_not is not None:
        raise EmptyWindow(why_not)
    model = served.model
    with services.source.snapshot() as source:
        refuse_columns({column.name: column.kind for column in source.columns()}, model.features)
        window = Window(start=first - _DAY, end=last)
        rows = source.read(strategy.name, window, ["ticker", "date", *model.features])
    rows = rows_once(rows.filter(rows.column("ticker").is_valid()), strategy)
    dates = sorted(set(rows.column("date").to_pylist()))
    if not dates:
        message = f"strategy {strategy.name!r} has no rows from {first} to {last}; load its features"
        raise EmptyWindow(message)
    tables = []
    for place, day in enumerate(dates):
        of_day = rows.filter(pc.equal(rows.column("date"), pa.scalar(day, rows.schema.field("date").type)))
        x = matrix_of(of_day, model.features)
        probability = model.predictor.probabilities(x)
        tables.append(predictions_of(services, model, of_day, day, probability, row_digests(x)))
        on_date(day, place + 1, len(dates))
    table = pa.concat_tables(tables)
    return len(table) if services.ledger.write_predictions(batch_id, ORIGIN, table) else 0
