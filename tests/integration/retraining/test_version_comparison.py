"""Two versions side by side: the test where both can be scored, the reason where not; nothing is written."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from cli.app import app
from mlops.domain.errors import VersionNotFound
from mlops.stages.paired_evaluation import VersionComparison, compare_versions
from tests.integration.retraining.test_promote_stage import HOLDOUT, registered
from tests.support.services import LAST, FakeServices


def compare(services: FakeServices, first: str, second: str) -> VersionComparison:
    strategy = services.strategies["growth"]
    return compare_versions(
        services.ledger, services.registry, services.source, strategy, first, second, today=services.feature_day()
    )


def test_the_second_version_is_tested_against_the_first(services: FakeServices) -> None:
    registered(services, skill=False)
    registered(services)
    found = compare(services, "1", "2")
    assert found.test is not None
    assert (found.test.verdict, found.test.n_dates) == ("promote", 20)
    assert "champion 1 on 20 common dates" in found.words
    assert services.ledger.promotions("growth") == []


def test_versions_that_share_no_unseen_date_are_not_tested_and_the_reason_is_said(services: FakeServices) -> None:
    train_end = HOLDOUT[1].isoformat()
    registered(services, tags={"training_date": LAST.isoformat(), "train_end": train_end})
    registered(services)
    found = compare(services, "1", "2")
    assert found.test is None
    assert f"version 1 was trained up to {train_end}" in found.words.replace("champion 1", "version 1")


def test_a_version_that_is_not_there_is_said(services: FakeServices) -> None:
    registered(services)
    with pytest.raises(VersionNotFound):
        compare(services, "1", "9")


def test_the_command_shows_both_and_the_test(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.services.connect", lambda: services)
    registered(services, skill=False, as_of=LAST - timedelta(days=1))
    registered(services)
    run = CliRunner().invoke
    shown = run(app, ["compare", "growth", "--version", "1", "--version", "2"])
    assert shown.exit_code == 0, shown.output
    assert "v2 against v1: roc_auc" in shown.output
    as_json = json.loads(run(app, ["compare", "growth", "--version", "1", "--version", "2", "--json"]).output)
    assert as_json["test"]["verdict"] == "promote"


@pytest.mark.parametrize("asked", [["growth", "--version", "1"], ["--version", "1", "--version", "2"]])
def test_anything_but_two_versions_of_one_strategy_is_refused(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr("tasks.services.connect", lambda: services)
    ended = CliRunner().invoke(app, ["compare", *asked])
    assert (ended.exit_code, "two versions of one strategy" in ended.output) == (2, True)
