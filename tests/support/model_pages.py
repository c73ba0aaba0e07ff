"""Models in the ledger for the tests of the page, and what is read on it."""

from __future__ import annotations

import re
from datetime import date

from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.stages.promote import promote
from tests.support.ledgers import decision_for, promoting
from tests.support.services import MODEL, FakeServices

PAGE = "/admin/registry/models/growth"
DAY = date(2026, 3, 2)


def trained(services: FakeServices, version: str, roc_auc: float = 0.8, *, as_of: date = DAY, **more: float) -> str:
    """A training that the ledger has; the registry is another matter."""
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, as_of=as_of)
    metrics = {"accuracy": 0.71, "f1_score": 0.62, "roc_auc": roc_auc, **more}
    result = {"version": version, "metrics": metrics, "holdout_start": "2026-01-10", "holdout_end": "2026-02-20"}
    services.ledger.finish(grant, StageOutcome(result=result, run_state=RunState.SUCCEEDED, as_of=as_of))
    services.timed.advance(1)
    return grant.run_id


def champion(services: FakeServices, version: str, *, as_of: date = DAY, decision: str = "promote") -> str:
    """The version is champion by a run, whose id this gives."""
    seq = services.ledger.champion("growth").seq
    grant = promoting(services.ledger)
    decided = decision_for(version, model_name=MODEL, as_of=as_of, expected_seq=seq, decision=decision)
    services.ledger.decide(grant, decided)
    services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    return grant.run_id


def words(html: str) -> str:
    """What is read."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def row(html: str, head: str) -> str:
    """A row by the beginning of its head."""
    found = next(part for part in html.split("<tr>")[1:] if words(part).strip().startswith(head))
    return words(found.partition("</tr>")[0])


def carried_out(services: FakeServices, kind: str) -> StageOutcome:
    """What a worker does with the newest run."""
    run = services.ledger.runs()[0]
    assert run.kind.value == kind
    grant = services.claimed(run.run_id, Stage.PROMOTE)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome
