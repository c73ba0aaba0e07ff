"""Faults of the Compose files, of the Dockerfile and of .env.example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from devstack.plan import ROLES
from tests.support.manifests import COMMAND_LINE, OUR_IMAGE, PROGRAMS, Report, expect_known_variables, is_secret
from worker.__main__ import COMMANDS

NAME = "docker-compose.yml"
MLFLOW_NAME = "mlops/mlflow/docker-compose.mlflow.yml"
SHARED_NAME = "mlops/mlflow/services.yml"
FILES = (NAME, MLFLOW_NAME, SHARED_NAME)
#: ${NAME}, ${NAME:-default}, ${NAME:?message}; $$ is a dollar of the container's own shell.
_VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<kind>:?[-?+])?(?P<rest>[^}]*)\}")


def env_example(root: Path) -> dict[str, str]:
    """Names and values of .env.example, in order."""
    lines = (root / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if line.strip() and not line.startswith("#")]
    return {pair[0]: pair[1] for pair in pairs}


def compose_variables(root: Path) -> set[str]:
    """Names that the Compose files take from the environment."""
    return {match["name"] for name in FILES for match in _VARIABLE.finditer(_without_comments(root / name))}


def compose_services(root: Path, name: str = NAME) -> dict[str, dict[str, Any]]:
    """Services of a Compose file by name, with what they extend. Raises yaml.YAMLError."""
    services: dict[str, dict[str, Any]] = yaml.safe_load((root / name).read_text(encoding="utf-8"))["services"]
    return {service: _extended(root, name, services[service]) for service in services}


def _extended(root: Path, name: str, service: dict[str, Any]) -> dict[str, Any]:
    """As Compose does it: mappings and lists are joined, everything else is the nearer one's."""
    named = service.get("extends")
    if named is None:
        return service
    place = (Path(name).parent / named["file"]).as_posix() if "file" in named else name
    found = yaml.safe_load((root / place).read_text(encoding="utf-8"))["services"][named["service"]]
    base = _extended(root, place, found)
    nearer = {key: value for key, value in service.items() if key != "extends"}
    both = [key for key in ("environment", "healthcheck", "volumes") if key in base and key in nearer]
    return {**base, **nearer, **{key: _joined(base[key], nearer[key]) for key in both}}


def _joined(base: Any, nearer: Any) -> Any:
    if isinstance(base, dict) and isinstance(nearer, dict):
        return {**base, **nearer}
    return [*base, *nearer] if isinstance(base, list) and isinstance(nearer, list) else nearer


def check_compose(root: Path, report: Report) -> None:
    """Note every fault of the three files."""
    example = env_example(root)
    for name, value in example.items():
        report.expect(not value, f".env.example: {name} has a value; only names belong there")
    for file in FILES:
        for match in _VARIABLE.finditer(_without_comments(root / file)):
            name, has_default = match["name"], (match["kind"] or "").endswith("-") and bool(match["rest"])
            report.expect(name in example, f"{file}: ${{{name}}} is not in .env.example")
            report.expect(not (is_secret(name) and has_default), f"{file}: the secret {name} has a default value")
            report.expect(
                not is_secret(name), f"{file}: `docker inspect` would show {name}; it is a file of secrets/ROLE"
            )
    _check_dockerfile(root, report)
    for file in (NAME, MLFLOW_NAME):
        _check_file(root, file, report)


def _check_file(root: Path, file: str, report: Report) -> None:
    try:
        content = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        services = compose_services(root, file)
    except yaml.YAMLError as exc:
        report.faults.append(f"{file}: not YAML: {str(exc).replace(chr(10), ' ')}")
        return
    unknown = {key for key in content if not key.startswith("x-")} - {"services", "volumes", "networks"}
    report.expect(not unknown, f"{file}: {sorted(unknown)} at the top is not accepted by every Compose")
    for name, service in services.items():
        _check_service(f"{file}: {name}", name, service, services, report)
        used = set(service.get("networks", []))
        report.expect(used <= set(content["networks"]), f"{file}: {name} names a network that is not there")
    networks = content["networks"]
    for name in ("postgres", "redis"):
        inside = [networks[one] for one in services.get(name, {}).get("networks", [])]
        report.expect(
            all((one or {}).get("internal") for one in inside), f"{file}: {name} is not on inner networks alone"
        )
    if file == NAME:
        served = {_role(service) for service in services.values()}
        for role in (*ROLES, "train.gpu"):
            report.expect(role in served, f"{NAME}: no service runs the role {role}")
    report.checked.append(
        f"{file}: {len(services)} services, {len({_role(one) for one in services.values()} - {None})} roles"
    )


def _check_service(where: str, name: str, service: dict[str, Any], services: dict[str, Any], report: Report) -> None:
    expect_known_variables(report, where, service.get("environment", {}))
    for variable, value in service.get("environment", {}).items():
        literal = is_secret(variable) and value and "${" not in str(value)
        report.expect(not literal, f"{where}: the secret {variable} is written out")
    for other in service.get("depends_on", {}):
        report.expect(other in services, f"{where}: depends on {other}, which is no service")
    for port in service.get("ports", []):
        report.expect(str(port).startswith("127.0.0.1:"), f"{where}: port {port} is open to the network")
    report.expect("ALL" in service.get("cap_drop", []), f"{where}: keeps capabilities; cap_drop: [ALL]")
    report.expect("no-new-privileges:true" in service.get("security_opt", []), f"{where}: no-new-privileges is not set")
    report.expect("mem_limit" in service, f"{where}: has no memory limit")
    kept = service.get("logging", {}).get("options", {})
    report.expect({"max-size", "max-file"} <= set(kept), f"{where}: its log grows without end")
    report.expect(service.get("networks"), f"{where}: is on the default network")
    mounted = [one for one in service.get("volumes", []) if isinstance(one, dict)]
    report.expect(
        len(mounted) == 1 and mounted[0].get("read_only"), f"{where}: is not given one folder of secrets, read-only"
    )
    if not str(service.get("image", "")).startswith(f"{OUR_IMAGE}:"):
        return
    report.expect(service.get("read_only") is True, f"{where}: its root file system can be written; read_only: true")
    report.expect("user" not in service, f"{where}: does not run as the image's own user")
    report.expect("cap_add" not in service, f"{where}: asks for capabilities")
    report.expect(
        service.get("environment", {}).get("ACIS_SECRETS_DIR") == "/run/secrets", f"{where}: reads no secrets"
    )
    entrypoint, role = tuple(service.get("entrypoint", ())), _role(service)
    if entrypoint:
        known = any(entrypoint[: len(program)] == program for program in PROGRAMS.values()) or (
            # Of a person alone: no `up` starts it.
            entrypoint == COMMAND_LINE and service.get("profiles") == ["tools"]
        )
        report.expect(known, f"{where}: runs {' '.join(entrypoint)}, which is no known program")
    else:
        report.expect(role in COMMANDS, f"{where}: {role!r} is no role; one of: {', '.join(COMMANDS)}")
    if service.get("restart") != "no":
        probe = service.get("healthcheck", {}).get("test", [])
        report.expect("worker.health" in probe, f"{where}: has no healthcheck")
        if "worker.health" in probe:
            report.expect(probe[-1] == (role or name), f"{where}: its healthcheck asks for {probe[-1]!r}")


def _check_dockerfile(root: Path, report: Report) -> None:
    text = (root / "Dockerfile").read_text(encoding="utf-8")
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    report.expect(users and not users[-1].startswith(("0", "root")), "Dockerfile: the last USER is root")
    report.expect("PYTHONPATH=/app" in text, "Dockerfile: PYTHONPATH=/app is missing")
    for word in ("# syntax", "--mount="):
        report.expect(word not in text, f"Dockerfile: {word} needs BuildKit")
    report.checked.append("Dockerfile: user, path, no BuildKit syntax")


def _role(service: dict[str, Any]) -> str | None:
    command = service.get("command") or [None]
    return None if service.get("entrypoint") else command[0]


def _without_comments(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
