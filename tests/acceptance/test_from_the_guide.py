"""docs/from-the-guide.md keeps its word: what it says works has a test, and its replacements do what it says."""

from __future__ import annotations

import ast
import re
import urllib.request
from functools import cache
from pathlib import Path

import pytest
import yaml

from config.settings import ROOT
from tests.acceptance.conftest import IN_PRODUCTION, STRATEGIES
from tests.support.served_stack import ServedStack, Terminal

HERE = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in (ROOT / "docs" / "from-the-guide.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| block |")
]


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file if "/" in file else HERE / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_what_works_has_its_test_and_what_does_not_has_a_reason(row: list[str]) -> None:
    _, verdict, reason, test = row
    assert verdict in ("works", "replaced")
    assert test or verdict == "replaced"
    assert reason or verdict == "works"
    if test:
        file, _, name = test.strip("`").partition("::")
        assert name in names_in(file)


def test_the_manifests_keep_the_documented_volume_and_address() -> None:
    found = yaml.safe_load_all((ROOT / "k8s/base/mlflow-deployment.yaml").read_text(encoding="utf-8"))
    by_kind = {document["kind"]: document for document in found}
    assert by_kind["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == "50Gi"
    assert by_kind["Service"]["metadata"]["name"] == "mlflow"
    assert [port["port"] for port in by_kind["Service"]["spec"]["ports"]] == [5000]
    assert {document["metadata"]["namespace"] for document in by_kind.values()} == {"acis-ai"}
    kustomization = yaml.safe_load((ROOT / "k8s/base/kustomization.yaml").read_text(encoding="utf-8"))
    assert kustomization["namespace"] == "acis-ai"
    assert "mlflow-deployment.yaml" in kustomization["resources"]


def test_doctor_finds_the_servers_and_counts_the_rows(terminal: Terminal) -> None:
    ended = terminal.run("acis doctor")
    assert ended.code == 0, ended.said
    for subject in ("ledger", "broker", "MLflow"):
        assert f"✓ {subject}" in ended.out
    for strategy in STRATEGIES:
        assert re.search(rf"✓ features of {strategy}: .* reference rows, \d+ current rows, ", ended.out), ended.out


def test_compare_lists_the_models_in_production(terminal: Terminal) -> None:
    ended = terminal.run("acis compare")
    assert ended.code == 0, ended.said
    for strategy in IN_PRODUCTION:
        assert f"acis_{strategy}_classifier" in ended.out
    assert "acis_direction_classifier" not in ended.out


def test_mlflow_s_health_page_answers(stack: ServedStack) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{stack.endpoints.mlflow_tracking_uri}/health", timeout=10) as response:
        assert (response.status, response.read()) == (200, b"OK")
