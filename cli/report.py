"""`acis report`: a stored drift report again, as a page, as JSON, or in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import AsJson, RunId, command

if TYPE_CHECKING:
    from mlops.domain.records import StoredReport

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
        out.print("\n".join(_lines(ledger.stored_report(whole_id))), markup=False)
    return 0


def _lines(stored: StoredReport) -> list[str]:
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
