"""Faults of the manifests in k8s/base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from devstack.plan import ROLES
from tests.support.manifests import OUR_IMAGE, PROGRAMS, Report, expect_known_variables, is_secret
from worker.__main__ import COMMANDS

FOLDER = Path("k8s") / "base"
EXAMPLE = "secrets.example.yaml"


def check_kubernetes(root: Path, report: Report) -> None:
    """Note every fault of the folder."""
    folder = root / FOLDER
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    listed = set(kustomization["resources"])
    present = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", EXAMPLE}
    for name in sorted(listed - present):
        report.faults.append(f"{FOLDER}/kustomization.yaml: {name} does not exist")
    for name in sorted(present - listed):
        report.faults.append(f"{FOLDER}/{name}: is not among the kustomization's resources")
    for generator in kustomization.get("configMapGenerator", []):
        pairs = dict(literal.split("=", 1) for literal in generator["literals"])
        expect_known_variables(report, f"{FOLDER}/kustomization.yaml", pairs)
        for name in pairs:
            report.expect(not is_secret(name), f"{FOLDER}/kustomization.yaml: the secret {name} is in a ConfigMap")
    secrets = _secret_names(folder, report)
    documents = list(_documents(folder, sorted(listed & present), report))
    pods = 0
    for where, document in documents:
        report.expect(document.get("kind") != "Secret", f"{where}: a Secret does not belong to the resources")
        template = document.get("spec", {}).get("template")
        if template is not None:
            pods += 1
            _check_pod(where, document["kind"], template["spec"], secrets, report)
    served = {_role(container) for container in _containers(documents)}
    for role in ROLES:
        report.expect(role in served, f"{FOLDER}: no Deployment runs the role {role}")
    _check_mlflow(folder, report)
    report.checked.append(f"{FOLDER}: {len(documents)} resources of {len(listed)} files, {pods} pod templates")


def _check_pod(where: str, kind: str, pod: dict[str, Any], secrets: Mapping[str, set[str]], report: Report) -> None:
    context = pod.get("securityContext", {})
    report.expect(context.get("runAsNonRoot") is True, f"{where}: runAsNonRoot is not set")
    report.expect(context.get("seccompProfile", {}).get("type") == "RuntimeDefault", f"{where}: no seccomp profile")
    report.expect(pod.get("automountServiceAccountToken") is False, f"{where}: mounts a token that it does not need")
    _check_secrets(where, pod, secrets, report)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        report.expect(own.get("allowPrivilegeEscalation") is False, f"{where}: allowPrivilegeEscalation is not false")
        report.expect(own.get("readOnlyRootFilesystem") is True, f"{where}: readOnlyRootFilesystem is not true")
        report.expect(own.get("capabilities", {}).get("drop") == ["ALL"], f"{where}: keeps capabilities")
        report.expect("memory" in container.get("resources", {}).get("limits", {}), f"{where}: no memory limit")
        _check_variables(where, container, report)
        if container["image"].split(":")[0].endswith(OUR_IMAGE):
            _check_program(where, container, report)
        if kind == "Deployment" and container in pod["containers"]:
            probe = container.get("livenessProbe", {})
            report.expect(probe, f"{where}: has no livenessProbe")
            asked = probe.get("exec", {}).get("command", [_role(container)])[-1]
            report.expect(asked == _role(container), f"{where}: its livenessProbe asks for {asked!r}")
            _check_readiness(where, container, report)


def _check_readiness(where: str, container: dict[str, Any], report: Report) -> None:
    """A Deployment's roll-out waits for the new pod's role to serve, so each of ours says when it does."""
    if _role(container) not in ROLES or "livenessProbe" not in container:
        return
    probe = container.get("readinessProbe", {})
    report.expect(probe, f"{where}: has no readinessProbe")
    asked = probe.get("exec", {}).get("command")
    if asked is not None:
        expected = [_role(container), "--ready"]
        report.expect(asked[-2:] == expected, f"{where}: its readinessProbe asks for {asked!r}")


def _check_variables(where: str, container: dict[str, Any], report: Report) -> None:
    variables = {entry["name"]: entry for entry in container.get("env", [])}
    expect_known_variables(report, where, variables)
    for name, entry in variables.items():
        report.expect(
            not is_secret(name), f"{where}: the secret {name} is {'written out' if 'value' in entry else 'no file'}"
        )


def secret_keys(pod: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Name of the Secret, key, and whether it must be there, of each file with a secret that the pod mounts."""
    for volume in pod.get("volumes", []):
        sources = [one["secret"] for one in volume.get("projected", {}).get("sources", []) if "secret" in one]
        for source in [*sources, *([volume["secret"]] if "secret" in volume else [])]:
            for item in source["items"]:
                if item["key"] != item["path"]:
                    raise ValueError(f"{item['key']} is mounted as {item['path']}, which stands for another variable")
                yield source.get("name", source.get("secretName")), item["key"], not source.get("optional", False)


def _check_secrets(where: str, pod: Mapping[str, Any], secrets: Mapping[str, set[str]], report: Report) -> None:
    for name, key, is_required in secret_keys(pod):
        known = not is_required or key in secrets.get(name, ())
        report.expect(known, f"{where}: {key} is not in {EXAMPLE} of {name}")


def _check_program(where: str, container: dict[str, Any], report: Report) -> None:
    command, role = tuple(container.get("command", ())), _role(container)
    if command:
        known = any(command[: len(program)] == program for program in PROGRAMS.values())
        report.expect(known, f"{where}: runs {' '.join(command)}, which is no known program")
    else:
        report.expect(role in COMMANDS, f"{where}: {role!r} is no role; one of: {', '.join(COMMANDS)}")


def _check_mlflow(folder: Path, report: Report) -> None:
    """What the guide promises of the file that it applies by path."""
    name = "mlflow-deployment.yaml"
    if not (folder / name).is_file():
        return
    documents = {document["kind"]: document for _, document in _documents(folder, [name], report)}
    for kind, document in documents.items():
        namespace = document["metadata"].get("namespace")
        report.expect(namespace == "acis-ai", f"{FOLDER}/{name} {kind}: applied alone, it must name namespace acis-ai")
    storage = documents["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"]
    report.expect(storage == "50Gi", f"{FOLDER}/{name}: the volume has {storage}, the guide says 50Gi")
    service = documents["Service"]
    reached = (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    report.expect(reached == ("mlflow", 5000), f"{FOLDER}/{name}: the Service is {reached}, the guide says mlflow:5000")


def _secret_names(folder: Path, report: Report) -> dict[str, set[str]]:
    """Names of each Secret of the example."""
    found: dict[str, set[str]] = {}
    for example in yaml.safe_load_all((folder / EXAMPLE).read_text(encoding="utf-8")):
        values: dict[str, str] = {**(example.get("stringData") or {}), **(example.get("data") or {})}
        for name, value in values.items():
            report.expect(not value, f"{FOLDER}/{EXAMPLE}: {name} has a value")
        found[example["metadata"]["name"]] = set(values)
    return found


def _documents(folder: Path, names: list[str], report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in names:
        try:
            for document in yaml.safe_load_all((folder / name).read_text(encoding="utf-8")):
                yield f"{FOLDER}/{name} {document['metadata']['name']}", document
        except yaml.YAMLError as exc:
            report.faults.append(f"{FOLDER}/{name}: not YAML: {str(exc).replace(chr(10), ' ')}")


def _containers(documents: list[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for _, document in documents:
        yield from document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def _role(container: dict[str, Any]) -> str | None:
    return None if container.get("command") else (container.get("args") or [None])[0]
