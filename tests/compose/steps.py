"""What `make compose-test` does with a project, in order; each step raises NotHeld where a promise is not kept."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import date, timedelta
from functools import partial
from types import TracebackType
from typing import Self

import requests

from config.settings import ROOT
from mlops.domain.run_states import SUCCESSES, TERMINAL
from tests.compose.project import REPLICATED, NotHeld, Project, run, say
from tests.support.admin import HTML, JSON, hidden
from tests.support.manifests import is_secret

_SUBMIT = """
import json, sys
from datetime import date
from config.settings import load_settings
from mlops.domain.records import Kind
from mlops.runs.request import run_request, submit
from tasks.services import connect

services, slot, as_of = connect(load_settings()), sys.argv[1], date.fromisoformat(sys.argv[2])
print(json.dumps([
    submit(services, run_request(services.policies, name, Kind.RETRAIN, reason="compose-test",
                                 requested_by="compose-test", slot=slot, as_of=as_of)).run_id
    for name in services.strategies
]))
"""
TWO_OF_EACH = [part for name in REPLICATED for part in ("--scale", f"{name}=2")]
_slots = itertools.count()


def everything(project: Project) -> None:
    """The demo from nothing, two of each role, faults, no secret shown."""
    start(project)
    figures(project)
    no_secret_is_shown(project)
    training_worker_killed(project)
    network_disconnected(project)
    servers_restarted(project)
    project.until(project.all_healthy, "all healthy at the end")


def start(project: Project) -> None:
    """`--profile demo up` reaches all healthy, with two of each role, too, and the loop has run."""
    project.compose("--profile", "demo", "up", "-d", "--no-build")
    project.until(lambda: _exit_code(project, "demo") is not None, "the demo has ended", within_s=1800)
    if _exit_code(project, "demo") != 0:
        raise NotHeld(f"the demo ended with {_exit_code(project, 'demo')}")
    project.until(project.all_healthy, "all healthy")
    project.compose("up", "-d", "--no-build", "--no-recreate", *TWO_OF_EACH)
    project.until(project.all_healthy, "all healthy, two of each role", within_s=600)
    promoted = project.sql("SELECT count(*) FROM mlops_champion WHERE version IS NOT NULL")[0][0]
    say(f"{len(project.containers())} containers, {promoted} champions")
    if int(promoted) < 1:
        raise NotHeld("the demo promoted nothing")


def _exit_code(project: Project, service: str) -> int | None:
    found = [one["State"] for one in project.containers(service)]
    return int(found[0]["ExitCode"]) if found and found[0]["Status"] == "exited" else None


def figures(project: Project) -> None:
    """Say how long the demo's stages took, and what memory each container has after it (docs/operations.md, "Size")."""
    took = (
        "round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - claimed_at))::numeric, 2)"
    )
    for row in project.sql(f"SELECT stage, count(*), {took} FROM mlops_stage WHERE state = 'succeeded' GROUP BY stage"):
        say(f"figures: {row[1]} stages {row[0]}, median {row[2]} s")
    running = [one["Id"] for one in project.containers() if one["State"]["Running"]]
    for line in sorted(
        run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *running).splitlines()
    ):
        say(f"figures: {line}")


def no_secret_is_shown(project: Project) -> None:
    """`docker inspect` of no container has the value of a secret."""
    secret = {path.read_text(encoding="utf-8") for path in (project.folder / "secrets").glob("*/*")}
    secret |= {value for name, value in project.env.items() if is_secret(name)}
    for one in project.containers():
        if any(value in str(one) for value in secret):
            raise NotHeld(f"docker inspect {one['Name']} shows a secret")
    say("no container shows a secret")


def submitted(project: Project) -> set[str]:
    """Ids of a run for each strategy that were accepted."""
    number = next(_slots)
    as_of = date(2019, 3, 1) + timedelta(days=7 * number)
    asked = ("--entrypoint", "python", "tools", "-c", _SUBMIT, f"compose-test {number}", as_of.isoformat())
    answer = project.compose("--profile", "tools", "run", "--rm", "-T", *asked)
    return set(_ids(answer))


def _ids(answer: str) -> list[str]:
    return [part for part in answer.strip().splitlines()[-1].strip('[]"').replace('"', "").split(", ") if part]


def all_ended(project: Project, runs: set[str], what: str) -> None:
    """Every run is there and came to a good end."""
    states: dict[str, str] = {}

    def have_ended() -> bool:
        states.update({row[0]: row[1] for row in project.sql("SELECT run_id, state FROM mlops_run")})
        return all(states.get(one) in TERMINAL for one in runs)

    project.until(have_ended, f"{len(runs)} runs have ended {what}", within_s=400)
    bad = {one: states[one] for one in runs if states[one] not in SUCCESSES}
    if bad:
        raise NotHeld(f"runs were lost {what}: {bad}")


def training_worker_killed(project: Project) -> None:
    """The main process of a worker that trains is killed as for lack of memory: it starts again, its run goes on."""
    if not any(_a_training_is_killed(project) for _ in range(5)):
        raise NotHeld("no training was killed in five tries")


def _a_training_is_killed(project: Project) -> bool:
    """Whether a training was cut off, and made in a second attempt; it may have ended just before the kill."""
    runs = submitted(project)
    held: list[list[str]] = []
    project.until(lambda: bool(held.extend(_trainings(project)) or held), "a training runs", within_s=120)
    run_id, host = held[0]
    (worker,) = (one["Id"] for one in project.containers("train-cpu") if one["Config"]["Hostname"] == host)
    before = _started(worker)
    run("docker", "exec", worker, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)", is_checked=False)
    project.until(lambda: _started(worker) > before and _runs(worker), "the killed worker runs again", within_s=60)
    all_ended(project, runs, "after a killed worker")
    attempts = project.sql(f"SELECT attempt FROM mlops_stage WHERE stage = 'train' AND run_id = '{run_id}'")[0][0]
    say(f"the training took {attempts} attempts")
    return int(attempts) > 1


def _trainings(project: Project) -> list[list[str]]:
    """Run and host of each training that is held; a worker is named ROLE@HOST.RANDOM."""
    return project.sql(
        "SELECT run_id, substring(worker FROM '@(.*)[.][^.]*$') FROM mlops_stage "
        "WHERE stage = 'train' AND state = 'running'"
    )


def _started(container: str) -> str:
    return run("docker", "inspect", "--format", "{{.State.StartedAt}}", container).strip()


def _runs(container: str) -> bool:
    return run("docker", "inspect", "--format", "{{.State.Running}}", container).strip() == "true"


def network_disconnected(project: Project) -> None:
    """Both drift workers lose the broker for ten seconds and more, over stages of theirs that run and that wait."""
    runs = submitted(project)
    network = f"{project.name}_broker"
    cut_off = [project.one("drift", index) for index in (0, 1)]
    for one in cut_off:
        run("docker", "network", "disconnect", network, one)
    begun = project.sql("SELECT now()")[0][0]
    runs |= submitted(project)
    time.sleep(10)
    ended = project.sql("SELECT now()")[0][0]
    for one in cut_off:
        run("docker", "network", "connect", network, one)
    all_ended(project, runs, "after a network that was cut off")
    met, ran = project.sql(
        f"SELECT count(*), count(*) FILTER (WHERE claimed_at < '{ended}') FROM mlops_stage "
        f"WHERE stage = 'drift' AND queued_at < '{ended}' AND finished_at > '{begun}'"
    )[0]
    say(f"the cut met {met} drift stages, of which {ran} ran in it")
    if met == "0":
        raise NotHeld("no drift stage ran or waited while the network was cut")


def servers_restarted(project: Project) -> None:
    """PostgreSQL and Redis are killed and started again while runs are under way."""
    runs = submitted(project)
    for name in ("redis", "postgres"):
        container = project.one(name)
        run("docker", "kill", container)
        run("docker", "start", container)
    all_ended(project, runs | submitted_patiently(project), "after restarts of PostgreSQL and Redis")


def submitted_patiently(project: Project) -> set[str]:
    """As `submitted`, by servers that come up just now."""
    found: set[str] = set()

    def is_accepted() -> bool:
        found.update(submitted(project))
        return True

    project.until(is_accepted, "runs are accepted again", within_s=120)
    return found


# ---- Rolling upgrade

LONGEST_FAULT_S = 1.0
"""Of the page, which nobody notices."""
ROLLED = ("mlflow", "control", "drift", "train-cpu", "promote", "beat", "reconciler", "serve", "admin", "flower")


def upgrade(project: Project, tag: str) -> None:
    """From the release that runs to this tree's with the image of `tag`, one container at a time, and back."""
    former = (project.root, project.tag)
    project.compose("up", "-d", "--no-build", *TWO_OF_EACH)
    project.until(project.all_healthy, "the release before is healthy", within_s=600)
    owner = ("--entrypoint", "python", "migrate", "-c")
    project.compose("run", "--rm", "-T", *owner, _SAMPLE)
    for words, (root, named) in (("the upgrade", (ROOT, tag)), ("the way back", former)):
        runs = submitted(project)
        with PageWatch(project.admin_ports, project.env["ACIS_ADMIN_AUTH"]) as page:
            project.root, project.tag = root, named
            roll(project)
            runs |= submitted_patiently(project)
            all_ended(project, runs, f"after {words}")
        project.until(project.all_healthy, f"all healthy after {words}")
        say(f"{words}: {page.answers} answers of the page; its longest fault was {page.longest_s:.1f} s {page.fault}")
        if page.longest_s > LONGEST_FAULT_S or not page.answers:
            raise NotHeld(f"the page was away for {page.longest_s:.1f} s in {words}: {page.fault}")


_SAMPLE = """
import os
from config.settings import load_settings
from mlops.features.sample import RELATION, load_sample
from mlops.ledger.grants import let_features_be_read
url = load_settings().database_url.get_secret_value()
load_sample(url)
let_features_be_read(url, RELATION)
"""


def roll(project: Project) -> None:
    """docs/compose.md, "Upgrade": the servers, the tables, then each role's containers, one after the other."""
    for name in ("postgres", "redis"):
        project.compose("up", "-d", "--no-deps", name)
    for name in ("server-users", "migrate"):
        project.until(partial(_runs_well, project, name), f"{name} has run", 120)
    for name in ROLLED:
        old = [one["Id"] for one in project.containers(name)]
        for container in old:
            run("docker", "stop", container)
            run("docker", "rm", container)
            count = f"{name}={len(old)}"
            project.compose("up", "-d", "--no-build", "--no-deps", "--no-recreate", "--scale", count, name)
            project.until(partial(_healthy, project, name), f"{name} is healthy")


def _runs_well(project: Project, one_shot: str) -> bool:
    project.compose("run", "--rm", "-T", one_shot)
    return True


def _healthy(project: Project, service: str) -> bool:
    return all(one["State"].get("Health", {}).get("Status") == "healthy" for one in project.containers(service))


class PageWatch:
    """Asks for the overview, signed in, five times a second, at whichever of two ports answers, as a proxy would.

    ports : of the two pages    auth : `name:password`    Raises NotHeld where nobody can sign in.
    """

    def __init__(self, ports: tuple[int, int], auth: str) -> None:
        self._pages = [f"http://127.0.0.1:{port}" for port in ports]
        self._session = requests.Session()
        name, _, password = auth.partition(":")
        form = self._session.get(f"{self._pages[0]}/admin/sign-in", headers=HTML, timeout=30).text
        fields = {"csrf": hidden(form, "csrf"), "name": name, "password": password}
        self._session.post(f"{self._pages[0]}/admin/sign-in", data=fields, headers=HTML, timeout=30)
        if not all(self._answers(page) for page in self._pages):
            raise NotHeld(f"nobody can sign in at the page: {self.fault}")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="page", daemon=True)
        self.longest_s, self.answers, self.fault = 0.0, 0, ""

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End."""
        self._closing.set()
        self._thread.join()
        self._session.close()

    def _watch(self) -> None:
        since: float | None = None  # an answer that takes long is none that is missing
        while not self._closing.wait(0.2):
            for _ in self._pages:
                begun = time.monotonic()
                is_answer = self._answers(self._pages[0])
                since = begun if since is None else since
                self.longest_s = max(self.longest_s, (begun if is_answer else time.monotonic()) - since)
                if is_answer:
                    since, self.answers = None, self.answers + 1
                    break
                self._pages.reverse()  # the one that answered last is asked first

    def _answers(self, page: str) -> bool:
        try:
            answer = self._session.get(f"{page}/admin/", headers=JSON, timeout=5, allow_redirects=False)
        except requests.RequestException as exc:
            self.fault = f"{page}: {exc}"
            return False
        if answer.status_code != 200:
            self.fault = f"{page}: {answer.status_code} {answer.text[:200]}"
        return answer.status_code == 200
