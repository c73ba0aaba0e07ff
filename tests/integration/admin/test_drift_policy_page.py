"""A strategy's rule and threshold: where each is from, what an edit would have decided, the edit, and its end."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from mlops.domain.policies import DriftPolicy
from mlops.domain.records import Kind
from mlops.runs.request import run_request
from tests.support.admin import Browser
from tests.support.checks import checked
from tests.support.services import FakeServices

DAY = date(2026, 3, 2)
PAGE = "/admin/drift/strategies/growth"
FIELDS = ("rule", "alert_share", "alpha", "persistence_checks", "persistence_window", "cooldown_days", "plan")


def form(**changes: Any) -> dict[str, Any]:
    """The form as it stands, with other values. The small strategy has the raw rule."""
    values = asdict(DriftPolicy(rule="raw"))
    return {name: values[name] for name in FIELDS} | changes


def ten_checks(services: FakeServices) -> list[str]:
    """Shares 0.0, 0.1 … 0.9; p is small in the five newest alone."""
    return [
        checked(
            services.ledger,
            "growth",
            DAY + timedelta(days=n),
            "drifted" if n >= 3 else "stable",
            share=n / 10,
            p_value=0.01 if n >= 5 else 0.5,
            rule="raw",
        )
        for n in range(10)
    ]


def counts(replay: dict[str, Any]) -> tuple[int, int]:
    found = replay["counts"]
    return found.get("drifted", 0), found.get("stable", 0)


def test_each_value_is_shown_with_its_origin(services: FakeServices, viewer: Browser) -> None:
    services.ledger.edit_policy("growth", "drift.alert_share", 0.5, actor="anna", reason="too many alarms")
    page = viewer.get(PAGE).text
    assert "From: set by anna on " in page
    assert "too many alarms" in page
    assert "From: the program&#39;s default." in page
    assert 'id="is-alert_share" value="0.5"' in page
    assert "training.horizon_dates" in page


def test_a_preview_decides_the_last_checks_again_by_both_rules(services: FakeServices, viewer: Browser) -> None:
    ids = ten_checks(services)
    every_check = {"plan": "check", "cooldown_days": 0}
    services.with_policy(drift=DriftPolicy(rule="raw", **every_check))
    query = urlencode(form(alert_share=0.7, **every_check))
    found = viewer.json(f"{PAGE}/preview?{query}")["preview"]
    # raw: shares of 0.3 and more, then of 0.7 and more; calibrated: those with a small p too
    assert found["then"] == {"drifted": 7, "stable": 3, "insufficient": 0}
    assert (counts(found["now"]), counts(found["proposed"])) == ((7, 3), (3, 7))
    assert [pair[1]["check"]["run_id"] for pair in found["differing"]] == ids[6:2:-1]
    calibrated = viewer.json(f"{PAGE}/preview?{urlencode(form(rule='calibrated'))}")["preview"]
    assert (counts(calibrated["proposed"]), counts(calibrated["other_rule"])) == ((5, 5), (7, 3))
    shown = viewer.get(f"{PAGE}/preview?{query}", **{"hx-request": "true"}).text
    assert "4 of them would be decided otherwise" in shown
    assert "<!doctype" not in shown


def test_persistence_is_part_of_the_preview(services: FakeServices, viewer: Browser) -> None:
    ten_checks(services)
    services.with_policy(drift=DriftPolicy(rule="raw", plan="check", cooldown_days=0))
    query = urlencode(form(persistence_checks=3, persistence_window=3, plan="check", cooldown_days=0))
    found = viewer.json(f"{PAGE}/preview?{query}")["preview"]
    assert (found["now"]["n_retrainings"], found["proposed"]["n_retrainings"]) == (7, 5)


def test_by_default_the_preview_counts_one_retraining_per_episode(services: FakeServices, viewer: Browser) -> None:
    ten_checks(services)
    found = viewer.json(f"{PAGE}/preview?{urlencode(form())}")["preview"]
    assert (found["now"]["n_retrainings"], found["proposed"]["n_retrainings"]) == (1, 1)
    without = viewer.json(f"{PAGE}/preview?{urlencode(form(plan='check', cooldown_days=2))}")["preview"]
    assert without["proposed"]["n_retrainings"] == 4  # of seven days every second one


def test_a_field_takes_what_the_policy_may_be_and_says_what_it_is(viewer: Browser) -> None:
    page = viewer.get(PAGE).text
    assert re.search(r'name="persistence_window"[^>]* min="1" max="10000"', page)
    assert "Share of features that must have drifted; the documented alert threshold. From: " in page


def test_the_preview_looks_at_ninety_checks(services: FakeServices, viewer: Browser) -> None:
    for n in range(95):
        checked(services.ledger, "growth", DAY + timedelta(days=n))
    assert len(viewer.json(PAGE)["preview"]["now"]["decided"]) == 90


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alert_share": 2}, "above 0 and at most 1 (found 2.0)"),
        ({"alpha": 0}, "above 0 and below 1"),
        ({"persistence_checks": 3}, "at most persistence_window"),
    ],
)
def test_what_does_not_fit_is_said_in_the_preview_and_refused_in_the_edit(
    services: FakeServices, operator: Browser, changes: dict[str, Any], said: str
) -> None:
    shown = operator.get(f"{PAGE}/preview?{urlencode(form(**changes))}", **{"hx-request": "true"})
    assert (shown.status_code, said in shown.text) == (200, True)
    answer = operator.post(f"{PAGE}/policy", **form(**changes), reason="a try")
    assert (answer.status_code, said in answer.text, "nothing was changed" in answer.text) == (422, True, True)
    assert services.ledger.policy_edits() == []


def test_an_edit_writes_what_differs_and_is_valid_from_the_next_run(services: FakeServices, operator: Browser) -> None:
    answer = operator.post(f"{PAGE}/policy", **form(alert_share=0.55), reason="fewer alarms", follow=True)
    assert "Set for growth, from its next run on: drift.alert_share = 0.55." in answer.text
    (edit,) = services.ledger.policy_edits("growth")
    assert (edit.path, edit.value, edit.actor, edit.reason) == ("drift.alert_share", 0.55, "anna", "fewer alarms")
    request = run_request(services.policies, "growth", Kind.CHECK, reason="a", requested_by="b")
    assert request.policy["drift"]["alert_share"] == 0.55
    assert request.policy["origins"]["drift.alert_share"].startswith("set by anna")
    line = next(line for line in services.ledger.audit_lines() if line.action == "policy.edit")
    assert (line.subject, line.detail["drift.alert_share"], line.detail["reason"]) == (
        "growth",
        "0.3 → 0.55",
        "fewer alarms",
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"reason": "for no reason"}, "nothing is different"), ({"alert_share": 0.5, "reason": " "}, "say why")],
)
def test_an_edit_needs_something_else_and_a_reason(
    services: FakeServices, operator: Browser, fields: dict[str, Any], said: str
) -> None:
    answer = operator.post(f"{PAGE}/policy", **form(**fields))
    assert (answer.status_code, said in answer.text) == (422, True)
    assert services.ledger.policy_edits() == []


def test_an_edit_is_taken_back_by_another_row(services: FakeServices, operator: Browser) -> None:
    operator.post(f"{PAGE}/policy", **form(alert_share=0.55), reason="a")
    assert "Take back" in operator.get(PAGE).text
    answer = operator.post(f"{PAGE}/take-back", path="drift.alert_share", reason="it was wrong", follow=True)
    assert "drift.alert_share of growth is as the strategies file has it" in answer.text
    assert [edit.value for edit in services.ledger.policy_edits("growth")] == [0.55, None]
    assert services.policies["growth"].drift.alert_share == 0.3
    assert "Take back" not in operator.get(PAGE).text
    assert operator.post(f"{PAGE}/take-back", path="drift.alert_share", reason="b").status_code == 422


def test_edits_that_do_not_fit_any_more_are_said_and_mended_here(services: FakeServices, operator: Browser) -> None:
    services.ledger.edit_policy("growth", "drift.gone", 1, actor="anna", reason="of an earlier version")
    page = operator.get(PAGE).text
    assert "does not fit" in page
    assert "No run of growth begins until then" in page
    assert "edits do not fit" in operator.get("/admin/drift").text
    operator.post(f"{PAGE}/take-back", path="drift.gone", reason="gone")
    assert "does not fit" not in operator.get(PAGE).text


def test_an_unknown_strategy_is_named_with_those_that_are_known(operator: Browser) -> None:
    answer = operator.get("/admin/drift/strategies/growht")
    assert (answer.status_code, "growth" in answer.text) == (404, True)
    assert operator.post("/admin/drift/strategies/growht/policy", **form(), reason="a").status_code == 404


def test_a_program_edits_one_value_and_leaves_the_others(services: FakeServices, nobody: Browser) -> None:
    _, text = services.ledger.add_token("nightly", user="anna", role="operator")
    headers = {"authorization": f"Bearer {text}", "accept": "application/json"}
    fields = {"rule": "calibrated", "reason": "as elsewhere"}
    answer = nobody.client.post(f"{PAGE}/policy", data=fields, headers=headers)
    assert (answer.status_code, answer.json()["values"]) == (200, {"drift.rule": "calibrated"})
    assert services.ledger.policy_edits()[0].actor == "anna (nightly)"
