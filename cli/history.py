"""`acis drift-history` and `acis report`: earlier drift checks of a strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import AsJson, RunId, StrategyName, command

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.domain.drift_history import CheckRecord, FeaturePoint
    from mlops.domain.records import StoredReport

# ---- A series as one line of a terminal

_LEVELS = "▁▂▃▄▅▆▇█"
#: Where there is no value.
GAP = "·"


def spark_line(values: Sequence[float | None]) -> str:
    """A character per value, from the lowest to the highest of the series; a gap where there is none.

    >>> spark_line([0.0, 0.5, None, 1.0])
    '▁▅·█'
    >>> spark_line([2.0, 2.0])
    '▁▁'
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return GAP * len(values)
    low, high = min(known), max(known)
    # Halves: the range of two floats can be beyond the largest one.
    span = high / 2 - low / 2
    return "".join(
        GAP
        if value is None or not math.isfinite(value)
        else _LEVELS[0 if span == 0 else round((value / 2 - low / 2) / span * (len(_LEVELS) - 1))]
        for value in values
    )


# ---- `acis report`: a stored drift report again, as a page, as JSON, or in a few lines

#: Features that are named in the short form.
_SHOWN = 10


@command
def report(
    run_id: RunId,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report's page to this file.")] = None,
    json: AsJson = False,
) -> int:
    """Show the drift report of a run as the ledger has it; --html renders its page again."""
    from mlops.reporting.report_files import page_place, save_page
    from mlops.reporting.terminal import err, out, print_json
    from tasks.services import connect

    ledger = connect().ledger
    whole_id = ledger.full_run_id(run_id)
    if html is not None:
        save_page(ledger, whole_id, page_place(html))
        err.print(f"Page written to: {html}", markup=False)
    if json:
        print_json(ledger.stored_report(whole_id).document)
    elif html is None:
        out.print("\n".join(_report_lines(ledger.stored_report(whole_id))), markup=False)
    return 0


def _report_lines(stored: StoredReport) -> list[str]:
    from mlops.reporting.page.features import feature_views
    from mlops.reporting.page.render import completed, sentence
    from mlops.reporting.page.shapes import figure, percent

    features = feature_views(stored.document)
    lines = [sentence(completed(stored.document), stored.strategy), ""]
    lines += [
        f"  {view.name}: PSI {figure(view.psi)}, {view.in_words}, missing {percent(view.missing_reference)} before, "
        f"{percent(view.missing_current)} now"
        for view in features[:_SHOWN]
    ]
    if len(features) > _SHOWN:
        lines.append(f"  and {len(features) - _SHOWN} that moved less")
    return [*lines, "", f"To look at it: acis report {stored.run_id} --html FILE"]


#: Statistics of a trend: heading, field of `FeaturePoint`, format.
_STATISTICS = (
    ("PSI", "psi", ".3f"),
    ("KS D", "ks_statistic", ".3f"),
    ("Wasserstein", "wasserstein", ".3f"),
    ("distance", "distance", ".3f"),
    ("rows missing", "missing_share", ".1%"),
)
_ACROSS = 140
"""A table's width where the terminal is narrower: a cut figure is no figure."""
_POINTS = 100


@command
def drift_history(
    strategy: StrategyName,
    feature: Annotated[str | None, typer.Option(help="The trend of this feature.")] = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="How many checks, newest first.")] = 30,
    namespace: Annotated[str, typer.Option(help="`live`, or that of a backfill.")] = "live",
    json: AsJson = False,
) -> int:
    """Show the drift checks of a strategy, newest first; with --feature its statistics over time."""
    from rich.console import Console

    from mlops.domain.drift_history import check_record, feature_trends
    from mlops.domain.errors import MissingColumn
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    documents = services.ledger.drift_reports(strategy, limit=last, namespace=namespace)
    if not documents:
        # A strategy that was taken out of the file keeps its history.
        services.strategies[strategy]
    records = [check_record(document) for document in documents]
    answer = {"strategy": strategy, "namespace": namespace, "checks": records}
    trend: Sequence[FeaturePoint] = ()
    if feature is not None and documents:
        trends = feature_trends(documents)
        if feature not in trends:
            known = ", ".join(sorted(trends))
            raise MissingColumn(f"feature {feature!r} is in none of the {len(records)} checks; one of: {known}")
        trend = trends[feature]
    if feature is not None:
        answer |= {"feature": feature, "trend": trend}
    if json:
        print_json(answer)
        return 0
    if not records:
        out.print(f"No drift check of {strategy} in namespace {namespace}.", markup=False)
        return 0
    wide = Console(width=max(out.width, _ACROSS), highlight=False)
    if feature is None:
        wide.print(_checks(records))
        wide.print("moved: share of the features that moved by PSI")
        return 0
    wide.print(_points(trend))
    wide.print(f"\n{trend[0].as_of} to {trend[-1].as_of}")
    wide.print(_lines(trend))
    return 0


def _checks(records: Sequence[CheckRecord]) -> Table:
    from mlops.reporting.terminal import short_run_id

    table = _table("as of", "verdict", "rule", "raw", "moved", "p", "statistic", "critical", "run")
    for record in records:
        table.add_row(
            str(record.as_of or ""),
            record.verdict,
            record.rule,
            record.raw_verdict,
            _shown(record.share, ".0%"),
            _shown(record.p_value, ".3g"),
            _shown(record.statistic, ".3f"),
            _shown(record.critical, ".3f"),
            short_run_id(record.run_id or ""),
        )
    return table


def _points(trend: Sequence[FeaturePoint]) -> Table:
    table = _table("as of", "drifted", *(heading for heading, _, _ in _STATISTICS))
    for point in reversed(trend):
        drifted = "" if point.drifted is None else "yes" if point.drifted else "no"
        table.add_row(str(point.as_of), drifted, *(_shown(getattr(point, name), form) for _, name, form in _STATISTICS))
    return table


def _lines(trend: Sequence[FeaturePoint]) -> Table:
    """Each statistic as a line, oldest check on the left."""
    from cli.history import spark_line
    from mlops.domain.drift_history import series

    table = _table("statistic", "least", "most", "line")
    for heading, name, form in _STATISTICS:
        # The newest ones, as many as there is room for.
        values = series(trend[-_POINTS:], name)
        known = [value for value in values if value is not None]
        low, high = (_shown(bound(known, default=None), form) for bound in (min, max))
        table.add_row(heading, low, high, spark_line(values))
    return table


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    words = {"as of", "verdict", "rule", "raw", "run", "drifted", "line"}
    for heading in headings:
        table.add_column(heading, justify="left" if heading in words else "right", no_wrap=True)
    return table


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
