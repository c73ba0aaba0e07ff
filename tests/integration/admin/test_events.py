"""What open pages are told, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from admin import events as streams
from admin.events import EventStreams
from mlops.domain.records import Kind, Stage
from tasks.progress import RunUpdate
from tests.support.admin import Browser
from tests.support.services import FakeServices


def events(followed: EventStreams, *happen: Callable[[], None], n: int) -> list[dict[str, Any]]:
    """The first events of a page that is open while the things happen, one after the other."""

    async def follow() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        stream = followed.stream()
        await anext(stream)
        for one in happen:
            one()
        while len(found) < n:
            text = (await asyncio.wait_for(anext(stream), 5)).decode()
            if text.startswith("data: "):
                found.append(json.loads(text.removeprefix("data: ")))
        await stream.aclose()
        return found

    return asyncio.run(follow())


def test_progress_is_told_as_the_worker_told_it(services: FakeServices) -> None:
    followed = EventStreams(services)
    progress = {"stage": "train", "done": 3, "total": 9, "unit": "rounds", "left_s": 1.5}
    assert events(followed, lambda: followed.told(RunUpdate(run_id="r", progress=progress)), n=1) == [
        {"type": "progress", "run_id": "r", **progress}
    ]
    assert followed.n_listeners == 0


def test_an_end_is_told_as_a_change(services: FakeServices) -> None:
    followed = EventStreams(services)
    assert events(followed, lambda: followed.told(RunUpdate(run_id="r", progress=None)), n=1) == [
        {"type": "changed", "run_id": "r"}
    ]


def test_what_changes_in_the_ledger_alone_is_told_once(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    followed = EventStreams(services)
    run = grant.run_id
    found = events(
        followed,
        followed._look,  # what was there before is no change
        lambda: services.ledger.cancel(run, actor="anna") and None,
        followed._look,
        followed._look,
        lambda: services.ledger.fail(grant, error="stopped", retry=False) and None,
        followed._look,
        n=2,
    )
    assert found == [{"type": "changed", "run_id": run}] * 2


def test_without_redis_the_ledgers_progress_is_told(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    progress = {"done": 3, "total": 9, "unit": "rounds", "left_s": None}
    followed = EventStreams(services)
    services.ledger.renew(grant, progress=progress)
    assert events(followed, followed._look, n=1) == [
        {"type": "progress", "run_id": grant.run_id, "stage": "train", **progress}
    ]


def test_who_does_not_read_is_let_go_and_holds_nobody_up(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_WAITING", 5)
    followed = EventStreams(services)

    async def flooded() -> int:
        stream = followed.stream()
        await anext(stream)
        for number in range(20):
            followed.told(RunUpdate(run_id=str(number), progress=None))
        await asyncio.sleep(0)
        return len([event async for event in stream])

    assert asyncio.run(flooded()) <= 5
    assert followed.n_listeners == 0


def test_every_stream_ends_with_the_application(services: FakeServices) -> None:
    followed = EventStreams(services)

    async def ended() -> list[bytes]:
        stream = followed.stream()
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        followed.stop()
        return [await asyncio.wait_for(waiting, 5), *[event async for event in stream]]

    assert asyncio.run(ended()) == [b'data: {"type": "bye"}\n\n']


def test_a_person_has_24_streams_and_a_browser_of_theirs_12(services: FakeServices) -> None:
    followed = EventStreams(services)

    async def n_open(*asked: tuple[str, str]) -> list[int]:
        """How many of 13 more are opened by each user and browser, one after the other."""
        found, kept = [], []
        for user, browser in asked:
            more = [followed.stream(user, browser) for _ in range(13)]
            kept += more
            found.append([await anext(stream) for stream in more].count(b"retry: 2000\n\n"))
        for stream in kept:
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        return found

    asked = ("anna", "a"), ("anna", "b"), ("anna", "c"), ("victor", "d")
    assert asyncio.run(n_open(*asked)) == [12, 12, 0, 12]
    assert followed.n_listeners == 0, "and who closes them may open others"


def test_too_many_open_pages_are_refused(app: Any, viewer: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.routes.workers.MOST_LISTENERS", 0)
    answer = viewer.get("/admin/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
