"""How long a start may take: as long as it gets on."""

from __future__ import annotations

from pathlib import Path

from devstack.process import tail
from devstack.readiness import Progress


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_start_that_uses_the_processor_is_slow_and_not_stuck() -> None:
    clock = Clock()
    progress = Progress(monotonic=clock)
    for minute in range(60):  # a second of the processor in ten: eight such machines share two cores
        clock.now = 60.0 * minute
        assert progress.look({"mlflow": (7, 6.0 * minute)}) == 0.0


def test_a_process_that_only_waits_makes_no_progress() -> None:
    clock = Clock()
    progress = Progress(monotonic=clock)
    stalled_s = [
        progress.look({"beat": (7, 3.0 + 0.005 * s)}) for s in range(130) if not setattr(clock, "now", float(s))
    ]
    assert stalled_s[-1] == 129.0  # 0.5 % of the processor: its heartbeat


def test_a_new_process_of_the_program_counts_with_what_it_has_used() -> None:
    clock = Clock()
    progress = Progress(monotonic=clock)
    progress.look({"redis": (7, 50.0)})
    clock.now = 100.0
    assert progress.look({"redis": (8, 0.5)}) == 100.0
    assert progress.look({"redis": (8, 2.5)}) == 0.0


def test_a_tail_begins_where_this_start_began(tmp_path: Path) -> None:
    log = tmp_path / "mlflow.log"
    log.write_text("old one\nold two\n")
    since = log.stat().st_size
    assert tail(log, since=since) == "(empty log)"
    with log.open("a") as file:
        file.write("new\n")
    assert tail(log, since=since) == "new"
    log.write_text("rotated\n")  # shorter than it was: all of it is newer
    assert tail(log, since=since) == "rotated"
