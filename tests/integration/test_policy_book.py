"""What a run is judged by: the file, the edits over it, and where each value is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from mlops.domain.errors import InvalidPolicyEdit, UnknownStrategy
from mlops.domain.records import Kind
from mlops.runs.request import run_request
from mlops.strategies.book import PolicyBook, Unfit
from mlops.strategies.file import load_strategies, restore
from tasks import services as task_services
from tests.support.ledgers import TimedLedger
from tests.support.services import FakeServices, fake_services, small_strategy

FILE = """
[defaults.drift]
alert_share = 0.4
[strategies.growth]
[strategies.growth.promotion]
min_roc_auc = 0.6
[strategies.value]
"""


@pytest.fixture
def book(tmp_path: Path, timed: TimedLedger) -> PolicyBook:
    path = tmp_path / "strategies.toml"
    path.write_text(FILE, encoding="utf-8")
    return PolicyBook(load_strategies(path), timed.ledger)


def test_without_an_edit_the_file_holds_and_every_value_says_so(book: PolicyBook) -> None:
    settled = book.settled("growth")
    assert settled.strategy == book.strategies["growth"]
    assert settled.origins == {
        "drift.alert_share": "strategies file, [defaults.drift]",
        "promotion.min_roc_auc": "strategies file, [strategies.growth.promotion]",
    }


def test_an_edit_overrides_the_file_for_its_strategy_alone_and_names_who_set_it(book: PolicyBook) -> None:
    book.edit("growth", {"drift.alert_share": 0.5}, actor="anna", reason="too many alarms")
    settled = book.settled("growth")
    assert settled.strategy.drift.alert_share == 0.5
    assert settled.origins["drift.alert_share"].startswith("set by anna on ")
    assert settled.origins["drift.alert_share"].endswith("too many alarms")
    assert book["value"].drift.alert_share == 0.4


def test_the_newest_edit_holds_and_none_gives_the_file_its_value_back(book: PolicyBook) -> None:
    book.edit("growth", {"drift.alert_share": 0.5}, actor="anna", reason="a")
    book.edit("growth", {"drift.alert_share": 0.6}, actor="ben", reason="b")
    assert book["growth"].drift.alert_share == 0.6
    book.edit("growth", {"drift.alert_share": None}, actor="ben", reason="c")
    assert book["growth"].drift.alert_share == 0.4


def test_a_key_of_a_free_table_and_the_word_none_can_be_set(book: PolicyBook) -> None:
    book.edit("growth", {"training.params.max_depth": 4, "promotion.min_accuracy": "none"}, actor="a", reason="r")
    assert book["growth"].training.params["max_depth"] == 4
    assert book["growth"].training.params["n_estimators"] == 100  # the documented default stays beside it
    assert book["growth"].promotion.min_accuracy is None


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("drift.alert_share", 1.5, "drift.alert_share is above 0 and at most 1"),
        ("drift.alert_share", "much", "drift.alert_share"),
        ("drift.alert_shar", 0.5, "drift.alert_shar"),
        ("name", "other", "names no value"),
        ("drift.rule.x", 1, "no further values"),
        ("schedule.drift_check", "every day", "no cron expression"),
        ("drift.nonsense", None, "has no 'drift.nonsense'"),
    ],
)
def test_an_edit_that_breaks_the_file_s_rules_is_refused_and_not_written(
    book: PolicyBook, timed: TimedLedger, path: str, value: object, fault: str
) -> None:
    with pytest.raises(InvalidPolicyEdit, match=fault):
        book.edit("growth", {path: value}, actor="anna", reason="r")
    assert timed.ledger.policy_edits() == []


def test_an_unknown_strategy_has_no_policy_to_edit(book: PolicyBook) -> None:
    with pytest.raises(UnknownStrategy):
        book.edit("growht", {"drift.alert_share": 0.5}, actor="a", reason="r")


def test_a_row_that_no_longer_fits_is_an_error_that_names_it_and_how_to_mend_it(
    book: PolicyBook, timed: TimedLedger
) -> None:
    timed.ledger.edit_policy("growth", "drift.gone", 3, actor="anna", reason="of an earlier version")
    timed.ledger.edit_policy("growth", "drift.alert_share", 0.5, actor="ben", reason="fine")
    with pytest.raises(InvalidPolicyEdit, match=r"drift\.gone = 3 \(set by anna on .*--unset drift\.gone") as caught:
        book["growth"]
    assert "alert_share = 0.5" not in str(caught.value)
    assert isinstance(book.all_settled()["growth"], Unfit)
    assert not isinstance(book.all_settled()["value"], Unfit)
    book.edit("growth", {"drift.gone": None}, actor="ben", reason="mended")
    assert book["growth"].drift.alert_share == 0.5


def test_a_run_keeps_the_edited_policy_with_its_origins_and_what_was_asked_with_it(services: FakeServices) -> None:
    services.policies.edit("growth", {"drift.alert_share": 0.9}, actor="anna", reason="calm down")
    request = run_request(services.policies, "growth", Kind.RETRAIN, reason="r", requested_by="r", min_accuracy=0.5)
    assert restore(request.policy).drift.alert_share == 0.9
    assert restore(request.policy).promotion.min_accuracy == 0.5
    assert request.policy["origins"]["drift.alert_share"].endswith("calm down")
    assert request.policy["origins"]["promotion.min_accuracy"] == "asked for with this run"


def test_the_command_shows_edits_and_takes_them_back(
    tmp_path: Path, timed: TimedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = fake_services(tmp_path, timed, small_strategy())
    monkeypatch.setattr(task_services, "connect", lambda: services)
    run = CliRunner().invoke
    assert "--reason" in run(app, ["policy", "growth", "--set", "drift.alert_share=0.4"]).output
    ended = run(app, ["policy", "growth", "--set", "drift.alert_share=0.4", "--reason", "calm", "--json"])
    assert json.loads(ended.stdout)["values"]["drift.alert_share"]["value"] == 0.4
    assert "(default)" in run(app, ["policy", "growth"]).stdout
    assert run(app, ["policy", "growth", "--set", "drift.alert_share=4", "--reason", "x"]).exit_code == 2
    assert run(app, ["policy", "growth", "--unset", "drift.alert_share", "--reason", "back"]).exit_code == 0
    assert services.policies["growth"].drift.alert_share == 0.3
