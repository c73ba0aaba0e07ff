"""Puts messages of all kinds into the queues and channels of real workers, between real runs, and says what broke.

A message begins as Celery sends it and is changed in one or more parts. Of those that no worker can read it is known
which they are: each carries a mark, and must be in `unrouted` once.
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis

from mlops.domain.records import Kind, RunState
from mlops.domain.run_states import ACTIVE
from tests.chaos.system import LOADED
from tests.security.fuzz.system import WORKERS, Fuzzed
from tests.support.waiting import wait_for
from worker.remote_control import SHUTDOWN, TOLD
from worker.routing import UNROUTED

QUEUES = ("control", "drift", "train.cpu", "promote")
TASKS = ("drift.check", "model.train", "model.promote", "predict.batch", "live.score", "stage.lost")
REFUSED_COMMANDS = (
    "cancel_consumer", "add_consumer", "pool_shrink", "pool_grow", "pool_restart", "autoscale", "time_limit",
    "rate_limit", "revoke", "terminate", "revoke_by_stamped_headers", "disable_events", "election", "memdump", "report",
)  # fmt: skip
MEMORY_MB = 150
"""By which a worker's main process may grow over all of them: a message of some MB is read whole."""
_BATCH = 40
_RESTS_S = 240.0


@dataclass
class Sent:
    """What was put in, and what should come of it."""

    n: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    """Marks of messages that are set aside."""
    found: list[str] = field(default_factory=list)


class Flood:
    """Makes messages from one seed."""

    def __init__(self, fuzzed: Fuzzed, rng: random.Random) -> None:
        self._fuzzed, self._rng = fuzzed, rng
        self.sent = Sent()
        self._run_ids = list(fuzzed.known["run_id"])
        self._mark = uuid.UUID(int=rng.getrandbits(128), version=4).hex[:8]
        url = fuzzed.system.servers.redis_url
        self.client = redis.Redis.from_url(url)
        self._channel = f"/{url.rpartition('/')[2] or 0}."

    def add_run(self, run_id: str) -> None:
        """Its id may be replayed."""
        self._run_ids.append(run_id)

    def send(self) -> None:
        """One of all kinds."""
        kinds: Sequence[tuple[Callable[[], None], int]] = (
            (self._unreadable, 40), (self._readable, 35), (self._told_on_channels, 12), (self._stored, 8),
            (self._restored, 5),
        )  # fmt: skip
        work = self._rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        self.sent.n += 1
        self.sent.kinds[work.__name__.strip("_")] += 1
        work()

    # ---- what no worker can read

    def _unreadable(self) -> None:
        mark = f"fuzz-{self._mark}-{self.sent.n:06}."
        self.sent.unreadable.append(mark)
        self.client.rpush(self._queue(), self._rng.choice(_UNREADABLE)(self._rng, mark, self._message()))

    # ---- what they can read, and cannot always do

    def _readable(self) -> None:
        message = self._message()
        rng, headers = self._rng, message["headers"]
        change = rng.randrange(9)
        if change == 0:
            headers["task"] = rng.choice(["drift.chek", "no.such.task", "os.system", "builtins.eval", "x" * 120])
        elif change == 1:
            message["body"] = _body([rng.sample(_JUNK, 2), {}, {}])
        elif change == 2:
            message["body"] = _body([[], {rng.choice(["strategy", "run_id", "x", "é"]): rng.choice(_JUNK)}, {}])
        elif change == 3:
            message["body"] = _body([[], {"run_id": rng.choice(self._run_ids), "publish_no": rng.randrange(4)}, {}])
        elif change == 4:
            headers["id"] = rng.choice(self._run_ids)
        elif change == 5:
            headers |= {rng.choice(["group", "root_id", "shadow", "x"]): rng.choice(["a", None, "é" * 90])}
            headers |= {"expires": rng.choice([None, "2001-01-01T00:00:00", "2100-01-01T00:00:00+00:00"])}
        elif change == 6:
            follower = {"task": "drift.check", "args": [], "kwargs": {}, "options": {}}
            message["body"] = _body(
                [[], {"strategy": "s1"}, {rng.choice(["callbacks", "errbacks", "chain"]): [follower]}]
            )
        elif change == 7:
            arguments = {
                "run_id": rng.choice(self._run_ids),
                "task": rng.choice(TASKS),
                "task_id": rng.choice(["a", *self._run_ids]),
                "cause": rng.choice(["c", "\x00", "é" * 3000]),
            }
            headers["task"], message["body"] = "stage.lost", _body([[], arguments, {}])
        self.client.rpush(self._queue(), json.dumps(message))

    # ---- what is told to everybody

    def _told_on_channels(self) -> None:
        rng = self._rng
        channel = rng.choice([f"{self._channel}celery.pidbox", f"{self._channel}celeryev/task.x", "celery-task-meta-x"])
        what: Any = rng.choice([None, [], 7, "x", {}, {"method": ["a"]}, {"type": 1}, {"task_id": [], "status": []}])
        if rng.random() < 0.6:
            what = {
                "method": rng.choice([*REFUSED_COMMANDS, "no_such_command", "", "ping", 7]),
                "arguments": rng.choice([None, {}, [], {"queue": "control"}, {"task_id": self._run_ids[-1]}, {"n": 9}]),
                "destination": rng.choice([None, "x", [], ["x"], [7], {}]),
                "pattern": rng.choice([None, "*", 7]),
                "matcher": rng.choice([None, "glob", "pcre", 7]),
                "reply_to": rng.choice([None, {}, "x", {"exchange": "", "routing_key": "control"}]),
                "ticket": rng.choice([None, "x", 7]),
            }
        whole = {
            **self._message(),
            "body": _body(what),
            "headers": rng.choice([{"clock": 7}, {"clock": "x"}, {"clock": 10**400}, {}, None, []]),
        }
        text = rng.choice([json.dumps(whole), json.dumps(whole), json.dumps(what), "no json", "[" * 3000, "null"])
        self.client.publish(channel, text)
        for binding in self.client.smembers("_kombu.binding.reply.celery.pidbox"):  # type: ignore[union-attr]
            self.client.rpush(bytes(binding).rpartition(b"\x06\x16")[2], text)

    # ---- what lies where our code reads it

    def _stored(self) -> None:
        rng = self._rng
        key = rng.choice([
            "acis:messages-are-here", "acis:outcomes-are-here", f"celery-task-meta-{rng.choice(self._run_ids)}",
        ])  # fmt: skip
        self.client.set(key, rng.choice([
            "x", "[" * 3000, "[]", "null", '{"server": [], "at": 7}', '{"server": "x", "at": "0001-01-01"}',
            '{"server": "x", "at": "9999-12-31T23:59:59+00:00"}', b"\xff\xfe", "",
        ]))  # fmt: skip

    def _restored(self) -> None:
        mark = f"fuzz-{self._mark}-{self.sent.n:06}."
        junk = self._rng.choice(
            [f"no json {mark}", json.dumps([mark]), json.dumps({"a": mark}), json.dumps([mark, 1, 2, 3])]
        )
        self.sent.unreadable.append(mark)
        self.client.hset("unacked", mark, junk)
        self.client.zadd("unacked_index", {mark: 1.0})

    def _queue(self) -> str:
        return self._rng.choice(QUEUES)

    def _message(self) -> dict[str, Any]:
        rng = self._rng
        id_ = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        return {
            "body": _body([[], {"strategy": rng.choice([*LOADED, "none"]), "reason": "fuzz"}, {}]),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py", "task": rng.choice(TASKS), "id": id_, "root_id": id_, "parent_id": None, "retries": 0,
                "timelimit": [None, None], "eta": None, "expires": None, "argsrepr": "()", "kwargsrepr": "{}",
            },
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": id_,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "control"},
                "priority": 0,
            },
        }  # fmt: skip


_JUNK: list[Any] = [
    None, True, 0, -1, 1e308, 10**30, "", "x", "\x00", "é" * 5000, "../../etc", "'; --", [], {}, [[[]]], {"a": {"b": []}},
    "2026-02-30", "1899-12-31", "2201-01-01", "s1\n",
]  # fmt: skip


def _body(call: Any) -> str:
    return base64.b64encode(json.dumps(call).encode()).decode()


def _changed(part: str, name: str, value: object) -> Callable[[random.Random, str, dict[str, Any]], str]:
    def change(_: random.Random, mark: str, message: dict[str, Any]) -> str:
        message[part] = {**message[part], "mark": mark, name: value}
        return json.dumps(message)

    return change


def _with(name: str, value: object) -> Callable[[random.Random, str, dict[str, Any]], str]:
    def change(_: random.Random, mark: str, message: dict[str, Any]) -> str:
        return json.dumps({"mark": mark, **message, name: value})

    return change


_UNREADABLE: list[Callable[[random.Random, str, dict[str, Any]], str | bytes]] = [
    lambda rng, mark, _: mark.encode() + rng.randbytes(rng.randrange(1, 4000)),
    lambda rng, mark, _: f"{mark} {'{' * rng.randrange(1, 900)}",
    lambda rng, mark, message: json.dumps({"mark": mark, **message})[: -rng.randrange(1, 200)],
    lambda rng, mark, _: json.dumps(rng.choice([mark, [mark], {"mark": mark}, [[mark]], {mark: mark}])),
    lambda rng, mark, _: f'["{mark}",{"[" * rng.randrange(2000, 30_000)}',
    lambda rng, mark, message: json.dumps({"mark": mark, **message, "body": "A" * rng.randrange(300_000, 5_000_000)}),
    *(_changed("properties", "delivery_tag", value) for value in (None, 7, "", {"a": 1}, "x" * 900)),
    *(_changed("properties", "delivery_info", value) for value in (None, [], "x", {"exchange": 7}, {"a": None})),
    *(_changed("headers", "id", value) for value in (None, 7, "", "a b", "x\n", "x" * 900, [])),
    *(_changed("headers", "task", value) for value in (None, 7, "", ["drift.check"], "a b", "celery.map")),
    *(_changed("headers", "retries", value) for value in ("many", [], 1.5)),
    *(_changed("headers", "timelimit", value) for value in ("soon", [1], [-1, None], ["a", "b"], {"a": 1})),
    *(_changed("headers", "eta", value) for value in (7, "tomorrow", [], "2026-13-45")),
    *(_changed("headers", "expires", value) for value in ("never", {}, "x" * 50)),
    *(_changed("headers", name, []) for name in ("lang", "root_id", "parent_id", "group", "argsrepr", "origin")),
    _changed("headers", "compression", "a-codec"),
    _changed("headers", "stamps", "a"),
    *(_with("headers", value) for value in (None, [], "x", 7)),
    *(_with("properties", value) for value in (None, [], "x", 7)),
    *(_with("body", value) for value in (None, 7, {}, "%%%", "e30", _body({}), _body([1]), _body([{}, [], None]))),
    *(_with("content-type", value) for value in (None, 7, "application/x-python-serialize", "text/plain")),
]
"""What each makes no worker can read; it begins with its mark, of which the first characters are kept."""


# ---- The whole


def fuzz_messages(
    fuzzed: Fuzzed, *, n: int, seed_: int, progress: Callable[[str], None] = lambda _: None, restores_s: float = 90.0
) -> Sent:
    """Send n messages with a run after each batch, wait until all is done, and look what it did to the system."""
    rng = random.Random(seed_)
    flood = Flood(fuzzed, rng)
    flood.client.delete(UNROUTED)
    before = _memory(fuzzed)
    runs: list[str] = []
    for number in range(n):
        flood.send()
        if number % _BATCH == 0:
            runs.append(fuzzed.run(LOADED[len(runs) % len(LOADED)], Kind.CHECK))
            flood.add_run(runs[-1])
        if number % 100 == 99:
            _wait_until_read(flood)
            progress(f"{number + 1:,} messages, {flood.client.llen(UNROUTED):,} set aside")
    sent = flood.sent
    _wait_until_read(flood)
    wait_for(lambda: not _active(fuzzed), "every run ends", within_s=_RESTS_S, every_s=0.5)
    for run_id, state in fuzzed.wait_for_runs(sorted(set(runs))).items():
        if state is not RunState.SUCCEEDED:
            sent.found.append(f"run {run_id}, which was asked for between, ended {state}")
    wait_for(lambda: not flood.client.exists("unacked"), "what was unacknowledged is given back", within_s=restores_s)
    _wait_until_read(flood)
    sent.found += _letters(flood)
    sent.found += fuzzed.restarts()
    for name, size in _memory(fuzzed).items():
        if size - before.get(name, size) > MEMORY_MB * 2**20:
            sent.found.append(f"{name} grew by {(size - before[name]) / 2**20:.0f} MB")
    sent.found += list(_silent(fuzzed))
    flood.client.close()
    return sent


def _wait_until_read(flood: Flood) -> None:
    wait_for(lambda: not any(flood.client.llen(queue) for queue in QUEUES), "all queues are read", within_s=120.0)


def _active(fuzzed: Fuzzed) -> list[Any]:
    return fuzzed.system.services.ledger.runs(states=list(ACTIVE), limit=100)


def _letters(flood: Flood) -> Iterator[str]:
    """Each unreadable message is set aside once, and nothing else is."""
    letters = [json.loads(one) for one in flood.client.lrange(UNROUTED, 0, -1)]
    kept = [letter for letter in letters if "unreadable" in letter]
    found = Counter(mark for letter in kept for mark in flood.sent.unreadable if mark in letter["unreadable"])
    yield from (f"{mark} is in {UNROUTED} {found[mark]} times" for mark in flood.sent.unreadable if found[mark] != 1)
    yield from (
        f"set aside and not known: {letter}"[:1000]
        for letter in kept
        if f"fuzz-{flood._mark}" not in letter["unreadable"]
    )


def _memory(fuzzed: Fuzzed) -> dict[str, int]:
    """Bytes of each main process."""
    return {
        role.name: psutil.Process(role.pid).memory_info().rss
        for role in fuzzed.system.roles.all
        if role.arguments[0] in dict(WORKERS)
    }


def _silent(fuzzed: Fuzzed) -> Iterator[str]:
    """Workers that do not answer what they tell, or serve other queues than theirs."""
    from celery import Celery

    asker = Celery("an-asker", broker=fuzzed.system.servers.redis_url, set_as_current=False)
    try:
        served = asker.control.inspect(timeout=5.0, limit=len(WORKERS)).active_queues() or {}
        for role, _ in WORKERS:
            if not any(
                name.startswith(f"{role}-") and [one["name"] for one in queues] == [role]
                for name, queues in served.items()
            ):
                yield f"the worker of {role} does not serve it any more: {served}"
    finally:
        asker.close()


assert not set(REFUSED_COMMANDS) & (TOLD | {SHUTDOWN})
