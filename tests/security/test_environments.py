"""Each role's environment holds what `config.roles.ACCESS` says and no more, on every platform."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from config.roles import (
    ACCESS,
    DATABASE_USERS,
    OBJECT_STORE,
    SECRETS,
    SERVER_PASSWORDS,
    TRACE_HEADERS,
    password_variable,
)
from config.settings import ROOT
from devstack.layout import Layout
from devstack.plan import ROLES, StackOptions, role_of
from devstack.ports import choose_port
from devstack.secrets import Secrets, ensure_secrets, env_lines, role_files
from devstack.stack import Stack, remove_var, stop_running
from tests.support.compose_file import MLFLOW_NAME, NAME, compose_services
from tests.support.kubernetes_files import secret_keys
from tests.support.servers import origin
from tests.support.waiting import wait_for

IN_MANIFESTS = frozenset(SECRETS) - {"MLFLOW_TRACKING_URI"}
"""The address holds no password there: name and password have variables of their own."""
_PASSWORD = re.compile(r"\$\{\w*(?:PASSWORD|AUTH|KEY|TOKEN|HEADERS)\w*")


def expected(role: str) -> set[str]:
    return set(ACCESS[role].variables & IN_MANIFESTS)


# ---- Compose


def role_of_service(name: str, service: dict[str, Any]) -> str:
    return name if service.get("entrypoint") else service["command"][0]


def secrets_of(service: dict[str, Any]) -> str:
    """Container of `role_files` whose folder the service mounts."""
    (mounted,) = (one for one in service["volumes"] if isinstance(one, dict))
    return str(mounted["source"]).rpartition("}/")[2]


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, str]]:
    """What `make secrets` writes for each container."""
    return role_files(dict(line.split("=", 1) for line in env_lines()))


SPECIAL = {"server-users": "server-users", "database-users": "database-users", "sample": "migrate", "demo": "tools"}
"""Our containers that are no role, and whose secrets they have."""


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in (NAME, MLFLOW_NAME):
        for name, service in compose_services(ROOT, file).items():
            if service["image"].startswith("acis-mlops"):
                yield role_of_service(name, service), service


def test_compose_gives_each_role_its_own_secrets_alone(files: dict[str, dict[str, str]]) -> None:
    assert {role for role, _ in ours()} - set(SPECIAL) == set(ACCESS)
    for role, service in ours():
        assert secrets_of(service) == SPECIAL.get(role, role)
    for role in ACCESS:
        # Name and address are no secrets here; the keys of an object store are there where .env has them.
        assert set(files[role]) == expected(role) - {"MLFLOW_TRACKING_USERNAME", *OBJECT_STORE}, role


def test_compose_names_the_user_of_each_role_in_its_urls(files: dict[str, dict[str, str]]) -> None:
    for role, service in ours():
        if role in SPECIAL or role == "mlflow":
            continue
        access = ACCESS[role]
        users = {
            variable: files[role][variable].partition("://")[2].partition(":")[0]
            for variable in ("DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")
            if variable in files[role]
        }
        named = {
            "DATABASE_URL": access.database,
            "CELERY_BROKER_URL": access.redis,
            "CELERY_RESULT_BACKEND": access.redis,
        }
        assert users == {variable: user for variable, user in named.items() if user is not None}, role
        assert service["environment"].get("MLFLOW_TRACKING_USERNAME") == access.mlflow, role


def test_no_password_of_compose_is_in_a_containers_environment() -> None:
    for file in (NAME, MLFLOW_NAME):
        for name, service in compose_services(ROOT, file).items():
            given = service.get("environment", {})
            shown = {one for one, value in given.items() if one in IN_MANIFESTS or _PASSWORD.search(str(value or ""))}
            assert shown <= {"MLFLOW_TRACKING_USERNAME"}, name


def test_the_keys_of_an_object_store_reach_those_alone_that_use_it() -> None:
    values = dict(line.split("=", 1) for line in env_lines()) | dict.fromkeys(OBJECT_STORE, "k")
    found = role_files(values)
    assert {name for name, given in found.items() if set(OBJECT_STORE) <= set(given)} == {
        role for role, access in ACCESS.items() if access.object_store
    }


def test_the_headers_of_traces_reach_every_role_as_a_file_where_there_are_any() -> None:
    values = dict(line.split("=", 1) for line in env_lines()) | {TRACE_HEADERS: "x-key=k"}
    found = role_files(values)
    assert {name for name, given in found.items() if TRACE_HEADERS in given} == set(ACCESS) - {"mlflow"}


def test_mlflow_alone_is_given_no_password_of_redis(files: dict[str, dict[str, str]]) -> None:
    assert not [name for name in files["database-users"] if name.startswith(("REDIS", "CELERY"))]
    assert set(files["database-users"]) == {"DATABASE_URL", *map(password_variable, DATABASE_USERS)}


def test_what_compose_shares_between_services_holds_no_secret() -> None:
    shared = yaml.safe_load((ROOT / NAME).read_text(encoding="utf-8"))["x-acis"]["environment"]
    assert not set(shared) & IN_MANIFESTS
    assert not [value for value in shared.values() if _PASSWORD.search(str(value))]


# ---- Kubernetes

IN_PLACE_OF = {"drift-check": "beat"}
"""The CronJob's container: the role whose work it does, and whose secrets it has."""


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in ("base", "components/gpu", "components/cronjob"):
        for path in sorted((ROOT / "k8s" / folder).glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                spec = document.get("spec", {})
                template = spec.get("jobTemplate", {}).get("spec", spec).get("template", {})
                for container in template.get("spec", {}).get("containers", []):
                    yield container["name"] if container.get("command") else container["args"][0], template


def test_kubernetes_gives_each_role_its_own_secrets_alone() -> None:
    found = dict(pods())
    assert set(found) == {*ACCESS, *IN_PLACE_OF}
    for name, template in found.items():
        role = IN_PLACE_OF.get(name, name)
        references = list(secret_keys(template["spec"]))
        own = f"acis-{role.removesuffix('.cpu').removesuffix('.gpu')}"
        assert {secret for secret, _, _ in references} == {own}, name
        assert {key for _, key, _ in references} == expected(role), name


def test_kubernetes_gives_nobody_a_whole_secret_and_none_as_a_variable() -> None:
    for role, template in pods():
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            assert not [one for one in container.get("envFrom", []) if "secretRef" in one], role
            assert not [one for one in container.get("env", []) if "secretKeyRef" in one.get("valueFrom", {})], role


def test_the_network_lets_each_role_reach_what_it_may_reach() -> None:
    for role, template in pods():
        access, labels = ACCESS[IN_PLACE_OF.get(role, role)], template["metadata"]["labels"]
        reached = {
            "postgres": access.database is not None or access.features or role == "mlflow",
            "redis": access.redis is not None,
            "mlflow": access.mlflow is not None,
            "object-store": access.object_store,
        }
        named = {name.removeprefix("acis-reaches-") for name in labels if name.startswith("acis-reaches-")}
        assert named == {server for server, may in reached.items() if may}, role


# ---- make run, by its running processes


@dataclass(frozen=True, kw_only=True)
class Running:
    environments: dict[str, dict[str, str]]
    """By program, as the kernel shows them."""
    raw: dict[str, bytes]
    secrets: Secrets


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """All programs of `make run`, started from a shell that holds secrets of its own; none need be up."""
    with tempfile.TemporaryDirectory(prefix="acis-test-environments-") as folder, pytest.MonkeyPatch.context() as patch:
        for name in (SECRETS | SERVER_PASSWORDS) - {"MLFLOW_TRACKING_URI", "ACIS_FEATURE_SOURCE"}:
            patch.setenv(name, "of the shell")
        var = Path(folder) / "var"
        options = StackOptions(
            var_dir=var,
            strategies_file=ROOT / "config" / "strategies_sample.toml",
            origin=origin(),
            **{f"{name}_port": choose_port() for name in ("mlflow", "flower", "admin", "serve")},  # type: ignore[arg-type]
        )
        stack = Stack(options)
        try:
            stack.start()
            yield look(stack, ensure_secrets(var)[0])
        finally:
            stack.stop()
            stop_running(Layout(var_dir=var))
            remove_var(Layout(var_dir=var))


def look(stack: Stack, secrets: Secrets) -> Running:
    supervisor, plan, _ = stack._running()

    def started() -> dict[str, int]:
        return {name: state.pid for name, state in supervisor.states().items() if state.pid}

    def have_become_themselves() -> bool:
        try:
            lines = [psutil.Process(pid).cmdline() for pid in started().values()]
        except psutil.NoSuchProcess:
            return False
        return len(lines) == len(plan.programs) and not any("devstack.launch" in line for line in lines)

    wait_for(have_become_themselves, "all programs run", within_s=60)
    raw: dict[str, bytes] = {}

    def are_read() -> bool:
        """A process that becomes another one just now shows nothing for a moment."""
        raw.update({name: Path(f"/proc/{pid}/environ").read_bytes() for name, pid in started().items()})
        return all(b"ACIS_VAR_DIR=" in content for name, content in raw.items() if role_of(name) in ACCESS)

    wait_for(are_read, "the environments can be read", within_s=60)
    pairs = {
        name: dict(part.split("=", 1) for part in content.decode(errors="replace").split("\0") if "=" in part)
        for name, content in raw.items()
    }
    return Running(environments=pairs, raw=raw, secrets=secrets)


def test_each_running_role_is_given_its_own_secrets_alone(running: Running) -> None:
    assert {role_of(name) for name in running.environments} >= set(ROLES)
    for name, environment in running.environments.items():
        role = role_of(name)
        if role in ACCESS:
            given = set(environment) & (SECRETS | SERVER_PASSWORDS)
            # Those of an object store are the shell's, where there is one.
            assert given == set(ACCESS[role].variables), name
            assert {one for one in given if environment[one] == "of the shell"} <= {*OBJECT_STORE}, name


def test_no_process_holds_the_password_of_another_role(running: Running) -> None:
    passwords = {
        **running.secrets.database_passwords,
        **{f"redis {user}": value for user, value in running.secrets.redis_passwords.items()},
        "postgres": running.secrets.postgres_password,
        "redis": running.secrets.redis_password,
        "flower": running.secrets.flower_password,
        "admin": running.secrets.admin_password,
        "supervisor": running.secrets.supervisor_password,
    }
    for name, content in running.raw.items():
        held = {whose for whose, password in passwords.items() if password.encode() in content}
        access = ACCESS.get(role_of(name))
        assert held == (_allowed(role_of(name)) if access else set()), name


def _allowed(role: str) -> set[str]:
    access = ACCESS[role]
    own = {"flower": {"flower"}, "admin": {"admin"}, "mlflow": {"acis_mlflow"}}.get(role, set())
    return {
        *({access.database} if access.database else ()),
        *({"acis_features"} if access.features else ()),
        *({f"redis {access.redis}"} if access.redis else ()),
        *own,
    }


def test_the_database_and_the_broker_get_no_secret_of_the_shell(running: Running) -> None:
    for name in ("redis", "postgres"):
        assert b"of the shell" not in running.raw[name]


def test_the_table_gives_flower_no_database_and_beat_no_registry() -> None:
    assert "DATABASE_URL" not in expected("flower")
    assert expected("beat") == {"DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}
