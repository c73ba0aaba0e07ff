"""Two versions of one model beside each other; the paired test runs on a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Form
from starlette.responses import Response

from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.responses import NotValid
from mlops.domain.records import Kind, RunView
from mlops.domain.run_states import ACTIVE
from mlops.domain.training.metric_names import COUNTS
from tasks import dispatch

if TYPE_CHECKING:
    from mlops.ledger.queries.models import TrainedLine

# ---- Two versions beside each other as rows: metrics, parameters, importance; pure

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "max_drawdown"})
_FIRST_METRICS = ("accuracy", "f1_score", "roc_auc", "precision", "recall", "log_loss", "holdout_majority_accuracy")
"""Shown first; the others by name."""
_DIRECTED = LOWER_IS_BETTER | {
    "accuracy",
    "f1_score",
    "roc_auc",
    "precision",
    "recall",
    "lift_over_majority",
    "sharpe_ratio",
    "win_rate",
}
"""Metrics of which more, or less, is better whatever the strategy."""
MOST_FEATURES = 25


@dataclass(frozen=True, kw_only=True)
class NumberRow:
    """A number of both."""

    name: str
    first: float | None
    second: float | None
    better: str = ""
    """`first`, `second`, or empty where they are equal, or one lacks it, or no direction is better."""

    digits: int = 4

    @property
    def difference(self) -> float | None:
        """Of the second from the first."""
        return None if self.first is None or self.second is None else self.second - self.first


@dataclass(frozen=True, kw_only=True)
class ParamRow:
    """A parameter of both, as it was logged."""

    name: str
    first: str | None
    second: str | None


def metric_rows(first: Mapping[str, float], second: Mapping[str, float]) -> list[NumberRow]:
    """All metrics that either has."""
    names = sorted(first.keys() | second.keys(), key=_place)
    return [
        NumberRow(
            name=name,
            first=first.get(name),
            second=second.get(name),
            better=_better(name, first.get(name), second.get(name)),
            digits=0 if name in COUNTS else 4,
        )
        for name in names
    ]


def param_rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[ParamRow], list[ParamRow]]:
    """Those that differ, and those that are equal."""
    rows = [
        ParamRow(name=name, first=_text(first.get(name)), second=_text(second.get(name)))
        for name in sorted(first.keys() | second.keys())
    ]
    return [row for row in rows if row.first != row.second], [row for row in rows if row.first == row.second]


def importance_rows(first: Mapping[str, float], second: Mapping[str, float]) -> list[NumberRow]:
    """The features that matter most to either, by the larger of the two shares."""
    names = sorted(
        first.keys() | second.keys(), key=lambda name: (-max(first.get(name, 0.0), second.get(name, 0.0)), name)
    )
    return [NumberRow(name=name, first=first.get(name), second=second.get(name)) for name in names[:MOST_FEATURES]]


def _place(name: str) -> tuple[int, str]:
    """The usual ones first, counts last."""
    if name in _FIRST_METRICS:
        return _FIRST_METRICS.index(name), name
    return len(_FIRST_METRICS) + (name in COUNTS), name


def _better(name: str, first: float | None, second: float | None) -> str:
    if first is None or second is None or first == second or name not in _DIRECTED:
        return ""
    is_second = second < first if name in LOWER_IS_BETTER else second > first
    return "second" if is_second else "first"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


pages = Pages()


@pages.get("/registry/models/{strategy}/compare", action="model.compare.read")
def compare(context: Context, strategy: str, first: str = "", second: str = "") -> Response:
    """Metrics as the ledger has them, and all else from the newest run that compared the two. Raises NotValid.

    Without versions, the newest one beside the champion.
    """
    _ = context.services.strategies[strategy]
    first, second = (first, second) if first and second else _usual(context, strategy)
    if first == second:
        raise NotValid(f"version {first} would be compared with itself; choose two versions")
    trained = context.ledger.trained(strategy, [first, second])
    run_id = context.ledger.newest_run(strategy, Kind.COMPARE, {"first": first, "second": second})
    run = context.ledger.run(run_id) if run_id else None
    result = _result(run)
    sides = {
        "first": result.get("first") or _side(trained.get(first)),
        "second": result.get("second") or _side(trained.get(second)),
    }
    different, equal = param_rows(sides["first"].get("params", {}), sides["second"].get("params", {}))
    return context.show(
        "comparison.html",
        title=f"{strategy}: version {second} beside version {first}",
        strategy=strategy,
        first=first,
        second=second,
        trained={"first": trained.get(first), "second": trained.get(second)},
        run=run,
        is_active=run is not None and run.state in ACTIVE,
        has_result=bool(result),
        metrics=metric_rows(sides["first"].get("metrics", {}), sides["second"].get("metrics", {})),
        different=different,
        equal=equal,
        importance=importance_rows(sides["first"].get("importance", {}), sides["second"].get("importance", {})),
        test=result.get("test"),
        elsewhere=None if result else _tested_elsewhere(context, strategy, first, second),
        words=result.get("words", ""),
        findings=result.get("findings", []),
        error=_error(run),
    )


@pages.post("/registry/models/{strategy}/compare", action="model.compare")
def start(
    context: Context,
    strategy: str,
    first: Annotated[str, Form(max_length=63)],
    second: Annotated[str, Form(max_length=63)],
) -> Response:
    """A run on a worker tests the second against the first; nothing is decided."""
    context.note(first=first, second=second)
    to = f"/admin/registry/models/{quote(strategy)}/compare?{urlencode({'first': first, 'second': second})}"
    run_id = context.ledger.newest_run(strategy, Kind.COMPARE, {"first": first, "second": second})
    if run_id is not None and context.ledger.run(run_id).state in ACTIVE:
        return context.done("A worker compares the two already.", to=to, run_id=run_id, created=False)
    accepted = dispatch.start_comparison(strategy, first, second, requested_by=context.person.actor)
    return context.done("A worker compares the two now.", to=to, run_id=accepted.run_id, created=accepted.created)


def _usual(context: RequestContext, strategy: str) -> tuple[str, str]:
    versions = [line.version for line in context.ledger.version_lines(strategy, limit=2)]
    champion = context.ledger.champion(strategy).version or (versions[-1] if versions else "")
    newest = next((version for version in versions if version != champion), "")
    if not champion or not newest:
        raise NotValid(f"{strategy} has no two versions to compare; train another")
    return champion, newest


def _tested_elsewhere(context: RequestContext, strategy: str, first: str, second: str) -> dict[str, Any] | None:
    """The two in a comparison the other way round, or when one was judged against the other, the newer of both."""
    found = []
    mirrored = context.ledger.newest_run(strategy, Kind.COMPARE, {"first": second, "second": first})
    run = context.ledger.run(mirrored) if mirrored else None
    if run is not None and run.finished_at is not None and (result := _result(run)):
        told = {"words": result["words"], "test": result.get("test"), "first": second, "second": first}
        found.append({**told, "how": "compared", "run_id": run.run_id, "at": run.finished_at})
    judged = context.ledger.newest_tested(strategy, first, second)
    decision = context.ledger.promotion_of(judged) if judged else None
    if decision is not None:
        champion = decision.evidence["champion"]["version"]
        told = {"words": "", "test": decision.evidence["test"], "first": champion, "second": decision.version}
        found.append({**told, "how": "judged", "run_id": decision.run_id, "at": decision.created_at})
    return max(found, key=lambda one: one["at"], default=None)


def _result(run: RunView | None) -> dict[str, Any]:
    return next((stage.result for stage in run.stages if stage.result), {}) if run else {}


def _side(trained: TrainedLine | None) -> dict[str, Any]:
    """As much as the ledger knows of a version that was not compared yet."""
    return {"metrics": dict(trained.metrics)} if trained else {}


def _error(run: RunView | None) -> str:
    if run is None or run.state in ACTIVE:
        return ""
    return next((stage.error for stage in run.stages if stage.error), "") or ""
