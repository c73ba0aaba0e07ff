"""A few hundred messages of the fuzzer; `python -m tests.security.fuzz` sends two thousand."""

from __future__ import annotations

from tests.security.fuzz.messages import fuzz_messages
from tests.security.fuzz.system import WORKERS, fuzzed_system

SEED = 14
N = 160


def test_no_message_ends_a_worker_stops_a_queue_or_loses_a_run() -> None:
    with fuzzed_system((*WORKERS, ("reconciler", "a"))) as fuzzed:
        sent = fuzz_messages(fuzzed, n=N, seed_=SEED)
    assert not sent.found, "\n".join(sent.found)
    assert sent.n == N
    assert len(sent.unreadable) > N / 4
