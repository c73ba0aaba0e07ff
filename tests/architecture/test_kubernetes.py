"""What k8s/ and the chart render to: the same by both, and what each part must be; and that the comparison can fail."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.roles import ACCESS
from devstack.secrets import add_missing, kubernetes_secrets
from mlops.domain.errors import ConfigurationError
from tests.architecture.sources import ROOT
from tests.support import kubernetes_checks
from tests.support.kubernetes_checks import (
    CHART,
    FORMS,
    REQUIRED,
    by_helm,
    by_kustomize,
    differences,
    finding_faults,
    normalised,
    program,
    requested_cpu_m,
    schema_faults,
)
from tests.support.kubernetes_files import secret_keys
from worker.draining import EXIT_AFTER_S

Resource = dict[str, Any]


def needed(name: str) -> str:
    found = program(name)
    if found is None:
        words = f"no {name} on this machine; `make .venv-manifests/.ready` brings one for x86-64"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(words)
        pytest.skip(words)
    return found


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Resource]]:
    """By form, as kustomize has it."""
    return {form: by_kustomize(needed("kubectl"), folder) for form, (folder, _) in FORMS.items()}


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Kind and name of a workload, and its pod template."""
    for one in resources:
        spec = one.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None:
            yield f"{one['kind']} {one['metadata']['name']}", template


# --------------------------------------------------------------------------- kustomize and Helm


@pytest.mark.parametrize("form", FORMS)
def test_the_chart_renders_what_the_overlay_does(form: str, rendered: dict[str, list[Resource]]) -> None:
    theirs = by_helm(needed("helm"), FORMS[form][1])
    assert list(differences(normalised(rendered[form]), normalised(theirs))) == []


def test_a_difference_between_the_two_is_told_with_its_place(rendered: dict[str, list[Resource]]) -> None:
    ours, other = normalised(rendered["dev"]), deepcopy(normalised(rendered["dev"]))
    other["Deployment drift"]["spec"]["template"]["spec"]["containers"][0]["args"] = ["beat"]
    del other["Service admin"]
    assert list(differences(ours, other)) == [
        'Deployment drift.spec.template.spec.containers[0].args[0]: kustomize has "drift", Helm "beat"',
        "Service admin: only by kustomize",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("roles.drift.replica=2", "replica"),
        ("roles.drift.replicas=two", "/roles/drift/replicas"),
        ("objectStore.enabled=true", "/objectStore/artifactRoot"),
        ("settings.MY_PASSWORD=x", "MY_PASSWORD"),
        ("image.digest=latest", "/image/digest"),
        ("schedule=cron", "/schedule"),
    ],
)
def test_a_wrong_value_is_refused_by_the_charts_schema(given: str, words: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(words)):
        by_helm(needed("helm"), (), ROOT, "--set", given)


def test_an_image_is_named_by_its_digest_where_there_is_one() -> None:
    digest = f"sha256:{'0' * 64}"
    resources = by_helm(needed("helm"), (), ROOT, "--set", f"image.digest={digest}")
    images = {one["image"] for _, template in pods(resources) for one in template["spec"]["containers"]}
    assert images == {f"acis-mlops@{digest}"}


def test_pods_with_an_identity_may_ask_who_gives_it() -> None:
    given = ("--set", "objectStore.podIdentity=true")
    (rules,) = (
        one["spec"]["egress"]
        for one in by_helm(needed("helm"), ("production",), ROOT, *given)
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "to-object-store"
    )
    assert [rule["ports"] for rule in rules] == [[{"port": 443}], [{"port": 80}]]
    mine = (ROOT / "k8s" / "overlays" / "production" / "object-store.yaml").read_text(encoding="utf-8")
    whole = yaml.safe_load(re.sub(r"(?m)^    # (?=- to|  ports)", "    ", mine))
    assert whole["spec"]["egress"] == rules


def test_every_value_of_the_chart_is_explained_and_typed() -> None:
    text = (ROOT / CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((ROOT / CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert set(yaml.safe_load(text)) == set(schema["required"])
    blocks = text.split("\n\n")[1:]
    assert [block for block in blocks if not block.startswith("#")] == []


def test_the_release_is_named_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    chart = yaml.safe_load((ROOT / CHART / "Chart.yaml").read_text(encoding="utf-8"))
    tags = {
        str(tag)
        for path in (ROOT / "k8s").rglob("*.yaml")
        for tag in re.findall(r"(?:newTag|\btag): ([\w.]+)", path.read_text(encoding="utf-8"))
    }
    assert {*tags, chart["version"], chart["appVersion"]} == {version}


def test_a_finding_of_checkov_needs_a_reason_and_a_reason_a_finding() -> None:
    finding = {"check_id": "CKV_1", "check_name": "x", "resource": "Deployment.acis-ai.drift", "file_path": "/a.yaml"}
    assert list(finding_faults([finding], {"CKV_1": {"reason": "y"}})) == []
    assert list(finding_faults([finding], {"CKV_1": {"reason": "y", "only": ["tools"]}})) == [
        "a.yaml: Deployment.acis-ai.drift: CKV_1 x"
    ]
    assert list(finding_faults([finding], {"CKV_1": {"reason": "y"}, "CKV_2": {"reason": "z"}})) == [
        ".ci/manifests.toml: CKV_2 is found nowhere any more; take it out"
    ]


def test_what_has_nothing_to_check_with_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_checks, "VENV", tmp_path)
    assert [words for words in schema_faults([]) if "schemas of 0 Kubernetes versions" in words]
    monkeypatch.setattr(kubernetes_checks, "program", lambda _: None)
    monkeypatch.delenv(REQUIRED, raising=False)
    assert kubernetes_checks.main() == 0
    monkeypatch.setenv(REQUIRED, "required")
    assert kubernetes_checks.main() == 1


# --------------------------------------------------------------------------- what is rendered


def test_every_pod_may_run_where_pods_are_restricted(rendered: dict[str, list[Resource]]) -> None:
    for form, resources in rendered.items():
        for name, template in pods(resources):
            spec, where = template["spec"], f"{form}: {name}"
            assert spec["automountServiceAccountToken"] is False, where
            assert spec["securityContext"]["runAsNonRoot"] is True, where
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                own = container["securityContext"]
                assert own["allowPrivilegeEscalation"] is False, where
                assert own["readOnlyRootFilesystem"] is True, where
                assert own["capabilities"] == {"drop": ["ALL"]}, where
                assert {"cpu", "memory"} <= set(container["resources"]["requests"]), where
                assert "memory" in container["resources"]["limits"], where


def test_every_pod_has_an_account_of_its_own_without_a_token(rendered: dict[str, list[Resource]]) -> None:
    for form, resources in rendered.items():
        accounts = {one["metadata"]["name"]: one for one in resources if one["kind"] == "ServiceAccount"}
        used = {template["spec"]["serviceAccountName"] for _, template in pods(resources)}
        assert used == set(accounts), form
        assert {one["automountServiceAccountToken"] for one in accounts.values()} == {False}, form


def test_a_pod_is_given_longer_to_end_than_its_drain_takes(rendered: dict[str, list[Resource]]) -> None:
    for name, template in pods(rendered["gpu"]):
        if template["metadata"]["labels"].get("acis") != "role" or not name.startswith(("Deployment", "StatefulSet")):
            continue
        spec = template["spec"]
        hook = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
        if spec["containers"][0].get("command") is None:
            assert spec["terminationGracePeriodSeconds"] > EXIT_AFTER_S + int(hook[1]) + 5, name


def test_a_new_version_of_each_role_waits_for_its_tables(rendered: dict[str, list[Resource]]) -> None:
    waiting = {
        template["spec"]["containers"][0]["args"][0]
        for _, template in pods(rendered["gpu"])
        for one in template["spec"].get("initContainers", [])
        if one["command"] == ["python", "-m", "cli.app", "migrate", "--wait"]
    }
    assert waiting == {role for role, access in ACCESS.items() if access.database} - {"migrate", "tools"}


def test_no_more_pods_than_one_are_taken_from_a_role_at_a_time(rendered: dict[str, list[Resource]]) -> None:
    for form, resources in rendered.items():
        budgets = {one["metadata"]["name"] for one in resources if one["kind"] == "PodDisruptionBudget"}
        several = {
            one["metadata"]["name"]
            for one in resources
            if one["kind"] in ("Deployment", "StatefulSet") and one["spec"].get("replicas", 2) > 1
        }
        assert several <= budgets, form


def test_everything_is_closed_in_both_directions_at_first(rendered: dict[str, list[Resource]]) -> None:
    for form, resources in rendered.items():
        policies = {one["metadata"]["name"]: one["spec"] for one in resources if one["kind"] == "NetworkPolicy"}
        assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, form
        for name, spec in policies.items():
            rules = [*spec.get("ingress", []), *spec.get("egress", [])]
            assert all(rule.get("ports") and (rule.get("from") or rule.get("to")) for rule in rules), f"{form}: {name}"


def test_the_pages_links_lead_to_the_hosts_of_the_ingress(rendered: dict[str, list[Resource]]) -> None:
    found = {one["kind"]: one for one in rendered["production"] if one["kind"] == "Ingress"}
    settings = next(
        one["data"]
        for one in rendered["production"]
        if one["kind"] == "ConfigMap" and one["metadata"]["name"].startswith("acis-settings")
    )
    hosts = {rule["host"] for rule in found["Ingress"]["spec"]["rules"]}
    links = {settings[name].partition("://")[2].partition("/")[0] for name in settings if name.endswith("_URL")}
    assert hosts <= links
    mlflow = next(one["data"] for one in rendered["production"] if one["metadata"]["name"] == "mlflow-settings")
    assert "mlflow.example.com" in mlflow["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


def test_a_small_profile_leaves_half_of_two_cores_to_the_node(rendered: dict[str, list[Resource]]) -> None:
    assert requested_cpu_m(rendered["dev"]) <= 1000
    assert requested_cpu_m(rendered["base"]) > 2000


# --------------------------------------------------------------------------- Secrets


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    file = tmp_path / "users.env"
    add_missing(file)
    return file


def made(file: Path, database: str, broker: str) -> dict[str, dict[str, str]]:
    listed = json.loads(kubernetes_secrets(file, database=database, broker=broker, namespace="acis-ai"))
    return {one["metadata"]["name"]: one["stringData"] for one in listed["items"]}


def test_the_secrets_that_are_made_hold_every_key_that_a_pod_must_find(
    passwords: Path, rendered: dict[str, list[Resource]]
) -> None:
    secrets = made(passwords, "postgresql://postgres:5432/acis", "redis://redis:6379")
    for form in ("dev", "cron"):
        for name, template in pods(rendered[form]):
            if name == "Job server-users":  # all of its Secret
                continue
            for secret, key, is_required in secret_keys(template["spec"]):
                assert not is_required or secrets[secret].get(key), f"{form}: {name}: {secret} has no {key}"


def test_the_secrets_lead_each_role_to_the_servers_as_its_own_user(passwords: Path) -> None:
    with passwords.open("a", encoding="utf-8") as file:
        file.write("AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=key\n")
    secrets = made(
        passwords, "postgresql://db:5432/acis?sslmode=verify-full", "rediss://r:6379?ssl_cert_reqs=CERT_REQUIRED"
    )
    train = secrets["acis-train"]
    assert re.fullmatch(r"postgresql://acis_ledger:\w+@db:5432/acis\?sslmode=verify-full", train["DATABASE_URL"])
    assert re.fullmatch(r"rediss://train:\w+@r:6379/1\?ssl_cert_reqs=CERT_REQUIRED", train["CELERY_RESULT_BACKEND"])
    assert (train["MLFLOW_TRACKING_USERNAME"], train["AWS_ACCESS_KEY_ID"]) == ("trainer", "id")
    backend = secrets["acis-mlflow"]["MLFLOW_BACKEND_STORE_URI"]
    assert re.fullmatch(r"postgresql\+psycopg2://acis_mlflow:\w+@db:5432/mlflow\?sslmode=verify-full", backend)
    assert "acis-server-users" not in secrets  # its servers lie elsewhere


def test_a_password_that_is_missing_is_named(passwords: Path) -> None:
    text = passwords.read_text(encoding="utf-8")
    passwords.write_text(re.sub(r"(?m)^REDIS_DRIFT_PASSWORD=.*\n", "", text), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="REDIS_DRIFT_PASSWORD"):
        made(passwords, "postgresql://db:5432/acis", "redis://r:6379")


# --------------------------------------------------------------------------- the page, and the guide


def test_the_page_names_every_form_and_no_file_that_is_not_there() -> None:
    page = (ROOT / "k8s" / "base" / "README.md").read_text(encoding="utf-8")
    for folder, values in FORMS.values():
        assert folder in page
        assert all(f"values-{name}.yaml" in page for name in values)
    assert [path for path in set(re.findall(r"k8s/[\w/.-]*\w", page)) if not (ROOT / path).exists()] == []


def test_the_cronjob_is_that_of_the_guide(rendered: dict[str, list[Resource]]) -> None:
    (job,) = (one for one in rendered["cron"] if one["kind"] == "CronJob")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert (job["metadata"]["name"], job["spec"]["schedule"]) == ("model-drift-check", "0 3 * * *")
    assert container["command"][:2] == ["python", "mlops/retraining/auto_retrain.py"]
    assert not [one for one in rendered["cron"] if one["metadata"]["name"] == "beat"]
