"""The roles on three hosts with addresses of their own: one of them is cut off in the middle of a training, and healed.

Hosts are network namespaces with names of their own: `ledger`, this machine's, has the servers and the roles that train
nothing; `north` and `south` have a training worker each, and `north` the drift worker, too. They share the folder of the
checkpoints, as by NFS, and nothing else. Needs root; elsewhere it is skipped.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from sqlalchemy import make_url

from mlops.domain.records import Kind, RunState, StageState
from mlops.domain.run_states import TERMINAL
from tests.chaos.proxy import FaultyProxy
from tests.chaos.system import LOADED, LONG, ChaosSystem, own_environment
from tests.chaos.test_survival import ask, digest, ended, training
from tests.support.processes import Role
from tests.support.waiting import wait_for

CUT_OFF_S = 60.0
_NET = "10.213.77"
_LEDGER = f"{_NET}.1"
_BRIDGE = "acis-hosts"
HOSTS = {"north": f"{_NET}.2", "south": f"{_NET}.3"}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def network() -> Iterator[None]:
    """A bridge with this machine's address of it, and a namespace for each host behind a cable."""
    with ExitStack() as stack:

        def made(undo: tuple[str, ...], *arguments: str) -> None:
            ip(*arguments)
            stack.callback(ip, *undo)

        try:
            made(("link", "delete", _BRIDGE), "link", "add", _BRIDGE, "type", "bridge")
            ip("address", "add", f"{_LEDGER}/24", "dev", _BRIDGE)
            ip("link", "set", _BRIDGE, "up")
            for host, address in HOSTS.items():
                made(("netns", "delete", namespace(host)), "netns", "add", namespace(host))
                made(
                    ("link", "delete", cable(host)),
                    *("link", "add", cable(host), "type", "veth", "peer", "name", "eth0", "netns", namespace(host)),
                )
                ip("link", "set", cable(host), "master", _BRIDGE, "up")
                ip("-n", namespace(host), "address", "add", f"{address}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    ip("-n", namespace(host), "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError) as exc:
            pytest.skip(f"no network namespaces can be made here: {getattr(exc, 'stderr', '') or exc}")
        yield


def namespace(host: str) -> str:
    return f"acis-{host}"


def cable(host: str) -> str:
    return f"acis-{host}"


@pytest.fixture(scope="module")
def hosts(system: ChaosSystem) -> Iterator[Mapping[str, Role]]:
    """The training worker of each host; workers of the same roles in the system's own network are stopped meanwhile."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with ExitStack() as stack:
        stack.enter_context(network())
        ports = {
            proxied.port: stack.enter_context(FaultyProxy(server.port, host=_LEDGER)).port
            for proxied, server in zip(
                (system.servers.redis_proxy, system.servers.postgres_proxy, system.servers.mlflow_proxy),
                (system.servers.redis, system.servers.postgres, system.servers.mlflow),
                strict=True,
            )
        }
        ours = [*system.roles.of("train.cpu"), *system.roles.of("drift")]
        stack.enter_context(system.roles.held_back(ours))
        processes = [psutil.Process(role.pid) for role in ours]
        for process in processes:
            process.terminate()
        psutil.wait_procs(processes, timeout=20)
        trainers = {host: on_host(system, ports, host, "train.cpu") for host in HOSTS}
        roles = [*trainers.values(), on_host(system, ports, "north", "drift")]
        stack.enter_context(system.roles.joined_by(roles))
        for role in roles:
            wait_for(lambda role=role: is_alive(system, role), f"{role.name} answers", within_s=90.0)
        yield trainers


def on_host(system: ChaosSystem, ports: Mapping[int, int], host: str, kind: str) -> Role:
    """A role that reaches the servers at their host's address, and writes into a folder of its own."""

    def moved(value: str) -> str:
        if "://" not in value:
            return value
        url = make_url(value)
        return url.set(host=_LEDGER, port=ports[url.port or 0]).render_as_string(hide_password=False)

    own = {name: moved(value) for name, value in own_environment(kind, system.settings, system.servers).items()}
    places = {"ACIS_VAR_DIR": str(system.folder / host), "ACIS_CHECKPOINT_URL": system.settings.checkpoint_place}
    named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host)
    return Role(arguments=(kind, host), own={**own, **places}, wrapper=("ip", "netns", "exec", namespace(host), *named))


def is_alive(system: ChaosSystem, role: Role) -> bool:
    seen = system.services.ledger.workers(within_s=system.settings.reconcile_s * 5)
    return any(one.name.startswith(f"{role.name}@{role.arguments[1]}.") for one in seen)


def host_of(worker: str | None) -> str:
    """`south` of `train.cpu-south@south.1a2b3c4d`."""
    return str(worker).partition("@")[2].partition(".")[0]


def test_the_loop_goes_across_hosts(system: ChaosSystem, hosts: Mapping[str, Role]) -> None:
    run_id = ask(system, LOADED[1], Kind.PIPELINE)
    view = ended(system, run_id, within_s=180.0)
    assert view.state in (RunState.SUCCEEDED, RunState.REFUSED), view.outcome
    by_stage = {stage.stage.value: host_of(stage.worker) for stage in view.stages}
    assert by_stage["drift"] == "north"
    assert by_stage["train"] in HOSTS
    assert by_stage["promote"] not in HOSTS


def test_a_training_goes_on_elsewhere_while_its_host_is_cut_off_and_counts_once(
    system: ChaosSystem, hosts: Mapping[str, Role]
) -> None:
    run_id = ask(system, LONG)
    wait_for(training(system, run_id, share=0.3), "the training runs", within_s=120.0, every_s=0.02)
    ledger = system.services.ledger
    first = host_of(ledger.run(run_id).stages[-1].worker)
    ip("link", "set", cable(first), "down")
    began = time.monotonic()
    try:
        view = ended(system, run_id, within_s=180.0)
        wait_for(
            lambda: time.monotonic() - began > CUT_OFF_S, "the host was cut off for a minute", within_s=CUT_OFF_S + 5
        )
    finally:
        ip("link", "set", cable(first), "up")
    (stage,) = view.stages
    assert (view.state, stage.state) == (RunState.SUCCEEDED, StageState.SUCCEEDED)
    assert host_of(stage.worker) == next(host for host in HOSTS if host != first)
    assert (stage.result or {})["resumed_from"]
    wait_for(lambda: is_alive(system, hosts[first]), "the host is back", within_s=120.0)
    # What it did meanwhile was refused: the ledger's word is the other host's, and there is one version of the run.
    assert ledger.run(run_id).stages[-1].worker == stage.worker
    assert digest(system, run_id)


def test_a_host_that_was_cut_off_trains_again(system: ChaosSystem, hosts: Mapping[str, Role]) -> None:
    runs = [ask(system, name, Kind.TRAIN) for name in LOADED[2:6]]
    wait_for(
        lambda: all(system.services.ledger.run(run_id).state in TERMINAL for run_id in runs), "all end", within_s=240.0
    )
    workers = {host_of(system.services.ledger.run(run_id).stages[0].worker) for run_id in runs}
    assert workers == set(HOSTS)
