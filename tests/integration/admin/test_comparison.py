"""Two versions beside each other."""

from __future__ import annotations

from dataclasses import replace

from mlops.domain.records import Kind, RunState, Stage
from mlops.stages.train import train
from tests.integration.retraining.test_promote_stage import decided, registered
from tests.support.admin import Browser
from tests.support.model_pages import PAGE, carried_out, champion, row, trained, words
from tests.support.services import MODEL, FakeServices, small_strategy


def test_two_versions_are_beside_each_other_before_any_worker_has_tested_them(
    services: FakeServices, operator: Browser
) -> None:
    trained(services, "1", 0.77)
    trained(services, "2", 0.81)
    page = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert "0.7700 0.8100 0.0400 v2" in row(page, "roc auc")
    assert "Test them on a worker" in page
    assert "have not been tested against each other" in page


def test_the_pages_say_that_the_numbers_of_a_refitted_version_are_its_judged_twins(
    services: FakeServices, operator: Browser
) -> None:
    services.with_policy(training=replace(small_strategy().training, refit=True))
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    outcome = train(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    champion(services, "1")
    trained(services, "2")
    result = outcome.result
    held_out = f"{result['holdout_start']} to {result['train_end']}"  # the refit knows the last of them, too
    judged = f"{held_out}, by its judged twin, trained on data to {result['twin']['train_end']}"
    assert f"Trained on data to {result['train_end']} Judged on {judged}" in words(operator.get(PAGE).text)
    page = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert f"{judged} 2026-01-10 to 2026-02-20 " in row(page, "Judged on")
    assert "Those of a refitted version are its judged twin's" in page


def test_the_test_runs_on_a_worker_and_the_page_shows_what_came_of_it(
    services: FakeServices, operator: Browser
) -> None:
    registered(services, skill=False)
    registered(services)
    services.fake_registry.params = {(MODEL, "1"): {"max_depth": "2"}, (MODEL, "2"): {"max_depth": "3"}}
    answer = operator.post(f"{PAGE}/compare", follow=True, first="1", second="2")
    assert "A worker compares the two now." in answer.text
    (run,) = services.ledger.runs()
    assert (run.kind, run.params) == (Kind.COMPARE, {"first": "1", "second": "2"})
    assert f'data-live-run="{run.run_id}"' in answer.text
    assert carried_out(services, "compare").run_state is RunState.SUCCEEDED
    page = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert "champion 1 on 20 common dates" in page
    assert "promote" in row(page, "paired test")
    assert "2 3" in row(page, "max_depth")
    assert "Test again" in page
    assert services.ledger.promotions("growth") == []
    other = operator.get(f"{PAGE}/compare?first=2&second=1").text
    assert "They were tested the other way round, v2 against v1: " in other
    assert "have not been tested against each other" not in other
    assert "promote" in row(other, "paired test")


def test_two_that_were_tested_when_one_was_judged_are_not_said_to_be_untested(
    services: FakeServices, operator: Browser
) -> None:
    registered(services, skill=False)
    decided(services)
    registered(services)
    grant, _ = decided(services)
    for first, second in (("1", "2"), ("2", "1")):
        page = operator.get(f"{PAGE}/compare?first={first}&second={second}").text
        assert "They were tested when v2 was judged against champion v1." in page
        assert "have not been tested against each other" not in page
        assert grant.run_id in page
    assert "90 % interval" in page


def test_a_comparison_that_failed_says_why_and_can_be_asked_again(services: FakeServices, operator: Browser) -> None:
    operator.post(f"{PAGE}/compare", first="1", second="2")
    grant = services.claimed(services.ledger.runs()[0].run_id, Stage.PROMOTE)
    services.ledger.fail(grant, error="model 'acis_growth_classifier' has no version '1'", retry=False)
    page = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert "has no version &#39;1&#39;" in page
    assert "Test again" in page


def test_a_pair_that_is_being_compared_is_not_asked_for_twice_and_holds_up_no_other(
    services: FakeServices, operator: Browser
) -> None:
    operator.post(f"{PAGE}/compare", first="1", second="2")
    again = operator.post(f"{PAGE}/compare", follow=True, first="1", second="2")
    assert "A worker compares the two already." in again.text
    assert operator.post(f"{PAGE}/compare", first="1", second="3").status_code == 303
    assert [run.params["second"] for run in services.ledger.runs()] == ["3", "2"]


def test_without_versions_the_newest_stands_beside_the_champion(services: FakeServices, operator: Browser) -> None:
    trained(services, "1")
    answer = operator.get(f"{PAGE}/compare")
    assert (answer.status_code, "train another" in answer.text) == (422, True)
    trained(services, "2")
    trained(services, "3")
    values = operator.json(f"{PAGE}/compare")
    assert (values["first"], values["second"]) == ("2", "3")
    champion(services, "1")
    values = operator.json(f"{PAGE}/compare")
    assert (values["first"], values["second"]) == ("1", "3")


def test_a_version_beside_itself_is_refused(operator: Browser) -> None:
    assert operator.get(f"{PAGE}/compare?first=1&second=1").status_code == 422
    assert operator.post(f"{PAGE}/compare", first="1", second="1").status_code == 400
