"""Experiments on the page and over HTTP: the list, one strategy's, its form and preview, and what an operator does."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from mlops.domain.errors import ExperimentRunning
from mlops.domain.experiments.decision import Action, Mode
from mlops.domain.experiments.duration import expected_duration
from mlops.domain.experiments.records import Experiment
from mlops.runs import experiments
from mlops.runs.experiments import ExperimentOptions, Preview
from tests.integration.live.test_experiment import (
    N_DAYS,
    STARTED,
    days_after,
    predict_days,
    registered,
    scored,
    with_two,
)
from tests.support.admin import JSON, Browser
from tests.support.experiments import begun, looked_at, plan
from tests.support.model_pages import champion, row, trained, words
from tests.support.services import FakeServices

LIST, PAGE = "/admin/experiments", "/admin/experiments/growth"
FIRST = date(2026, 2, 2)


@pytest.fixture
def with_champion(services: FakeServices) -> FakeServices:
    """Version 3 is the champion, and version 7 could be tried."""
    trained(services, "7")
    champion(services, "3", as_of=FIRST)
    return services


@pytest.fixture
def running(with_champion: FakeServices) -> Experiment:
    """A canary that was looked at on 24 days and is on its third step."""
    made = begun(with_champion)
    looked_at(with_champion, made, 24)
    return with_champion.ledger.experiment(made.id)


def said(_: FakeServices, strategy: str, version: str, options: ExperimentOptions | None = None) -> Preview:
    """What would be said before it starts."""
    duration = expected_duration(np.array([]), sharpe=0.5, alpha=0.05)
    return Preview(
        strategy=strategy,
        champion_version="3",
        challenger_version=version,
        plan=plan(mode=(options or ExperimentOptions()).mode),
        duration=duration,
        n_differences=0,
        origin="held-out dates",
        words=(duration.words, "Looking every day is safe."),
    )


# ---- the list, and where there is nothing


def test_where_there_is_none_the_page_says_what_one_is_and_how_one_begins(viewer: Browser) -> None:
    page = words(viewer.get(LIST).text)
    assert "No experiment has been started yet" in page
    for mode in ("Shadow", "A/B", "Canary"):
        assert mode in page
    assert "acis experiment start NAME VERSION" in page
    assert f'href="{PAGE}#start"' in viewer.get(LIST).text


def test_a_strategy_without_a_champion_says_what_to_do_first(operator: Browser) -> None:
    assert "growth has no champion to compare with" in words(operator.get(PAGE).text)
    assert operator.get("/admin/experiments/nonesuch").status_code == 404


def test_a_row_says_how_far_it_is_and_since_when(running: Experiment, viewer: Browser) -> None:
    found = row(viewer.get(LIST).text, "growth")
    for part in ("v7", "beside v3", "running", "canary at 25 %, step 3 of 4", "24", "bp to"):
        assert part in found
    assert viewer.json(LIST)["totals"]["running"] == 1
    assert viewer.json(f"{LIST}?show=undecided")["list"]["n_found"] == 0


def test_the_overview_and_the_story_lead_to_a_running_one(running: Experiment, viewer: Browser) -> None:
    for page in ("/admin/", "/admin/strategies/growth"):
        text = viewer.get(page).text
        assert f'href="{PAGE}"' in text, page
        assert "v7" in words(text)


# ---- one strategy


def test_the_page_has_the_interval_the_guardrails_the_end_and_what_follows(
    running: Experiment, viewer: Browser
) -> None:
    text = viewer.get(PAGE).text
    page = words(text)
    assert 'class="interval"' in text
    assert "error rate" in page
    assert "latency ratio 1.31 3 920 holds" in page
    assert "of 200 too few answers" in page
    assert "about 2026-06-10 (2026-04-14 to 2026-09-24)" in page
    assert "the next step is 100 %" in page
    assert "experiment.start" not in page
    assert "anna start" in page
    assert 'formaction="' not in text  # a viewer sees no buttons


def test_it_is_safe_json_for_a_program(running: Experiment, viewer: Browser) -> None:
    found = viewer.json(PAGE)
    assert found["experiment"]["id"] == running.id
    assert found["experiment"]["plan"]["mode"] == "canary"
    assert [look["n_days"] for look in found["looks"]] == list(range(1, 25))
    assert found["expected"]["median"] == "2026-06-10"
    assert found["looks"][0]["low"] is None


def test_one_that_has_ended_says_how_and_another_can_be_started(with_champion: FakeServices, operator: Browser) -> None:
    made = begun(with_champion, steps=(0.0,), mode=Mode.SHADOW)
    looked_at(with_champion, made, 12, end=Action.UNDECIDED)
    page = operator.get(PAGE).text
    assert "ended undecided, the champion stays" in words(page)
    assert "Start an experiment" in page
    again = begun(with_champion)
    assert f'href="{PAGE}?id={made.id}"' in operator.get(PAGE).text
    assert operator.json(f"{PAGE}?id={made.id}")["experiment"]["id"] == made.id
    assert operator.json(PAGE)["experiment"]["id"] == again.id
    assert operator.get(f"{PAGE}?id=999").status_code == 404


@pytest.mark.parametrize("key", ["AAPL", "MSFT", "<b>"])
def test_a_key_is_told_which_version_answers_it_and_why(running: Experiment, viewer: Browser, key: str) -> None:
    (found,) = viewer.json(f"{PAGE}/route?keys={key}")["routed"]
    is_challengers = running.assignment.is_challengers(key)
    assert (found["version"], found["variant"]) == (("7", "challenger") if is_challengers else ("3", "champion"))
    assert found["reason"] == running.assignment.reason(key)
    text = viewer.get(f"{PAGE}/route?keys={key}").text
    assert "<b>:" not in text
    assert "share of 0.25" in words(text)


def test_without_an_experiment_the_champion_answers_every_key(with_champion: FakeServices, viewer: Browser) -> None:
    (found,) = viewer.json(f"{PAGE}/route?keys=AAPL")["routed"]
    assert (found["version"], found["variant"], found["position"]) == ("3", "champion", None)
    assert viewer.get(f"{PAGE}/route?keys={'+'.join(map(str, range(60)))}").status_code == 422


# ---- before it starts


def test_before_it_starts_it_is_said_how_long_it_takes(
    with_champion: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "preview", said)
    text = operator.get(f"{PAGE}/preview?version=7&mode=canary&steps=2+%25,+50%25&keys=AAPL").text
    page = words(text)
    assert "use the held-out test instead" in page
    assert "Looking every day is safe." in page
    assert '<input type="hidden" name="steps" value="2 %, 50%">' in text
    assert "Start it" in page
    assert operator.json(f"{PAGE}/preview?version=7")["begin"]["preview"]["duration"]["median"] is None


@pytest.mark.parametrize(
    ("typed", "fault"),
    [
        ("version=7&mode=canary&steps=5", "5% or a share of 1 at most"),
        ("version=7&deadline_days=soon", "deadline_days"),
        ("version=7&mode=all", "mode"),
        ("version=7&alpha=0.9", "alpha"),
        ("version=&keys=AAPL", "Choose the version that is tried."),
    ],
)
def test_what_does_not_fit_is_said_beside_the_form_with_what_was_typed(
    with_champion: FakeServices, operator: Browser, typed: str, fault: str
) -> None:
    text = operator.get(f"{PAGE}/preview?{typed}").text
    assert fault.lower() in words(text).lower()
    name, _, value = typed.rpartition("&")[2].partition("=")
    assert f'name="{name}" value="{value}"' in text or name == "mode"


# ---- what an operator does


def test_a_start_is_the_operators_with_reason_and_audit(
    with_champion: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(services: FakeServices, strategy: str, version: str, options: Any, *, by: str, reason: str) -> Experiment:
        assert (by, reason, options.keys, options.mode) == ("anna", "earnings", ("AAPL", "MSFT"), Mode.AB)
        return begun(services, version, strategy, mode=options.mode, steps=(options.share,))

    monkeypatch.setattr(experiments, "start", start)
    answer = operator.post(
        f"{PAGE}/start", version="7", mode="ab", share="50 %", keys="AAPL, MSFT", reason="earnings", follow=True
    )
    assert "The experiment has begun: v7 beside v3." in words(answer.text)
    assert "A/B: the challenger answers 50 % of the keys" in words(answer.text)
    lines = {line.subject: line for line in with_champion.ledger.audit_lines(action="experiment.start")}
    (subject,) = set(lines) - {"growth"}
    assert (subject.partition("/")[0], lines[subject].address) == ("growth", "testclient")
    assert lines[subject].detail["reason"] == "earnings"


def test_a_refused_start_keeps_what_was_typed_and_is_audited_as_refused(
    with_champion: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: Any, **__: Any) -> Experiment:
        raise ExperimentRunning("growth has experiment 4, with version 5; abort it")

    monkeypatch.setattr(experiments, "start", start)
    answer = operator.post(f"{PAGE}/start", version="7", mode="ab", share="50 %", reason="it knows earnings")
    assert answer.status_code == 409
    assert "with version 5; abort it" in words(answer.text)
    assert 'name="reason" value="it knows earnings"' in answer.text
    assert 'name="share" value="50 %"' in answer.text
    refused = with_champion.ledger.audit_lines(action="experiment.start")[0]
    assert "with version 5" in refused.detail["refused"]
    missing = operator.post(f"{PAGE}/start", version="7", mode="shadow")
    assert (missing.status_code, "needs a reason" in missing.text) == (422, True)


@pytest.mark.parametrize(
    ("act", "shown"),
    [
        ("advance", "canary at 100 %, step 4 of 4"),
        ("hold", "canary at 25 %, step 3 of 4, held"),
        ("abort", "ended early"),
    ],
)
def test_an_operator_steers_it_with_a_reason(
    with_champion: FakeServices, running: Experiment, operator: Browser, act: str, shown: str
) -> None:
    address = f"{PAGE}/{running.id}/{act}"
    assert operator.post(address, reason=" ").status_code == 422
    page = words(operator.post(address, reason="a feed is late", follow=True).text)
    assert shown in page
    assert "a feed is late" in page
    (line,) = with_champion.ledger.audit_lines(action="experiment.steer", limit=1)
    assert (line.subject, line.detail["act"], line.address) == (f"growth/{running.id}", act, "testclient")


def test_the_same_advance_again_changes_nothing_and_of_another_strategy_nothing_is_found(
    running: Experiment, operator: Browser
) -> None:
    def share() -> float:
        answer = operator.client.post(
            f"{PAGE}/{running.id}/advance",
            data={"csrf": operator.csrf, "reason": "all is well", "from_step": "2"},
            headers=JSON,
        )
        return float(answer.json()["experiment"]["plan"]["steps"][answer.json()["experiment"]["step"]])

    assert (share(), share()) == (1.0, 1.0)
    elsewhere = operator.post(f"/admin/experiments/value/{running.id}/abort", reason="a mistake")
    assert elsewhere.status_code == 404


def test_a_program_acts_with_an_operators_token_and_is_told_in_words_what_it_may_not(
    with_champion: FakeServices, running: Experiment, nobody: Browser
) -> None:
    def asked(role: str, act: str) -> tuple[int, Any]:
        _, text = with_champion.ledger.add_token(f"{role}-{act}", user="anna", role=role)
        answer = nobody.client.post(
            f"{PAGE}/{running.id}/{act}",
            data={"reason": "by a program"},
            headers={"authorization": f"Bearer {text}"},
        )
        return answer.status_code, answer.json()

    status, told = asked("viewer", "hold")
    assert (status, "viewer" in told["error"]) == (403, True)
    status, told = asked("operator", "hold")
    assert (status, told["experiment"]["held"], told["experiment"]["id"]) == (200, True, running.id)
    status, told = asked("operator", "abort")
    assert (status, told["experiment"]["end"]) == (200, "abort")
    status, told = asked("operator", "release")
    assert (status, "ended as abort: by a program" in told["error"]) == (409, True)


# ---- from the form to the end, with models that predict


def test_one_is_started_on_the_page_and_its_end_is_seen_there(services: FakeServices, operator: Browser) -> None:
    with_two(services, champion=-1, challenger=1)
    said_before = words(operator.get(f"{PAGE}/preview?version=2&mode=canary&steps=10%25,+100%25").text)
    assert "trading days for a difference with an annual Sharpe ratio of 3.5" in said_before
    answer = operator.post(
        f"{PAGE}/start", version="2", mode="canary", steps="10%, 100%", reason="it goes with the market", follow=True
    )
    assert "The experiment has begun: v2 beside v1." in words(answer.text)
    again = operator.post(f"{PAGE}/start", version="2", reason="once more")
    assert (again.status_code, "let it end, or abort it" in words(again.text)) == (409, True)
    days = days_after(STARTED, N_DAYS)
    predict_days(services, days)
    for day in days:
        if scored(services, day).result["experiment"]["end"]:
            break
    page = words(operator.get(PAGE).text)
    assert "ended: the challenger was shown better" in page
    assert services.ledger.champion("growth").version == "2"
    assert operator.json(PAGE)["picture"]["ended"] is not None


def test_a_version_that_was_never_judged_is_refused_with_what_to_do(services: FakeServices, operator: Browser) -> None:
    with_two(services, champion=-1, challenger=1)
    registered(services, "made-3", sign=1, rounds=7)
    answer = operator.client.post(
        f"{PAGE}/start", data={"csrf": operator.csrf, "version": "3", "reason": "as it is"}, headers=JSON
    )
    assert (answer.status_code, "acis promote growth --version 3" in answer.json()["error"]) == (409, True)
    missing = operator.client.get(f"{PAGE}/preview?version=99", headers=JSON)
    assert missing.status_code == 404
