"""`python -m tests.security.fuzz`: many requests and messages at the whole system, and what should not have happened.

    --requests N      requests to the page and the prediction service (10,000)
    --messages N      messages into the workers' queues and control channels (2,000)
    --seed S          the same seed asks the same

Exit code 1 where something was found. At the end everything that was written is searched for the system's secrets.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.chaos.leaks import find_leaks
from tests.security.fuzz.messages import fuzz_messages
from tests.security.fuzz.routes import fuzz_routes
from tests.security.fuzz.system import fuzzed_system


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    began = time.monotonic()

    def progress(words: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {words}", flush=True)

    print(f"seed {seed}", flush=True)
    found: list[str] = []
    with fuzzed_system() as fuzzed:
        progress("the system is up, and two strategies have been through the loop")
        if options.requests:
            findings = fuzz_routes(fuzzed, n=options.requests, seed_=seed, progress=progress)
            progress(f"{findings.n_asked:,} requests: {dict(sorted(findings.statuses.items()))}")
            found += findings.found.values()
        if options.messages:
            sent = fuzz_messages(fuzzed, n=options.messages, seed_=seed, progress=progress)
            progress(f"{sent.n:,} messages: {dict(sent.kinds)}; {len(sent.unreadable):,} could not be read")
            found += sent.found
        found += find_leaks(fuzzed.system, fuzzed.secrets)
    for one in found:
        print(f"found: {one}")
    print(f"{len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
