"""What runs is watched while it runs, stopped, and explained when it has ended."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from mlflow import MlflowClient
from playwright.sync_api import Page, expect

from mlops.domain.policies import Strategy
from mlops.domain.records import Accepted, Kind, RunState
from mlops.runs.request import run_request
from mlops.strategies.file import snapshot
from tests.acceptance.conftest import SECOND, STRATEGIES, Demo
from tests.support.chromium import WAIT_MS, Visitor
from tests.support.served_stack import ServedStack, wait_for

#: Some ten seconds of training on one core, so that it can be watched.
ROUNDS = 6000


def training(stack: ServedStack, strategy: str, rounds: int = ROUNDS) -> Accepted:
    """A run that trains for a while, asked for as a program does."""
    stack.rest()
    found: Strategy = stack.services.strategies[strategy]
    slow = replace(found.training, params={**found.training.params, "n_estimators": rounds})
    request = run_request(
        stack.services.strategies, strategy, Kind.TRAIN, reason="to be watched", requested_by="test", as_of=None
    )
    policy = {**request.policy, **snapshot(replace(found, training=slow))}
    accepted = stack.services.ledger.accept(replace(request, policy=policy))
    assert accepted.created
    assert accepted.publication is not None
    stack.services.dispatcher.publish(accepted.publication)
    return accepted


def progress_of(page: Page, run_id: str) -> float:
    bar = page.locator(f"[data-live-run='{run_id}'] progress").first
    return float(bar.evaluate("one => one.hasAttribute('value') ? one.value : 0"))


def test_a_training_is_seen_to_go_on_without_loading_the_page_anew_and_is_cancelled(
    stack: ServedStack, operator: Visitor
) -> None:
    page = operator.page
    run_id = training(stack, "growth").run_id
    operator.go(f"/admin/runs/{run_id}")
    page.evaluate("window.stays = true")
    wait_for(lambda: progress_of(page, run_id) > 0, "the bar shows progress", within_s=60)
    first = progress_of(page, run_id)
    wait_for(lambda: progress_of(page, run_id) > first, "the bar moves", within_s=30)
    expect(page.locator(f"[data-live-run='{run_id}']").first).to_contain_text("rounds")
    page.get_by_role("button", name="Cancel").click()
    operator.sure()
    expect(page.get_by_role("status")).to_contain_text("asked to stop")
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled", timeout=60_000)
    expect(page.get_by_text("It was cancelled before it could answer.")).to_be_visible()
    assert stack.services.ledger.run(run_id).state is RunState.CANCELLED


def test_the_overview_shows_what_runs_and_its_end_by_itself(stack: ServedStack, operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/")
    page.evaluate("window.stays = true")
    run_id = training(stack, "value", rounds=50).run_id
    expect(page.locator(f"a[href='/admin/runs/{run_id}']")).to_be_visible(timeout=30_000)
    row = page.get_by_role("row", name="value")
    expect(row).to_contain_text("succeeded", timeout=90_000)
    assert page.evaluate("window.stays") is True


def test_a_run_says_why_and_shows_its_evidence(demo: Demo, operator: Visitor) -> None:
    view = demo.of_pass(SECOND)["growth"]
    operator.go(f"/admin/runs/{view.run_id}")
    page = operator.page
    expect(page.get_by_text("It retrained because of drift:")).to_be_visible()
    expect(page.get_by_text("It did not promote version 2", exact=False)).to_be_visible()
    expect(page.get_by_role("heading", name="Against the champion, on the same")).to_be_visible()
    for stage in ("drift", "train", "promote"):
        expect(page.get_by_role("rowheader", name=stage)).to_be_visible()
    page.get_by_text("The policy that it was judged by").click()
    expect(page.get_by_text('"alert_share"')).to_be_visible()


def test_the_links_of_a_run_lead_to_flower_and_mlflow(demo: Demo, operator: Visitor, stack: ServedStack) -> None:
    operator.go(f"/admin/runs/{demo.of_pass(SECOND)['growth'].run_id}")
    page = operator.page
    flower = page.get_by_role("link", name="Flower: train task").get_attribute("href")
    assert flower is not None
    assert flower.startswith(f"{stack.endpoints.flower_url}/task/")
    mlflow = page.get_by_role("link", name="MLflow: the training").get_attribute("href")
    assert mlflow is not None
    run_id = mlflow.rpartition("/")[2].partition("?")[0]
    browser = page.context.browser
    assert browser is not None
    # As the README says: people sign in at MLflow as `viewer`.
    password = json.loads((stack.var_dir / "secrets.json").read_text())["mlflow_passwords"]["viewer"]
    with browser.new_context(http_credentials={"username": "viewer", "password": password}) as context:
        seen = context.new_page()
        seen.goto(mlflow)
        expect(seen.get_by_text(run_id).first).to_be_visible(timeout=60_000)


def test_the_same_question_is_asked_again_and_followed_to_its_answer(
    demo: Demo, operator: Visitor, stack: ServedStack
) -> None:
    stack.rest()
    page = operator.page
    operator.go(f"/admin/runs/{demo.of_pass(SECOND)['momentum'].run_id}")
    page.get_by_role("button", name="Ask again").click()
    operator.sure()
    expect(page.get_by_role("status")).to_contain_text("Asked again")
    expect(page.locator("h1 .badge")).to_have_text(re.compile("succeeded|refused"), timeout=120_000)


def test_runs_are_found_by_state_and_strategy_while_one_types(operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/runs")
    page.get_by_label("Strategy, or a run's id").fill("dividend")
    expect(page).to_have_url(f"{operator.home}/admin/runs?q=dividend&state=&kind=")
    page.get_by_role("combobox", name="State").select_option("refused")
    expect(page).to_have_url(f"{operator.home}/admin/runs?q=dividend&state=refused&kind=")
    states = page.locator("td[data-label=State]")
    expect(states.filter(has_not_text="refused")).to_have_count(0)
    expect(states.first).to_be_visible()
    expect(page.get_by_role("row", name="momentum")).to_have_count(0)


def test_the_overview_is_searched_sorted_and_read_with_the_keyboard_alone(operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.get_by_label("Search a strategy").focus()
    page.keyboard.type("di")
    expect(page.locator("tbody th a")).to_have_text(["direction", "dividend"])
    expect(page.get_by_label("Search a strategy")).to_be_focused()
    page.get_by_role("link", name="Strategy").focus()
    page.keyboard.press("Enter")
    expect(page.locator("tbody th a")).to_have_text(["dividend", "direction"])


def test_every_queue_is_served_and_every_worker_is_alive(operator: Visitor) -> None:
    operator.go("/admin/workers")
    page = operator.page
    for queue in ("control", "drift", "train.cpu", "promote"):
        expect(page.get_by_role("row", name=queue).first).to_be_visible()
    expect(page.locator(".badge.good", has_text="alive")).to_have_count(4, timeout=WAIT_MS)
    expect(page.locator(".badge.bad")).to_have_count(0)


def test_mlflow_is_shown_with_what_it_holds_and_how_that_grows(stack: ServedStack, operator: Visitor) -> None:
    operator.go("/admin/mlflow")
    page = operator.page
    expect(page.locator("#status .badge")).to_have_text("answers", timeout=30_000)
    # Its last look may be older than the demo's models; other tests may have registered one more.
    n_models = len(MlflowClient(stack.endpoints.settings()["mlflow_tracking_uri"]).search_registered_models())
    assert n_models >= len(STRATEGIES)
    models = page.locator("#status div").filter(has_text="Registered models").locator("dd")
    expect(models).to_have_text(str(n_models), timeout=60_000)
    operator.go("/admin/mlflow")
    expect(page.get_by_role("row", name="acis_growth_classifier")).to_be_visible()
    # The page looks again by itself; the reconciler measures beside its other work.
    expect(page.get_by_text("not measured yet")).to_have_count(0, timeout=120_000)
    month = f"{stack.services.ledger.now():%Y-%m}"
    operator.go("/admin/mlflow")
    row = page.get_by_role("row").filter(has=page.locator("th", has_text=re.compile(f"^{month}$")))
    expect(row).to_contain_text("MB")
