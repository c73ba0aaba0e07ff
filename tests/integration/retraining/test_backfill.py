"""Backfills on fakes: what they leave in the ledger, and what stops them or does not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from lab import backfill as module
from lab.backfill import DateChecked, backfill, backfill_dates, checked_namespace
from mlops.domain.errors import ConfigurationError, EmptyWindow, LedgerUnavailable, SourceUnavailable
from mlops.domain.ports import Window
from mlops.domain.records import Executor, Kind, RunState, Stage
from mlops.runs import inline
from mlops.runs.request import run_request
from tasks import services as task_services
from tests.support.features import InMemoryFeatures
from tests.support.ledgers import LEASE_S
from tests.support.services import FIRST, LAST, FakeServices, panel, small_strategy

#: Ten days apart, the windows before them whole.
DAYS = [FIRST + timedelta(days=number) for number in range(110, 200, 10)]


def filled(services: FakeServices, days: Sequence[date] = DAYS, **more: Any) -> list[DateChecked]:
    return list(backfill(services, "growth", days, **{"namespace": "past", **more}))


def states(results: Sequence[DateChecked]) -> list[str]:
    return [result.state for result in results]


def stopping_after(n: int) -> Callable[[], bool]:
    asked = iter(range(n))
    return lambda: next(asked, None) is None


def test_every_date_is_a_check_in_its_own_namespace_and_nothing_is_live(services: FakeServices) -> None:
    results = filled(services)
    assert states(results) == ["checked"] * len(DAYS)
    stored = services.ledger.drift_reports("growth", namespace="past")
    assert [report["as_of"] for report in stored] == [day.isoformat() for day in reversed(DAYS)]
    runs = services.ledger.runs(namespace="past")
    assert {(run.kind, run.state, run.executor) for run in runs} == {(Kind.CHECK, RunState.SUCCEEDED, Executor.INLINE)}
    assert services.ledger.runs() == services.ledger.drift_reports("growth") == services.ledger.promotions() == []
    assert services.registry.versions("acis_growth_classifier") == []
    assert services.sent == []
    assert list(services.settings.report_dir.glob("drift_report_*")) == []


def test_a_date_says_the_same_as_the_live_check_of_that_date(services: FakeServices) -> None:
    services.with_source(panel(shift=3.0))
    days = [LAST - timedelta(days=20), LAST]
    filled(services, days)
    for day in days:  # what a check says of its episode depends on the checks before it
        request = run_request(
            services.strategies, "growth", Kind.CHECK, reason="t", requested_by="t", as_of=day, executor=Executor.INLINE
        )
        inline.run_inline(services, request, on_accept=lambda _: None, on_stage=lambda *_: None)
    (live, _), (past, _) = (services.ledger.drift_reports("growth", namespace=name) for name in ("live", "past"))
    for report in (live, past):
        del report["run_id"], report["timestamp"]
    assert past == live


def test_a_second_backfill_finds_every_date_done(services: FakeServices) -> None:
    first = filled(services)
    second = filled(services)
    assert states(second) == ["done before"] * len(DAYS)
    assert [(one.run_id, one.verdict) for one in second] == [(one.run_id, one.verdict) for one in first]


def test_an_interrupted_backfill_goes_on_where_it_stopped(services: FakeServices) -> None:
    assert states(filled(services, is_stopped=stopping_after(3))) == ["checked"] * 3
    assert states(filled(services)) == ["done before"] * 3 + ["checked"] * (len(DAYS) - 3)


def test_another_rule_checks_the_dates_again_beside_the_first_ones(services: FakeServices) -> None:
    filled(services, DAYS[:2])
    assert states(filled(services, DAYS[:2], drift_rule="calibrated")) == ["checked"] * 2
    assert len(services.ledger.drift_reports("growth", namespace="past")) == 4


def test_a_date_that_cannot_be_checked_stops_nothing_and_is_tried_again(services: FakeServices) -> None:
    whole = panel()
    hole = pc.and_(
        pc.greater(whole.column("date"), DAYS[3] - timedelta(days=7)), pc.less_equal(whole.column("date"), DAYS[3])
    )
    services.with_source(whole.filter(pc.invert(hole)))
    results = filled(services, DAYS[2:6])
    assert states(results) == ["checked", "failed", "checked", "checked"]
    assert "no rows in its current window" in results[1].error
    assert states(filled(services, DAYS[2:6]))[1] == "failed"
    services.with_source(whole)
    assert states(filled(services, DAYS[2:6])) == ["done before", "checked", "done before", "done before"]


def test_two_backfills_at_once_check_each_date_once(services: FakeServices) -> None:
    one, other = (backfill(services, "growth", DAYS, namespace="past") for _ in range(2))
    found: list[DateChecked] = []
    for mine, theirs in zip(one, other, strict=True):
        found += [mine, theirs]
    assert sorted(states(found)) == ["checked"] * len(DAYS) + ["done before"] * len(DAYS)
    assert len(services.ledger.drift_reports("growth", namespace="past")) == len(DAYS)


def test_two_backfills_in_parallel_check_each_date_once(services: FakeServices) -> None:
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: filled(services), range(2))
    assert sorted(states([*one, *other])) == ["checked"] * len(DAYS) + ["done before"] * len(DAYS)
    assert len(services.ledger.drift_reports("growth", namespace="past")) == len(DAYS)


class VirtualTime:
    """Sleep lets the ledger's time pass, and does what was arranged for then."""

    def __init__(self, services: FakeServices, wakes: Iterator[Callable[[], object]]) -> None:
        self.services, self.wakes, self.passed = services, wakes, 0.0

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds
        self.services.timed.advance(seconds)
        next(self.wakes, lambda: None)()
        assert self.passed < 3600.0, "it waits for ever"


def begun_elsewhere(services: FakeServices, day: date, slot: str) -> Any:
    request = run_request(
        services.strategies, "growth", Kind.CHECK, reason="t", requested_by="t", slot=slot, namespace="past",
        as_of=day, executor=Executor.INLINE,
    )  # fmt: skip
    accepted = services.ledger.accept(request)
    return services.claimed(accepted.run_id, Stage.DRIFT)


def test_it_waits_for_a_check_of_another_date_and_then_does_its_own(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = begun_elsewhere(services, DAYS[5], "another date")

    def ends() -> object:
        return services.ledger.fail(grant, error="it ended", retry=False)

    monkeypatch.setattr(inline, "time", VirtualTime(services, iter([lambda: None, ends])))
    (result,) = filled(services, DAYS[:1])
    assert (result.state, result.as_of) == ("checked", DAYS[0])


def test_a_date_whose_process_was_killed_is_done_when_its_lease_has_run_out(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = f"{DAYS[0]} {module._digest(services.strategies['growth'])}"
    begun_elsewhere(services, DAYS[0], slot)
    time = VirtualTime(services, iter(()))
    monkeypatch.setattr(inline, "time", time)
    (result,) = filled(services, DAYS[:1])
    assert result.state == "checked"
    assert time.passed < 3 * LEASE_S


def test_a_server_that_does_not_answer_stops_the_rest(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(InMemoryFeatures):
        def read(self, strategy: str, window: Window, columns: Sequence[str], **more: Any) -> pa.Table:
            raise SourceUnavailable

    vars(services)["source"] = Silent(panel())
    with pytest.raises(SourceUnavailable):
        filled(services)
    monkeypatch.setattr(module, "HELD_VALUES", 0)  # each check reads for itself, and waits for the server
    monkeypatch.setattr(inline, "time", VirtualTime(services, iter(())))
    results = filled(services)
    assert states(results) == ["stopped"]
    assert services.ledger.runs(namespace="past", states=[RunState.RUNNING, RunState.QUEUED]) == []


def test_a_range_too_large_to_hold_gives_the_same(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    held = filled(services, DAYS[:2])
    monkeypatch.setattr(module, "HELD_VALUES", 0)
    read = filled(services, DAYS[:2], namespace="other")
    assert [one.verdict for one in held] == [one.verdict for one in read]
    one, other = (services.ledger.drift_reports("growth", namespace=name)[0] for name in ("past", "other"))
    assert (one["psi"], one["ks_test"], one["targets"]) == (other["psi"], other["ks_test"], other["targets"])


# --------------------------------------------------------------------------- dates and names


def test_every_so_manieth_date_with_rows_from_the_first_one(services: FakeServices) -> None:
    found = backfill_dates(services.source, services.strategies["growth"], start=FIRST, end=None, every=50)
    assert found == [FIRST + timedelta(days=number) for number in (0, 50, 100, 150)]


def test_both_ends_of_the_range_are_in_it(services: FakeServices) -> None:
    found = backfill_dates(services.source, services.strategies["growth"], start=DAYS[0], end=DAYS[0], every=5)
    assert found == [DAYS[0]]


@pytest.mark.parametrize(
    ("start", "end", "error", "words"),
    [
        (DAYS[1], DAYS[0], ConfigurationError, f"--from {DAYS[1]} lies after --to {DAYS[0]}"),
        (LAST + timedelta(days=9), None, ConfigurationError, f"lies after the newest row, which is of {LAST}"),
        (FIRST - timedelta(days=9), FIRST - timedelta(days=2), EmptyWindow, "has no rows from"),
    ],
)
def test_a_range_that_holds_nothing_says_why(
    services: FakeServices, start: date, end: date | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        backfill_dates(services.source, services.strategies["growth"], start=start, end=end)


def test_a_strategy_without_rows_has_no_dates(services: FakeServices) -> None:
    with pytest.raises(EmptyWindow, match="newest row is of no date"):
        backfill_dates(services.source, small_strategy("value"), start=FIRST, end=None)


@pytest.mark.parametrize("name", ["live", "", "x" * 64, "a\nb"])
def test_a_namespace_is_never_the_live_one_nor_one_that_cannot_be_kept(name: str) -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        checked_namespace(name)


# --------------------------------------------------------------------------- the command


@pytest.fixture
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    monkeypatch.setattr(task_services, "connect", lambda: services)
    return services


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["backfill", *arguments])


RANGE = ("growth", "--from", DAYS[0].isoformat(), "--to", DAYS[2].isoformat(), "--every", "10")


def test_the_command_counts_and_says_where_to_look(connected: FakeServices) -> None:
    ended = command(*RANGE)
    assert ended.exit_code == 0, ended.output
    assert "acis drift-history STRATEGY --namespace backfill" in ended.stdout
    answer = json.loads(command(*RANGE, "--json").stdout)
    assert answer["complete"]
    assert [one["state"] for one in answer["dates"]["growth"]] == ["done before"] * 3


def test_a_failed_date_is_the_exit_code(connected: FakeServices) -> None:
    ended = command("growth", "--from", FIRST.isoformat(), "--to", FIRST.isoformat())
    assert ended.exit_code == 1
    assert "no rows in its reference window" in ended.stderr


def test_ctrl_c_ends_after_the_date_and_says_how_to_go_on(
    connected: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    dates = iter(range(10))
    whole = module.run_inline

    def interrupted_at_the_second(*arguments: Any, **more: Any) -> Any:
        if next(dates) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(*arguments, **more)

    monkeypatch.setattr(module, "run_inline", interrupted_at_the_second)
    ended = command(*RANGE)
    assert ended.exit_code == 130
    assert "Give the same command again to go on" in ended.stderr
    monkeypatch.undo()
    monkeypatch.setattr(task_services, "connect", lambda: connected)
    again = json.loads(command(*RANGE, "--json").stdout)
    assert [one["state"] for one in again["dates"]["growth"]] == ["done before", "done before", "checked"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("growht", *RANGE[1:]), "'growht' is not known; one of: growth"),
        ((*RANGE, "--namespace", "live"), "a backfill needs another name"),
        (("growth", "--from", "2020-05-01", "--to", "2020-04-01"), "lies after --to 2020-04-01"),
    ],
)
def test_what_cannot_be_is_an_error_in_words_before_anything_runs(
    connected: FakeServices, arguments: tuple[str, ...], words: str
) -> None:
    ended = command(*arguments)
    assert (ended.exit_code, words in ended.stderr.replace("\n", " ")) == (2, True)
    assert connected.ledger.runs(namespace=None) == []


def test_a_ledger_that_does_not_answer_is_an_error_in_words(
    connected: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise LedgerUnavailable

    monkeypatch.setattr(type(connected.ledger), "accept", silent)
    monkeypatch.setattr(inline, "FIRST_PATIENCE_S", 0.0)
    ended = command(*RANGE)
    assert (ended.exit_code, "PostgreSQL does not answer" in ended.stderr) == (2, True)
