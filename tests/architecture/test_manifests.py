"""The containers' files are right, and a broken copy of them is refused with a line that says where."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from devstack.mlflow import VERSION_SOURCES
from tests.architecture.sources import ROOT
from tests.support.compose_file import FILES as COMPOSE_FILES
from tests.support.manifests import check

FILES = (*COMPOSE_FILES, "Dockerfile", ".env.example")

SHARED = "mlops/mlflow/services.yml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files, to break."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    return tmp_path


def test_the_manifests_have_no_fault() -> None:
    report = check()
    assert report.faults == []
    assert len(report.checked) == 4


@pytest.mark.parametrize("file", ["mlops/mlflow/services.yml", "k8s/base/mlflow-deployment.yaml"])
def test_mlflow_answers_at_a_forwarded_port_and_at_no_name_of_somebody_else(file: str) -> None:
    with warnings.catch_warnings(action="ignore"):  # of MLflow about SQLAlchemy
        from mlflow.server.security_utils import is_allowed_host_header
    (hosts,) = re.findall(r"(?:--allowed-hosts=|_ALLOWED_HOSTS: )(\S+)", (ROOT / file).read_text(encoding="utf-8"))
    allowed = hosts.split(",")
    for host in ("127.0.0.1:5000", "localhost:5000", "127.0.0.1:49152", "mlflow:5000"):
        assert is_allowed_host_header(allowed, host), host
    for host in ("other.example", "other.example:5000", "127.0.0.1.other.example:5000", "localhost.other.example", ""):
        assert not is_allowed_host_header(allowed, host), host


def test_the_command_says_what_it_checked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.manifests"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "docker-compose.yml: 18 services, 10 roles" in done.stdout
    assert "docker-compose.mlflow.yml: 3 services" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("docker-compose.yml", 'command: ["drift"]', 'command: ["drfit"]', "'drfit' is no role"),
        ("docker-compose.yml", 'command: ["beat"]', 'command: ["control"]', "no service runs the role beat"),
        ("docker-compose.yml", '"worker.health", "drift"', '"worker.health", "beat"', "healthcheck asks for 'beat'"),
        (SHARED, "${IMAGE_TAG:-latest}", "${IMAGE_TOG:-latest}", "IMAGE_TOG} is not in .env.example"),
        (
            "docker-compose.yml",
            "ACIS_LOG_LEVEL: ",
            "REDIS_PASSWORD: ${REDIS_PASSWORD:-redis}\n    ACIS_LOG_LEVEL: ",
            "default value",
        ),
        (
            "docker-compose.yml",
            "ACIS_LOG_LEVEL: ",
            "REDIS_PASSWORD: ${REDIS_PASSWORD:?}\n    ACIS_LOG_LEVEL: ",
            "`docker inspect` would show",
        ),
        ("docker-compose.yml", "ACIS_LOG_LEVEL: ", "FLOWER_BASIC_AUTH: a:b\n    ACIS_LOG_LEVEL: ", "is written out"),
        ("docker-compose.yml", "    mem_limit: 512m\n", "", "has no memory limit"),
        ("docker-compose.yml", '"worker.health", "flower"', '"worker.helth", "flower"', "flower: has no healthcheck"),
        ("docker-compose.yml", "broker: {internal: true}", "broker:", "redis is not on inner networks alone"),
        (
            "docker-compose.yml",
            '/drift", target: /run/secrets, read_only: true',
            '/drift", target: /run/secrets',
            "folder of secrets",
        ),
        ("docker-compose.yml", "    ACIS_SECRETS_DIR: /run/secrets\n", "", "reads no secrets"),
        (SHARED, "    logging: *logging\n    # Not POSTGRES", "    # Not POSTGRES", "its log grows without end"),
        ("docker-compose.yml", "ACIS_LOG_LEVEL:", "ACIS_LOGLEVEL:", "ACIS_LOGLEVEL is no setting"),
        (SHARED, "    read_only: true\n    # Scratch", "    # Scratch", "root file system can be written"),
        ("docker-compose.yml", "127.0.0.1:${FLOWER", "${FLOWER", "is open to the network"),
        (
            "docker-compose.yml",
            "    build: &build\n",
            '    user: "0:0"\n    build: &build\n',
            "does not run as the image's own user",
        ),
        ("docker-compose.yml", "migrate: {condition", "migrat: {condition", "depends on migrat"),
        ("docker-compose.yml", "services:\n", "name: acis\nservices:\n", "['name'] at the top"),
        ("docker-compose.yml", "services:\n", "services: [\n", "not YAML"),
        (".env.example", "REDIS_PASSWORD=", "REDIS_PASSWORD=secret", "REDIS_PASSWORD has a value"),
        ("Dockerfile", "USER 10001:10001", "USER root", "the last USER is root"),
        ("Dockerfile", "RUN uv pip sync", "RUN --mount=type=cache,target=/c uv pip sync", "needs BuildKit"),
        ("k8s/base/workers.yaml", 'args: ["promote"]', 'args: ["promte"]', "'promte' is no role"),
        ("k8s/base/workers.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "is not true"),
        ("k8s/base/workers.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot is not set"),
        ("k8s/base/workers.yaml", "drop: [ALL]", "drop: []", "keeps capabilities"),
        ("k8s/base/workers.yaml", "worker.health, promote", "worker.health, drift", "livenessProbe asks for 'drift'"),
        ("k8s/base/workers.yaml", "promote, --ready", "drift, --ready", "its readinessProbe asks for"),
        ("k8s/base/kustomization.yaml", "  - workers.yaml", "  - worker.yaml", "worker.yaml does not exist"),
        ("k8s/base/kustomization.yaml", "  - network-policy.yaml\n", "", "is not among the kustomization's resources"),
        ("k8s/base/kustomization.yaml", "      - MLFLOW_", "      - ACIS_X=1\n      - MLFLOW_", "ACIS_X is no setting"),
        ("k8s/base/mlflow-deployment.yaml", "50Gi", "5Gi", "the guide says 50Gi"),
        ("k8s/base/mlflow-deployment.yaml", "  namespace: acis-ai\n", "", "must name namespace acis-ai"),
        (
            "k8s/base/migrate-job.yaml",
            "key: DATABASE_URL, path: DATABASE_URL",
            "key: DB_URL, path: DB_URL",
            "DB_URL is not in secrets",
        ),
        (
            "k8s/base/mlflow-deployment.yaml",
            "ACIS_SECRETS_DIR, value: /run",
            "DB_PASSWORD, value: /run",
            "is written out",
        ),
        ("k8s/base/secrets.example.yaml", 'FLOWER_BASIC_AUTH: ""', "FLOWER_BASIC_AUTH: a:b", "has a value"),
    ],
)
def test_a_broken_copy_is_refused(copy: Path, file: str, old: str, new: str, fault: str) -> None:
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    assert [line for line in check(copy).faults if fault in line], check(copy).faults


def test_every_mlflow_takes_only_versions_whose_files_it_serves_itself() -> None:
    for path in (SHARED, "k8s/base/mlflow-deployment.yaml"):
        text = (ROOT / path).read_text()
        assert re.search(rf'VERSION_SOURCE_VALIDATION_REGEX(?:, value)?: "{re.escape(VERSION_SOURCES)}"', text), path
