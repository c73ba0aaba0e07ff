"""MLflow from outside: where it is, whether it answers, what it holds, and how that grows."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from starlette.responses import Response

from admin import external_links as places
from admin.listing import shown
from admin.pages import Pages
from admin.request_context import Visiting
from mlops.domain.ports import RegistryCensus

pages = Pages()


@pages.get("/mlflow", action="mlflow.read")
def mlflow(visit: Visiting, q: str = "", sort: str = "", page: int = 1) -> Response:
    """The last look; never waits for MLflow."""
    seen = visit.registry_view.get()
    by_month = visit.ledger.bytes_by_month()
    models = shown(
        _models(seen.census) if seen.census else [],
        q=q,
        sort=sort,
        page=page,
        text=lambda row: str(row["name"]),
        sorts={
            "name": lambda row: row["name"],
            "versions": lambda row: row["versions"],
            "newest": lambda row: row["newest"],
        },
    )
    return visit.show(
        "mlflow.html",
        title="MLflow status",
        home=places.mlflow_home(visit.services.settings),
        is_reachable=seen.is_reachable,
        error=seen.error,
        looked_at=seen.looked_at,
        took_s=seen.took_s,
        census_at=seen.census_at,
        experiments=sorted(seen.census.experiments) if seen.census else [],
        n_models=len(seen.census.models) if seen.census else None,
        n_versions=len(seen.census.versions) if seen.census else None,
        list=models,
        months=[{"month": month, "bytes": grown} for month, grown in reversed(by_month.items())],
        total=sum(by_month.values()),
        chart=_chart(by_month),
    )


def _models(census: RegistryCensus) -> list[dict[str, Any]]:
    n_versions = Counter(version.name for version in census.versions)
    newest: dict[str, datetime] = {}
    champion: dict[str, str] = {}
    for version in census.versions:
        newest[version.name] = max(version.created_at, newest.get(version.name, version.created_at))
        if version.stage == "Production":
            champion[version.name] = version.version
    return [
        {"name": name, "versions": n_versions[name], "newest": newest.get(name), "production": champion.get(name)}
        for name in census.models
    ]


def _chart(by_month: dict[str, int]) -> dict[str, Any] | None:
    """Bytes held, month by month; None where one month is all there is."""
    if len(by_month) < 2:
        return None
    begins = [datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp() for month in by_month]
    megabytes = [round(total / 1e6, 1) for total in accumulate(by_month.values())]
    return {"x": begins, "series": [{"label": "MB held", "values": megabytes, "fill": True}]}
