"""Trainings are started, watched and cancelled on the page; what they made is compared, promoted, approved, rolled back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from mlops.domain.records import RunState
from mlops.domain.run_states import TERMINAL
from tests.acceptance.conftest import Demo
from tests.support.admin import hidden
from tests.support.chromium import Visitor
from tests.support.served_stack import ServedStack, Terminal, wait_for

RUN_MS = 120_000
"""A run of some seconds, beside whatever else the machine does."""
ROUNDS = 4000
"""Some seconds of training on one core, so that it can be watched."""
LOW_GATES = {
    "promotion.comparison": "gates",
    "promotion.floor": "none",
    "promotion.min_accuracy": 0.0,
    "promotion.min_roc_auc": 0.0,
    "promotion.min_lift_over_majority": -1.0,
}
"""Whatever is trained may be promoted: the page is tested, and not the model."""


@contextmanager
def edited(stack: ServedStack, strategy: str, **values: Any) -> Iterator[None]:
    """Another policy for a while."""
    given = {**LOW_GATES, **{name.replace("__", "."): value for name, value in values.items()}}
    policies = stack.services.policies
    policies.edit(strategy, given, actor="test", reason="a test of the page")
    try:
        yield
    finally:
        policies.edit(strategy, dict.fromkeys(given), actor="test", reason="the test is over")


def start(operator: Visitor, button: str, *strategies: str) -> Page:
    """Tick, press, answer the question; to the page of what was started."""
    page = operator.page
    operator.go("/admin/training")
    for strategy in strategies:
        page.get_by_label(f"Train {strategy}").check()
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator("#confirm-more")).to_contain_text(", ".join(strategies))
    operator.sure()
    page.wait_for_url("**/admin/training/started?**")
    return page


def row(page: Page, head: str) -> Locator:
    return page.locator("tr").filter(has=page.get_by_role("rowheader", name=head, exact=True))


def test_a_training_is_started_watched_and_its_version_promoted(stack: ServedStack, operator: Visitor) -> None:
    ledger = stack.services.ledger
    stack.rest()
    params = {**stack.services.strategies["value"].training.params, "n_estimators": ROUNDS}
    with edited(stack, "value", training__params=params):
        operator.go("/admin/training")
        page = operator.page
        page.get_by_label("Train value").check()
        page.get_by_label("Promote where the policy allows").uncheck()
        page.get_by_role("button", name="Train", exact=True).click()
        expect(page.locator("#confirm-more")).to_contain_text("Estimate: about")
        expect(page.locator("#confirm-more")).to_contain_text("go to Staging; nothing is promoted")
        operator.sure()
        page.wait_for_url("**/admin/training/started?**")
        page.evaluate("window.stays = true")
        expect(page.locator("[data-live-words]")).to_contain_text(re.compile(r"\d+ of \d+ rounds"), timeout=RUN_MS)
        expect(page.locator("td[data-label=State]")).to_have_text("succeeded", timeout=RUN_MS)
        assert page.evaluate("window.stays") is True
        run = ledger.runs(strategy="value", kinds=["train"])[0]
        assert (run.state, run.requested_by) == (RunState.SUCCEEDED, "operator")
        version = run.stages[0].result["version"] if run.stages[0].result else ""
        page.get_by_role("link", name=f"v{version}").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("value")
        row(page, f"v{version}").get_by_role("button", name="Promote to Production").click()
        expect(page.locator("#confirm-title")).to_contain_text("It is judged against")
        operator.sure()
        expect(page.get_by_role("status")).to_contain_text(f"Version {version} is judged now")
        expect(row(page, f"v{version}").locator("td[data-label='Stage and alias']")).to_contain_text(
            "champion", timeout=RUN_MS
        )
    assert ledger.champion("value").version == version
    promotion = ledger.promotions("value", limit=1)[0]
    assert (promotion.decision, promotion.actor) == ("promote", "operator")


def test_several_are_started_together_and_all_cancelled(stack: ServedStack, operator: Visitor) -> None:
    stack.rest()
    operator.go("/admin/training")
    operator.page.get_by_label("Trials").fill("200")
    page = operator.page
    for strategy in ("dividend", "momentum"):
        page.get_by_label(f"Train {strategy}").check()
    page.get_by_role("button", name="Tune").click()
    expect(page.locator("#confirm-more")).to_contain_text("Tune in 200 trials: 2 strategies (dividend, momentum)")
    operator.sure()
    page.wait_for_url("**/admin/training/started?**")
    expect(page.get_by_text(re.compile(r"\d+ of \d+ ")).first).to_be_visible(timeout=RUN_MS)
    page.get_by_role("button", name="Cancel all that wait or work").click()
    operator.sure()
    expect(page.get_by_role("status")).to_contain_text("2 runs cancelled, or asked to stop.")
    expect(page.locator("td[data-label=State]")).to_have_text(["cancelled", "cancelled"], timeout=RUN_MS)
    newest = {run.strategy: run for run in stack.services.ledger.runs(limit=2)}
    assert {run.state for run in newest.values()} == {RunState.CANCELLED}
    assert {run.params.get("tune") for run in newest.values()} == {200}


def test_what_runs_is_on_the_page_and_a_ticked_box_stays_ticked_while_it_changes(
    stack: ServedStack, operator: Visitor
) -> None:
    stack.rest()
    page = start(operator, "Incremental update", "dividend")
    run_id = stack.services.ledger.runs(strategy="dividend")[0].run_id
    operator.go("/admin/training")
    page.get_by_label("Train growth").check()
    wait_for(lambda: stack.services.ledger.run(run_id).state in TERMINAL, "it has ended", within_s=120)
    expect(page.locator("#now")).to_contain_text("Nothing trains now.", timeout=RUN_MS)
    expect(page.locator("#lately tbody tr").first).to_contain_text("dividend")
    expect(page.get_by_label("Train growth")).to_be_checked()


def test_a_version_that_awaits_approval_is_approved_with_a_reason(stack: ServedStack, operator: Visitor) -> None:
    ledger = stack.services.ledger
    stack.rest()
    # Another model than the champion, which another test may have trained on the same rows: the same one is kept.
    params = {**stack.services.strategies["growth"].training.params, "n_estimators": 61}
    with edited(stack, "growth", promotion__approval="manual", training__params=params):
        page = start(operator, "Train", "growth")
        expect(page.locator("td[data-label=State]")).to_have_text("awaits approval", timeout=RUN_MS)
        waiting = ledger.awaiting(strategy="growth")[-1]
        operator.go("/admin/registry")
        page.get_by_role("link", name=f"growth v{waiting.version} awaits approval").click()
        section = page.get_by_role("region", name=f"Version {waiting.version} awaits approval")
        expect(section).to_contain_text(waiting.evidence_digest.removeprefix("sha256:")[:12])
        section.get_by_label("Why, kept with the decision").fill("looked at its trades")
        section.get_by_role("button", name="Approve").click()
        expect(page.locator("#confirm-title")).to_have_text(f"Put version {waiting.version} of growth into Production?")
        operator.sure()
        expect(page.get_by_role("status")).to_contain_text(f"Version {waiting.version} is approved")
        expect(row(page, f"v{waiting.version}")).to_contain_text("champion", timeout=RUN_MS)
        expect(section).to_have_count(0)
        expect(page.get_by_text("approved by operator: looked at its trades").first).to_be_visible()
    assert ledger.champion("growth").version == waiting.version


def test_a_champion_is_rolled_back_with_a_reason_and_mlflow_follows(
    stack: ServedStack, operator: Visitor, demo: Demo, terminal: Terminal
) -> None:
    services = stack.services
    stack.rest()
    to = services.ledger.champion("momentum").version
    now = next(one.version for one in demo.versions["momentum"] if one.version != to)
    # Only a former champion is rolled back to, so there has to be one.
    command = ["acis", "promote", "momentum", "--version", now, "--override", "a former champion is wanted", "--queue"]
    assert (ended := terminal.run(command)).code == 0, ended.said
    operator.go("/admin/registry/models/momentum")
    page = operator.page
    panel = page.locator("section").filter(has=page.get_by_role("heading", name="Roll back"))
    panel.get_by_label("To").select_option(to)
    panel.get_by_label("Why, kept with the decision").fill("it trades too much")
    panel.get_by_role("button", name="Roll back").click()
    expect(page.locator("#confirm-title")).to_contain_text(f"Roll momentum back from v{now}?")
    operator.sure()
    expect(page.get_by_role("status")).to_contain_text(f"Version {to} becomes the champion again")
    expect(row(page, f"v{to}")).to_contain_text("champion", timeout=RUN_MS)
    expect(page.get_by_text(f"rolled back from version {now}: it trades too much").first).to_be_visible()
    assert services.ledger.champion("momentum").version == to
    model = services.strategies["momentum"].model_name
    wait_for(lambda: services.registry.version(model, to).aliases == ("champion",), "MLflow shows it too", within_s=60)
    operator.go("/admin/registry/history?q=momentum")
    expect(page.locator("tbody tr").first).to_contain_text("it trades too much")


def test_two_versions_are_compared_by_a_worker(stack: ServedStack, operator: Visitor) -> None:
    stack.rest()
    operator.go("/admin/registry/models/dividend")
    page = operator.page
    page.get_by_role("combobox", name="Version").select_option("2")
    page.get_by_role("combobox", name="beside").select_option("1")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("dividend: v2 beside v1")
    expect(row(page, "roc auc")).to_be_visible()
    before = {run.run_id for run in stack.services.ledger.runs(strategy="dividend", kinds=["compare"])}
    page.get_by_role("button", name=re.compile("^Test ")).click()
    expect(page.get_by_role("status")).to_contain_text("A worker compares the two now.")
    expect(row(page, "paired test")).to_contain_text("inconclusive", timeout=RUN_MS)
    expect(page.get_by_text("against the", exact=False).first).to_contain_text("on 120 common dates")
    expect(page.get_by_role("row").filter(has_text="volatility_20d").first).to_contain_text("%")
    expect(row(page, "train_samples")).to_be_visible()
    run = stack.services.ledger.runs(strategy="dividend", kinds=["compare"])[0]
    assert run.run_id not in before
    assert (run.state, run.params) == (RunState.SUCCEEDED, {"first": "1", "second": "2"})


def test_a_viewer_finds_no_button_and_whatever_is_sent_all_the_same_is_refused(
    stack: ServedStack, viewer: Visitor
) -> None:
    before = len(stack.services.ledger.runs(limit=1000))
    page = viewer.page
    for path in ("/admin/training", "/admin/registry/models/growth", "/admin/registry/models/growth/compare"):
        viewer.go(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert page.locator("main form[method=post]").count() == 0
    csrf = hidden(page.content(), "csrf")
    model = "/admin/registry/models/growth"
    sent: dict[str, dict[str, str]] = {
        "/admin/training": {"what": "train", "strategies": "growth"},
        f"{model}/promote": {"version": "1"},
        f"{model}/rollback": {"version": "1", "reason": "because"},
        f"{model}/answer": {"run_id": "x", "digest": "x", "answer": "approve", "reason": "because"},
        f"{model}/compare": {"first": "1", "second": "2"},
    }
    for path, fields in sent.items():
        answer = viewer.context.request.post(viewer.home + path, form={"csrf": csrf, **fields})
        assert (answer.status, "needs an operator" in answer.text()) == (403, True), path
    assert len(stack.services.ledger.runs(limit=1000)) == before


@pytest.fixture
def hung_mlflow(stack: ServedStack) -> Iterator[None]:
    """Its processes stand still; they go on afterwards."""
    processes = stack.processes("mlflow")
    assert processes
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@pytest.mark.usefixtures("hung_mlflow")
def test_with_an_mlflow_that_hangs_the_registry_is_there_at_once_with_what_the_ledger_knows(operator: Visitor) -> None:
    page = operator.page
    page.set_default_timeout(5_000)
    for path in ("/admin/registry", "/admin/registry/models/growth", "/admin/registry/history"):
        operator.go(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    operator.go("/admin/registry/models/growth")
    expect(row(page, "v1")).to_be_visible()
    expect(page.get_by_role("heading", name="Promotion history")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_question_before_a_start_has_no_barrier_and_no_starts_nothing(
    stack: ServedStack, operator: Visitor, scheme: Any
) -> None:
    before = stack.services.ledger.runs(strategy="growth", limit=1000)
    page = operator.page
    page.emulate_media(color_scheme=scheme)
    operator.go("/admin/training")
    page.get_by_label("Train growth").check()
    page.get_by_role("button", name="Auto-retrain").click()
    expect(page.locator("#confirm-more")).to_contain_text("Auto-retrain: 1 strategy (growth).")
    assert operator.faults_of_access() == []
    page.locator("#confirm").get_by_role("button", name="No").click()
    expect(page.locator("#confirm[open]")).to_have_count(0)
    assert [run.run_id for run in stack.services.ledger.runs(strategy="growth", limit=1000)] == [
        run.run_id for run in before
    ]
