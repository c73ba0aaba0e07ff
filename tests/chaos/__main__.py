"""`python -m tests.chaos`: faults under load, then the invariants. `make chaos MINUTES=10 SEED=1` calls it.

    --minutes M [--seed S]              faults of all kinds, chosen by the seed
    --fault NAME --times N              one kind; parts of it add up in var/chaos/results.jsonl
    --restored-age S                    how old the backup is that the ledger is restored from (180 s)
    --defaults                          leases of 60 s, as in production, in place of 5 s
    --table                             what all parts so far came to, as docs/reliability.md has it

The same seed chooses the same faults, runs and moments; the machine's own timing stays its own.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
import traceback
from pathlib import Path

from tests.chaos import results
from tests.chaos.faults import FAULTS, impossible_here, inject
from tests.chaos.invariants import look, overtaken, rest
from tests.chaos.leaks import find_leaks
from tests.chaos.load import Load
from tests.chaos.system import ChaosSystem, left_processes, run_system

#: Between the recovery from one fault and the next one.
BETWEEN_S = (0.2, 3.0)
SHORT = {"lease_s": 5.0, "renew_s": 1.0, "reconcile_s": 1.0}
DEFAULTS = {"lease_s": 60.0, "renew_s": 10.0, "reconcile_s": 30.0}
KEPT_LOGS = results.FILE.parent / "logs"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 where all invariants held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--fault", help=f"one of: {', '.join(FAULTS)}")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--restored-age", type=float, default=180.0)
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(arguments)
    if options.table:
        print(results.table(results.read()))
        return 0
    if options.fault is not None and options.fault not in FAULTS:
        parser.error(f"fault {options.fault!r} is not known; one of: {', '.join(FAULTS)}")
    if options.fault is not None and (reason := impossible_here(options.fault)):
        print(f"skipped: {options.fault}: {reason}")
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    clockwork = DEFAULTS if options.defaults else SHORT
    print(f"seed {seed}, lease {clockwork['lease_s']:g} s", flush=True)
    with run_system(**clockwork, restored_age_s=options.restored_age) as system:
        try:
            part = run_part(system, options, seed)
        except BaseException:
            traceback.print_exc()
            keep_logs(system, seed)
            raise
        if part.lost or part.doubled or part.wrong or part.other:
            keep_logs(system, seed)
    part.other.extend(f"process {left} is left" for left in left_processes(system.folder))
    results.append(part)
    print(results.table([part]))
    for word, found in (
        ("lost", part.lost),
        ("doubled", part.doubled),
        ("wrongly promoted", part.wrong),
        ("found", part.other),
    ):
        for one in found:
            print(f"{word}: {one}")
    return 1 if part.lost or part.doubled or part.wrong or part.other else 0


def run_part(system: ChaosSystem, options: argparse.Namespace, seed: int) -> results.Part:
    """Faults until they are enough, then rest, then a look."""
    rng = random.Random(seed)
    recoveries: list[float] = []
    possible = [name for name in FAULTS if not impossible_here(name)]
    began = time.monotonic()
    # A lease has to run out, a reconciler to pass, a start to come back from a dead worker (70 s).
    within_s = 120.0 + 3 * system.settings.lease_s
    with Load(system, random.Random(rng.getrandbits(64))) as load:
        while True:
            elapsed_s = time.monotonic() - began
            if options.minutes is not None and elapsed_s > 60 * options.minutes:
                break
            if options.minutes is None and len(recoveries) >= options.times:
                break
            time.sleep(rng.uniform(*BETWEEN_S))
            name = options.fault or rng.choice(possible)
            recoveries.append(inject(name, system, load, rng, within_s=within_s))
            print(f"{elapsed_s:7.1f} s  {name}: recovered after {recoveries[-1]:.1f} s", flush=True)
    found = look(system, load, until=rest(system))
    back = overtaken(system)
    print(f"{len(back)} runs came back to a queue; younger ones before one: at most {max(back.values(), default=0)}")
    return results.Part(
        fault=options.fault or "all of these, mixed",
        seed=seed,
        lease_s=system.settings.lease_s,
        recoveries_s=[round(seconds, 2) for seconds in recoveries],
        n_accepted=found.n_accepted,
        lost=list(found.lost),
        doubled=list(found.doubled),
        wrong=list(found.wrong),
        other=[*found.other, *find_leaks(system)],
    )


def keep_logs(system: ChaosSystem, seed: int) -> Path:
    """Logs of everybody, for whoever looks into a finding."""
    place = KEPT_LOGS / f"seed-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(system.place / "log", place)
    for log in system.place.glob("*.log"):
        shutil.copy(log, place)
    print(f"logs: {place}", flush=True)
    return place


if __name__ == "__main__":
    sys.exit(main())
