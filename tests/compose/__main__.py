"""`make compose-test`: the Dockerfile is built and docker-compose.yml run as they are, with faults, and nothing is left.

    python -m tests.compose [--image TAG] [--from COMMIT]

    --image     use this image of ours instead of building one
    --from      begin with the image and the Compose file of that commit, upgrade under load as docs/operations.md says,
                and go back

Wants a container engine (`docker`) and Compose: `docker compose` or `docker-compose`, or what COMPOSE names. Where there
is no engine, it says so and is skipped (exit code 0). Ports are free ones, secrets throw-away ones, and the project's name
is a random one, so whatever else runs here is left alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.compose.project import Project, build_image, engine_fault
from tests.compose.steps import everything, upgrade


def main() -> int:
    """Exit code: 0 where all of it held, or there is no engine; 1 where something did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", metavar="TAG", help="tag of acis-mlops; without it one is built")
    parser.add_argument("--from", dest="before", metavar="COMMIT", help="also upgrade from there, and back")
    options = parser.parse_args()
    fault = engine_fault()
    if fault:
        sys.stdout.write(f"SKIPPED compose-test: {fault}; nothing was checked\n")
        return 0
    tag = options.image or build_image(None)
    with tempfile.TemporaryDirectory(prefix="acis-compose-") as folder:
        with Project(Path(folder), tag=tag) as project:
            everything(project)
        if options.before:
            with Project(Path(folder), tag=build_image(options.before), commit=options.before) as project:
                upgrade(project, tag)
    sys.stdout.write("compose-test: all of it held\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
