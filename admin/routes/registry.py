"""Every model in one table, the history of all decisions, and what MLflow holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Literal

from starlette.responses import Response

from admin import external_links as places
from admin.listing import PAGE_ROWS, at_number, shown, stretch
from admin.model_versions import LATELY
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from mlops.domain.ports import ModelVersion, RegistryCensus
from mlops.ledger.queries.models import ModelKey, ModelLine

pages = Pages()

Show = Literal["", "awaits approval", "newer version", "no champion"]


@dataclass(frozen=True, kw_only=True)
class RegistryLine:
    """A model in the table."""

    strategy: str
    model_name: str
    key: ModelKey
    n_awaiting: int
    n_versions: int | None
    """In MLflow; None: not known."""
    challenger: str | None
    """By MLflow's alias."""
    shown_champion: str | None
    """By MLflow's alias; None: none, or not known."""
    model: ModelLine | None = None
    """The rest; looked up for those that are shown, and for all where the list is sorted or filtered by it."""

    @property
    def has_newer(self) -> bool:
        """Something was trained since the champion was."""
        newest = self.model.newest if self.model else None
        champion = self.model.trained if self.model else None
        return newest is not None and (champion is None or newest.trained_at > champion.trained_at)

    @property
    def is_shown_otherwise(self) -> bool:
        """MLflow shows another champion than the ledger decided."""
        return self.n_versions is not None and self.shown_champion != self.key.version

    def is_behind(self, now: datetime) -> bool:
        """MLflow will show the champion in a moment: it was decided just now."""
        changed_at = self.key.changed_at
        return self.is_shown_otherwise and changed_at is not None and now - changed_at < LATELY

    def metric(self, name: str) -> float | None:
        """Of the champion, on its own held-out dates."""
        return self.model.trained.metrics.get(name) if self.model and self.model.trained else None


SORTS: Mapping[str, Callable[[RegistryLine], Any]] = {
    "strategy": lambda line: line.strategy,
    "age": lambda line: line.key.as_of,
    "accuracy": lambda line: line.metric("accuracy"),
    "f1": lambda line: line.metric("f1_score"),
    "auc": lambda line: line.metric("roc_auc"),
    "newest": lambda line: line.key.trained_at,
    "decided": lambda line: line.key.decision_id,
}
SHOWS: Mapping[str, Callable[[RegistryLine], bool]] = {
    "": lambda _: True,
    "awaits approval": lambda line: line.n_awaiting > 0,
    "newer version": lambda line: line.has_newer,
    "no champion": lambda line: line.key.version is None,
}
_NEED_ALL = frozenset({"accuracy", "f1", "auc", "newer version"})
"""Sorts and filters for which every model is looked up whole."""


@pages.get("/registry", action="registry.read")
def registry(context: Context, q: str = "", sort: str = "", page: int = 1, show: Show = "", tag: str = "") -> Response:
    """From the ledger alone; what MLflow shows is as it was at the last look, and never waited for."""
    awaiting = context.ledger.awaiting()
    waiting = {name: sum(one.strategy == name for one in awaiting) for name in {one.strategy for one in awaiting}}
    lines = _lines(context, waiting)
    if _NEED_ALL & {sort.removeprefix("-"), show}:
        lines = _whole(context, lines)
    listed = shown(
        (line for line in lines if SHOWS[show](line) and context.has_tag(line.strategy, tag)),
        q=q,
        sort=sort,
        page=page,
        text=lambda line: f"{context.found_by(line.strategy)} {line.model_name}",
        sorts=SORTS,
    )
    seen = context.registry_view.get()
    is_behind = any(line.is_behind(context.now) for line in listed.rows)
    if is_behind:
        context.registry_view.hurry()
    return context.show(
        "registry.html",
        title="Model registry",
        list=replace(listed, rows=tuple(_whole(context, listed.rows))),
        show=show,
        tag=tag,
        shows=[name for name in SHOWS if name],
        awaiting=awaiting,
        is_behind=is_behind,
        mlflow_error=seen.error,
        mlflow_at=seen.census_at,
    )


@pages.get("/registry/history", action="registry.history")
def history(context: Context, q: str = "", before: str = "") -> Response:
    """Decisions of all strategies, or of one, newest first. q : a strategy's name"""
    name = q.strip()
    found = context.ledger.decisions(strategy=name, before=at_number(before), limit=PAGE_ROWS + 1)
    return context.show(
        "history.html",
        title="Promotion history",
        list=stretch(found, lambda one: str(one.id)),
        q=name,
    )


def _lines(context: RequestContext, waiting: Mapping[str, int]) -> list[RegistryLine]:
    names = list(context.services.strategies)
    keys = context.ledger.model_keys(names)
    census = context.registry_view.get().census
    by_model: dict[str, list[ModelVersion]] = {}
    for version in census.versions if census else ():
        by_model.setdefault(version.name, []).append(version)
    lines = []
    for name in names:
        model_name = context.services.strategies[name].model_name
        versions = by_model.get(model_name, [])
        lines.append(
            RegistryLine(
                strategy=name,
                model_name=model_name,
                key=keys[name],
                n_awaiting=waiting.get(name, 0),
                n_versions=len(versions) if census else None,
                challenger=_with_alias(versions, "challenger"),
                shown_champion=_with_alias(versions, "champion"),
            )
        )
    return lines


def _whole(context: RequestContext, lines: Sequence[RegistryLine]) -> list[RegistryLine]:
    """Each with the rest."""
    models = context.ledger.model_lines([line.strategy for line in lines if line.model is None])
    return [replace(line, model=models.get(line.strategy, line.model)) for line in lines]


def _with_alias(versions: list[ModelVersion], alias: str) -> str | None:
    return next((one.version for one in versions if alias in one.aliases), None)


# ---- MLflow from outside: where it is, whether it answers, what it holds, and how that grows


@pages.get("/mlflow", action="mlflow.read")
def mlflow(context: Context, q: str = "", sort: str = "", page: int = 1) -> Response:
    """The last look; never waits for MLflow."""
    seen = context.registry_view.get()
    by_month = context.ledger.bytes_by_month()
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
    return context.show(
        "mlflow.html",
        title="MLflow status",
        home=places.mlflow_home(context.services.settings),
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
