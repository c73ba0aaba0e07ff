"""A stored report as one self-contained HTML page; pure: a document in, a text out.

Nothing is fetched: style and script are inline, pictures are SVG, and the page's own policy forbids the rest.
It can be read without the script, which only sorts and filters the table. A report of an earlier version is
rendered with what it has. Called by the drift stage, `acis check --html`, `acis report` and the registry's
projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mlops.reporting.page import words
from mlops.reporting.page.completion import completed
from mlops.reporting.page.decision import alternatives, sentence
from mlops.reporting.page.extras import other_parts, outcomes
from mlops.reporting.page.features import feature_views
from mlops.reporting.page.findings import findings
from mlops.reporting.page.history import LEVELS, history
from mlops.reporting.page.standing import standing

#: Features with a picture in sight, and with one behind a click; all others are in the table.
PICTURES, MORE_PICTURES = 12, 36
#: Bands of PSI in reports that do not state theirs: the documented ones.
_BANDS = {"moderate": 0.1, "significant": 0.2}


def render_page(document: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]] = ()) -> str:
    """The page of one check.

    document: a report's JSON      earlier: reports of the same strategy, newest first, for the heat map; of
    these only `windows`, `psi` and `verdict` are read.
    """
    document = completed(document)
    features = feature_views(document)
    data = document.get("data") or {}
    strategy = str(data.get("strategy", "The strategy"))
    return (
        _environment()
        .get_template("report.html")
        .render(
            strategy=strategy,
            sentence=sentence(document, strategy),
            verdict=document["verdict"],
            summary=document["summary"],
            windows=document["windows"],
            document=document,
            checked_at=datetime.fromisoformat(document["timestamp"]),
            bands=data.get("psi_bands") or _BANDS,
            conventions=[data[key] for key in ("ks_convention", "psi_convention") if data.get(key)],
            features=features,
            shown=features[:PICTURES],
            more=features[PICTURES : PICTURES + MORE_PICTURES],
            alternatives=alternatives(document),
            calibration=document.get("calibration") or {},
            standing=standing(document),
            history=history(document, earlier, [view.name for view in features]),
            levels=LEVELS,
            findings=findings(document),
            n_findings=len(document.get("findings") or ()),
            outcomes=outcomes(document),
            parts=other_parts(document),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=words.figure,
        signed=words.signed,
        probability=words.probability,
        percent=words.percent,
        count=words.count,
        day=words.day,
        window=words.window,
    )
    return environment
