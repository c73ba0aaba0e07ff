"""`make compose-test`: the Dockerfile is built and docker-compose.yml run as they are, with faults, and nothing is left.

    python -m tests.compose [--image TAG] [--from COMMIT]

    --image     use this image of ours instead of building one
    --from      begin with the image and the Compose file of that commit, upgrade under load as docs/operations.md says,
                and go back

Wants a container engine (`docker`) and Compose: `docker compose` or `docker-compose`, or what COMPOSE names. Where there
is no engine, it says what was not checked and is skipped (exit code 0), or fails where COMPOSE_TEST=required. Ports are free ones, secrets throw-away ones, and the project's name
is a random one, so whatever else runs here is left alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from config.settings import ROOT
from tests.compose.project import NotHeld, Project, built_image, checkout, engine_fault, networks, run
from tests.compose.steps import everything, upgrade

REQUIRED = "COMPOSE_TEST"
"""`required` in this variable: a machine without an engine fails, and does not skip."""


def main() -> int:
    """Exit code: 0 where all of it held, or there is no engine; 1 where something did not, 2 for a wrong --from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", metavar="TAG", help="tag of acis-mlops; without it one is built")
    parser.add_argument("--from", dest="before", metavar="COMMIT", help="also upgrade from there, and back")
    options = parser.parse_args()
    fault = engine_fault()
    if fault:
        is_required = os.environ.get(REQUIRED) == "required"
        sys.stdout.write(
            f"{'FAILED' if is_required else 'SKIPPED'} compose-test: {fault}. Not checked: that the image builds, that "
            "docker-compose.yml comes up and runs the loop, that faults lose no run, that no secret is shown\n"
        )
        return int(is_required)
    if options.before and (words := _why_not_from(options.before)):
        parser.error(words)
    with ExitStack() as last:
        folder = Path(last.enter_context(tempfile.TemporaryDirectory(prefix="acis-compose-")))
        tag = options.image or last.enter_context(built_image(ROOT))
        with Project(folder, tag=tag) as project:
            everything(project)
        if options.before:
            root = last.enter_context(checkout(options.before))
            former = last.enter_context(built_image(root))
            with Project(folder, tag=former, root=root) as project:
                upgrade(project, tag)
    sys.stdout.write("compose-test: all of it held\n")
    return 0


def _why_not_from(commit: str) -> str:
    """Why no rolling upgrade from there is possible; empty where one is."""
    try:
        file = run("git", "show", f"{commit}:docker-compose.yml")
    except NotHeld as exc:
        return f"--from {commit}: {exc}"
    if networks(file) == networks((ROOT / "docker-compose.yml").read_text(encoding="utf-8")):
        return ""
    return (
        f"--from {commit}: its docker-compose.yml has PostgreSQL and Redis on other networks, so its containers cannot go "
        'on beside new ones; that upgrade stops the roles (docs/operations.md, "Upgrade from before")'
    )


if __name__ == "__main__":
    sys.exit(main())
