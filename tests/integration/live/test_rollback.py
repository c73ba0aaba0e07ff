"""A champion that is shown worse than the one before it: rolled back once, asked about, or held by a hook."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.domain.ports import ModelVersion
from mlops.domain.promotion.evidence import replay
from mlops.domain.promotion.explanation import explanation
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.records import Grant, Kind, Stage, StageOutcome
from mlops.ledger.live.predictions import prediction_schema
from mlops.runs.request import run_request
from mlops.runs.switching import SwitchAnswer
from mlops.stages.live import rollback
from mlops.stages.live.score import score_predictions
from tests.support.ledgers import LEASE_S, decision_for, promoting
from tests.support.live import LIVE, TRAINED_AS_OF, predicted, promoted, with_return_column
from tests.support.processes import kill_at
from tests.support.services import FIRST, LAST, N_DATES, TICKERS, FakeServices, panel

AUTOMATIC = ExperimentPolicy(watched_former=1, rollback="automatic")


def said(services: FakeServices, version: ModelVersion, variant: str, *, knows: bool, until: date = LAST) -> None:
    """What a version says of all names since the promotion: what the next date brings, or its contrary."""
    returns = with_return_column(panel()).column("return_1d").to_numpy().reshape(N_DATES, TICKERS)
    first = (TRAINED_AS_OF - FIRST).days + 1
    up = np.vstack([returns[first + 1 :], returns[:1]])[: (until - TRAINED_AS_OF).days] > 0
    n = up.size
    of_days = [date.fromordinal(TRAINED_AS_OF.toordinal() + 1 + day) for day in range(len(up))]
    columns: dict[str, Any] = {
        "strategy": ["growth"] * n,
        "version": [version.version] * n,
        "model_sha256": [version.identity.sha256] * n,
        "variant": [variant] * n,
        "ticker": [f"T{number}" for _ in of_days for number in range(TICKERS)],
        "as_of": [day for day in of_days for _ in range(TICKERS)],
        "predicted_at": [services.ledger.now()] * n,
        "probability": np.where(up == knows, 0.6, 0.4).ravel(),
        "row_digest": [bytes(16)] * n,
    }
    schema = prediction_schema()
    table = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    assert services.ledger.write_predictions(f"{version.version}/{variant}", "run", table)


@pytest.fixture
def worse(services: FakeServices) -> tuple[FakeServices, ModelVersion, ModelVersion]:
    """Version 2 took the place of version 1, and has been wrong where that was right ever since."""
    services.with_policy(live=LIVE, experiments=AUTOMATIC)
    services.with_source(with_return_column(panel()))
    one, two = promoted(services, "made-1"), promoted(services, "made-2", rounds=9)
    said(services, two, "champion", knows=False)
    said(services, one, "former", knows=True)
    return services, one, two


def scored(services: FakeServices) -> tuple[Grant, StageOutcome]:
    grant = services.granted(Kind.SCORE, Stage.SCORE)
    outcome = score_predictions(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant, outcome


def report_of(services: FakeServices) -> dict[str, Any]:
    report = services.ledger.live_report("growth")
    assert report is not None
    return dict(report.document["rollback"])


def test_it_is_rolled_back_once_however_often_its_run_is_tried(
    worse: tuple[FakeServices, ModelVersion, ModelVersion],
) -> None:
    services, one, two = worse
    before = services.ledger.champion("growth")
    grant = services.granted(Kind.SCORE, Stage.SCORE)
    first = score_predictions(grant, services, services.keeper(grant))
    again = score_predictions(grant, services, services.keeper(grant))
    assert first.result["words"][-1] == again.result["words"][-1]
    services.ledger.finish(grant, again)
    champion = services.ledger.champion("growth")
    assert (champion.version, champion.identity, champion.seq) == (one.version, one.identity, before.seq + 1)
    assert champion.as_of == before.as_of
    (made,) = [item for item in services.ledger.promotions("growth") if item.decision == "rollback"]
    assert (made.run_id, made.previous_version, made.version) == (grant.run_id, two.version, one.version)
    assert made.evidence["bounds"][0]["low"] > 0
    assert made.evidence["switch"]["allowed"]
    found = replay(made.evidence, made.evidence_digest)
    assert found is not None
    assert found.agrees
    told = "\n".join(explanation(made, found))
    assert "version 1 was brought back by a rollback" in told
    assert "Former champions beside champion 2" in told
    assert "byte for byte" in told
    assert report_of(services)["action"] == "rollback"
    assert any("Version 1 is the champion again" in words for words in again.result["words"])


def test_after_a_rollback_a_person_is_asked_until_the_cooldown_is_over(
    worse: tuple[FakeServices, ModelVersion, ModelVersion],
) -> None:
    services, one, two = worse
    scored(services)
    assert services.ledger.champion("growth").version == one.version
    # The other way round since: what was left is shown better now.
    said(services, one, "champion", knows=False)
    said(services, two, "former", knows=True)
    _, outcome = scored(services)
    assert services.ledger.champion("growth").version == one.version
    found = report_of(services)
    assert (found["action"], found["to"]) == ("ask", two.version)
    assert "the last automatic rollback was 0 trading days ago, of 20" in found["words"]
    assert any("`acis rollback growth --to 2" in words for words in outcome.result["words"])


def test_a_policy_that_asks_changes_nothing_and_names_the_command(
    worse: tuple[FakeServices, ModelVersion, ModelVersion],
) -> None:
    services, _, two = worse
    services.with_policy(experiments=ExperimentPolicy(watched_former=1))
    scored(services)
    assert services.ledger.champion("growth").version == two.version
    found = report_of(services)
    assert found["action"] == "ask"
    assert "`acis rollback growth --to 1" in found["words"]
    assert services.ledger.asked_rollbacks(["growth", "value"]) == {"growth": found["words"]}
    promoted(services, "made-3", rounds=3)  # what was asked is answered by another champion
    assert services.ledger.asked_rollbacks(["growth"]) == {}


def test_a_version_whose_file_is_another_never_comes_back(
    worse: tuple[FakeServices, ModelVersion, ModelVersion],
) -> None:
    services, one, two = worse
    services.fake_registry.files[one.name, one.version] += b" "
    scored(services)
    assert services.ledger.champion("growth").version == two.version
    found = report_of(services)
    assert (found["action"], found["to"]) == ("ask", None)
    assert "was changed after it was logged" in found["words"]


def test_a_hook_that_says_no_is_asked_again_at_the_next_scoring(
    worse: tuple[FakeServices, ModelVersion, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, one, two = worse
    answers = [
        SwitchAnswer(allowed=False, words="the hook says no: positions are open", hook="h", was_answered=True),
        SwitchAnswer(allowed=True, words="the hook says yes", hook="h", was_answered=True),
    ]
    monkeypatch.setattr(rollback, "may_switch", lambda *_, **__: answers.pop(0))
    scored(services)
    assert services.ledger.champion("growth").version == two.version
    assert "positions are open" in report_of(services)["words"]
    scored(services)
    assert services.ledger.champion("growth").version == one.version
    (made,) = [item for item in services.ledger.promotions("growth") if item.decision == "rollback"]
    assert made.evidence["switch"] == {"allowed": True, "words": "the hook says yes", "hook": "h", "was_answered": True}


def test_where_nobody_is_watched_nothing_is_compared(worse: tuple[FakeServices, ModelVersion, ModelVersion]) -> None:
    services, _, two = worse
    services.with_policy(experiments=ExperimentPolicy(rollback="automatic"))
    scored(services)
    assert report_of(services) == {}
    assert services.ledger.champion("growth").version == two.version


def test_what_was_compared_before_the_read_predictions_is_kept_with_its_r(
    worse: tuple[FakeServices, ModelVersion, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, _, _ = worse
    services.with_policy(experiments=ExperimentPolicy(watched_former=1))
    scored(services)
    before = report_of(services)["former"][0]
    monkeypatch.setattr("mlops.stages.live.score.SCORED_DAYS", 10)
    scored(services)
    after = report_of(services)["former"][0]
    assert len(before["differences"]) == AUTOMATIC.watch_days
    assert (after["r"], after["differences"]) == (before["r"], before["differences"])


def test_what_fixes_the_sequence_is_not_taken_from_a_scoring_that_compared_nothing(services: FakeServices) -> None:
    """The first one after a promotion has no pairs; one whose policy watched fewer has none of the others."""
    asks = replace(AUTOMATIC, rollback="ask")
    services.with_policy(live=LIVE, experiments=asks)
    services.with_source(with_return_column(panel()))
    one, two = promoted(services, "made-1"), promoted(services, "made-2", rounds=9)
    three = promoted(services, "made-3", rounds=3)
    said(services, three, "champion", knows=False)
    scored(services)
    found = report_of(services)
    assert (found["why_not"], [former["r"] for former in found["former"]]) == (
        "no date was predicted by the champion and a former one yet",
        [None, None],
    )
    said(services, two, "former", knows=True)
    said(services, one, "former", knows=True)
    scored(services)
    found = report_of(services)
    assert found["bounds"][0]["low"] > 0
    fixed = found["former"][0]["r"]
    assert (found["former"][1]["r"], fixed < 1e-3) == (None, True)  # of marks of a few thousandths a day
    services.with_policy(experiments=replace(asks, watched_former=2))
    scored(services)
    found = report_of(services)
    assert (found["former"][0]["r"], found["former"][1]["r"] < 1e-3) == (fixed, True)
    assert [one["low"] > 0 for one in found["bounds"]] == [True, True]


def test_a_second_try_after_an_experiment_kept_the_champion_keeps_what_was_compared(
    worse: tuple[FakeServices, ModelVersion, ModelVersion],
) -> None:
    services, *_ = worse
    services.with_policy(experiments=replace(AUTOMATIC, rollback="ask"))
    scored(services)
    before = report_of(services)
    grant = services.granted(Kind.SCORE, Stage.SCORE)
    champion = services.ledger.champion("growth")
    kept = decision_for(
        "3",
        decision="keep",
        target_stage="Archived",
        expected_seq=champion.seq,
        identity=ModelIdentity(sha256="c" * 64),
    )
    services.ledger.decide(grant, kept)
    services.ledger.finish(grant, score_predictions(grant, services, services.keeper(grant)))
    assert report_of(services) == before
    promoted(services, "made-3", rounds=3)
    grant = services.granted(Kind.SCORE, Stage.SCORE)
    services.ledger.decide(grant, replace(kept, expected_seq=champion.seq + 1))
    services.ledger.finish(grant, score_predictions(grant, services, services.keeper(grant)))
    assert report_of(services) == {}


@pytest.mark.parametrize(
    ("ago", "names"),
    [(4, ["positive share", "calibration"]), (5, ["calibration"]), (9, ["calibration"]), (10, [])],
)
def test_calls_say_nothing_of_now_once_the_watch_has_ended(services: FakeServices, ago: int, names: list[str]) -> None:
    """A label looks five dates ahead: the last ones are known so much later."""
    services.with_policy(live=LIVE, experiments=replace(AUTOMATIC, rollback="off"))
    services.with_source(with_return_column(panel()))
    one, two = promoted(services, "made-1"), promoted(services, "made-2", rounds=9)
    for version, variant in ((two, "champion"), (one, "former")):
        said(services, version, variant, knows=variant == "former", until=LAST - timedelta(days=ago))
    scored(services)
    (former,) = report_of(services)["former"]
    calls = [given for given in former["guardrails"] if given["name"] not in ("error rate", "latency")]
    assert [given["name"] for given in calls] == names
    # All labels since the promotion, not those of the newest month alone.
    n_known = ((LAST - TRAINED_AS_OF).days - max(ago, 5)) * TICKERS
    assert [given["n"] for given in calls if given["name"] == "calibration"] == [n_known] * ("calibration" in names)


def test_a_number_that_an_earlier_registry_gave_to_another_model_is_not_mistaken_for_it(
    services: FakeServices,
) -> None:
    services.with_policy(live=LIVE, experiments=replace(AUTOMATIC, watched_former=2))
    services.with_source(with_return_column(panel()))

    def decided(version: str, identity: ModelIdentity, decision: str = "promote") -> None:
        seq = services.ledger.champion("growth").seq
        made = decision_for(version, decision=decision, expected_seq=seq, identity=identity, as_of=TRAINED_AS_OF)
        services.ledger.decide(promoting(services.ledger), made)

    old, other = (ModelIdentity(sha256=model * 64, made_by=model) for model in "ab")  # of a registry that is no more
    decided("1", old)
    decided("7", other)
    one = promoted(services, "made-1")
    decided("7", other, "rollback")
    two = promoted(services, "made-2", rounds=9)
    said(services, two, "champion", knows=False)
    said(services, one, "former", knows=True)
    scored(services)
    champion = services.ledger.champion("growth")
    assert (champion.version, champion.identity) == ("1", one.identity)
    found = report_of(services)["former"]
    assert [(former["version"], former["model_sha256"], former["was_left"]) for former in found] == [
        ("7", other.sha256, False),
        ("1", one.identity.sha256, True),
        ("1", old.sha256, False),
    ]


def test_what_the_predict_stage_writes_of_a_former_champion_is_what_it_is_watched_by(services: FakeServices) -> None:
    services.with_policy(live=LIVE, experiments=replace(AUTOMATIC, watch_days=100))
    services.with_source(with_return_column(panel()))
    promoted(services, "made-1")
    promoted(services, "made-2", rounds=9)
    for back in range(7, -1, -1):
        predicted(services, LAST - timedelta(days=back))
    scored(services)
    found = report_of(services)
    assert (found["action"], found["measure"], found["why_not"]) == ("none", "mark", None)
    (former,) = found["former"]
    assert (former["version"], former["is_watched"], len(former["differences"])) == ("1", True, 7)
    assert {one["name"]: one["n"] for one in former["guardrails"]} == {
        "missing features": 8 * TICKERS,
        "positive share": 8 * TICKERS,
        "calibration": 3 * TICKERS,  # a label looks five dates ahead
        "error rate": 0,
        "latency": 0,
    }


WORKER = """
import sys
from pathlib import Path
from config.settings import Settings
from mlops.domain.records import Stage
from mlops.ledger.ledger import open_ledger
from mlops.stages.live.score import score_predictions
from tests.support.ledgers import TimedLedger
from tests.support.live import logged, with_return_column
from tests.support.services import FakeServices, panel, small_strategy

url, run_id, folder = sys.argv[1:]
ledger = open_ledger(url)
timed = TimedLedger(ledger=ledger, owner=ledger.database, advance=lambda _: None, wipe=lambda: None)
table = with_return_column(panel())
services = FakeServices(Settings(var_dir=Path(folder)), timed, {"growth": small_strategy()}, table)
logged(services, "made-1", rounds=5)
logged(services, "made-2", rounds=9)
grant = services.claimed(run_id, Stage.SCORE)
score_predictions(grant, services, services.keeper(grant))
"""


@pytest.mark.parametrize(("place", "version"), [("before_commit", "2"), ("committed", "1")])
def test_a_scoring_that_is_killed_at_its_rollback_leaves_one_or_none_and_the_next_try_one(
    worse: tuple[FakeServices, ModelVersion, ModelVersion],
    ledger_postgres_url: str,
    tmp_path: Path,
    place: str,
    version: str,
) -> None:
    services, one, _ = worse
    asked = run_request(services.strategies, "growth", Kind.SCORE, reason="r", requested_by="test", as_of=LAST)
    accepted = services.ledger.accept(asked)
    kill_at(f"ledger.decide.{place}", WORKER, [ledger_postgres_url, accepted.run_id, str(tmp_path / "var")], tmp_path)
    assert services.ledger.champion("growth").version == version
    services.timed.advance(LEASE_S + 1)
    services.ledger.due_publications()
    grant = services.claimed(accepted.run_id, Stage.SCORE)
    services.ledger.finish(grant, score_predictions(grant, services, services.keeper(grant)))
    assert services.ledger.champion("growth").version == one.version
    assert [item.decision for item in services.ledger.promotions("growth")].count("rollback") == 1
    assert report_of(services)["action"] == "rollback"
