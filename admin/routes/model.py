"""One model: its versions beside what MLflow shows, what waits for approval, and the history."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from admin import external_links as places
from admin.listing import PAGE_ROWS, at_time, stretch, time_cursor
from admin.model_versions import VersionRow, awaiting, in_registry, version_rows
from admin.pages import Pages
from admin.request_context import Visiting
from mlops.domain.records import Kind

if TYPE_CHECKING:
    from mlops.domain.ports import ModelVersion

pages = Pages()

DECISION_ROWS, RUN_ROWS = 20, 5


@pages.get("/registry/models/{strategy}", action="model.read")
def model(visit: Visiting, strategy: str, before: str = "") -> Response:
    """From the ledger; what MLflow shows is as it was at the last look. Raises UnknownStrategy."""
    model_name = visit.services.strategies[strategy].model_name
    seen = visit.registry_view.get()
    registry = in_registry(seen, model_name)
    line = visit.ledger.model_lines([strategy])[strategy]
    found = visit.ledger.version_lines(strategy, before=at_time(before), limit=PAGE_ROWS + 1)
    trained = stretch(found, lambda one: time_cursor(one.trained_at, one.run_id))
    decisions = visit.ledger.decisions(strategy=strategy, limit=DECISION_ROWS + 1)
    known = visit.ledger.version_names(strategy)
    others = [] if before else _others(known, registry, line.version)
    decided = visit.ledger.stages_decided(strategy, [*(one.version for one in trained.rows), *others])
    rows = version_rows(trained.rows, decided, registry, line.version, made_by=line.made_by, others=others)
    decided_at = decisions[0].created_at if decisions else None
    is_behind = seen.census is not None and any(row.is_behind(visit.now, decided_at) for row in rows)
    if is_behind:
        visit.registry_view.hurry()
    return visit.show(
        "model.html",
        title=f"Model of {strategy}",
        strategy=strategy,
        model_name=model_name,
        model=line,
        list=trained,
        rows=rows,
        is_behind=is_behind,
        names=_names({*known, *registry, *(one.version for one in decisions)}),
        former=[one.version for one in visit.ledger.former_champions(strategy)],
        awaiting=awaiting(visit, strategy),
        open_runs=[run for run in visit.ledger.open_runs() if run.strategy == strategy],
        runs=visit.ledger.run_lines(
            strategy=strategy, kinds=[Kind.PROMOTE, Kind.ROLLBACK, Kind.COMPARE], limit=RUN_ROWS
        ),
        decisions=decisions[:DECISION_ROWS],
        has_more_decisions=len(decisions) > DECISION_ROWS,
        mlflow_error=seen.error,
        mlflow_at=seen.census_at,
        mlflow_page=places.mlflow_model(visit.services.settings, model_name),
        chart=_chart(rows),
    )


def _others(known: Collection[str], registry: Mapping[str, ModelVersion], champion: str | None) -> list[str]:
    """Versions that no run trained, as far as MLflow is known; and the champion, wherever it came from."""
    found = [version for version in registry if version not in known]
    return [*found, champion] if champion and champion not in {*known, *found} else found


def _names(versions: Collection[str]) -> list[str]:
    """Versions that can be named in a form, the newest first."""
    return sorted(versions, key=lambda version: (not version.isdigit(), -int(version) if version.isdigit() else 0))


def _chart(rows: list[VersionRow]) -> dict[str, Any] | None:
    """Metrics from version to version; None where there are fewer than three."""
    trained = [row.trained for row in reversed(rows) if row.trained]
    if len(trained) < 3:
        return None
    named = {"ROC AUC": "roc_auc", "accuracy": "accuracy", "F1": "f1_score"}
    return {
        "x": [line.trained_at.timestamp() for line in trained],
        "series": [
            {"label": label, "values": [line.metrics.get(name) for line in trained]} for label, name in named.items()
        ],
    }
