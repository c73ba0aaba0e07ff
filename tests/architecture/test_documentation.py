"""What must be written down: every variable in .env.example, a line under every setting and every policy field."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from config.endpoints import FILE, Endpoints
from config.roles import DATABASE_USERS, MLFLOW_PASSWORD_VARIABLES, REDIS_USERS, password_variable
from config.settings import Settings, variables
from devstack.redis_users import rules
from devstack.secrets import role_files
from tests.architecture.sources import PACKAGES, ROOT, fields_without_docstring, modules, parsed
from tests.support.compose_file import compose_variables, env_example

COMPOSE_ALONE = {
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "MLFLOW_PORT",
    "FLOWER_PORT",
    "ADMIN_PORT",
    "SERVE_PORT",
    "IMAGE_TAG",
    "MORE_LOCKS",
    "SECRETS_DIR",
    "POSTGRES_IMAGE",
    "REDIS_IMAGE",
    *map(password_variable, (*DATABASE_USERS, *REDIS_USERS)),
    *MLFLOW_PASSWORD_VARIABLES.values(),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
    *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
}


def classes(path: str) -> list[ast.ClassDef]:
    return [node for node in parsed(Path(path)).body if isinstance(node, ast.ClassDef)]


def test_env_example_lists_the_settings_and_composes_own_variables() -> None:
    assert set(env_example(ROOT)) == set(variables()) | COMPOSE_ALONE
    assert not COMPOSE_ALONE & set(variables())


@pytest.mark.parametrize("path", ["docker-compose.yml", "k8s/base/kustomization.yaml"])
def test_the_manifests_record_the_variables_that_this_release_knows(path: str) -> None:
    recorded = re.findall(r"ACIS_KNOWN_VARIABLES(?:: \"|=)([A-Z0-9_,]+)", (ROOT / path).read_text(encoding="utf-8"))
    assert [set(names.split(",")) for names in recorded] == [{name for name in variables() if name.startswith("ACIS_")}]


def test_the_documented_line_prints_the_rules_of_a_redis_user() -> None:
    (code,) = re.findall(r'python -c "([^"]+)"', (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{rules('drift')}\n", "")


def test_compose_uses_each_variable_that_is_its_own() -> None:
    written = role_files({name: f"{name} of .env" for name in COMPOSE_ALONE})
    in_files = {name for variables in written.values() for value in variables.values() for name in value_names(value)}
    assert compose_variables(ROOT) | in_files >= COMPOSE_ALONE


def value_names(value: str) -> list[str]:
    """Variables of .env whose value is a part of a secret's."""
    return re.findall(r"([A-Z_]+) of \.env", value)


def test_no_secret_has_a_default() -> None:
    secret = {
        name: field.default for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }
    assert {"database_url", "celery_broker_url", "flower_basic_auth", "admin_auth"} <= set(secret)
    assert set(secret.values()) == {None}


def test_every_setting_has_a_line_of_meaning() -> None:
    (settings,) = (node for node in classes("config/settings.py") if node.name == "Settings")
    assert fields_without_docstring(settings) == []


@pytest.mark.parametrize("policy", ["Data", "Drift", "Training", "Promotion", "Schedule", "Execution"])
def test_every_policy_field_has_a_line_of_meaning(policy: str) -> None:
    (found,) = (node for node in classes("mlops/domain/policies.py") if node.name == f"{policy}Policy")
    assert fields_without_docstring(found) == []


def test_a_field_without_a_line_is_found() -> None:
    (node,) = ast.parse('class A:\n    a: int = 1\n    """Meaning."""\n    b: int = 2\n    c: int = 3\n    ""\n').body
    assert isinstance(node, ast.ClassDef)
    assert fields_without_docstring(node) == ["b", "c"]


def test_every_module_says_what_it_is() -> None:
    silent = {
        str(path) for path in modules(*PACKAGES) if path.name != "__init__.py" and not ast.get_docstring(parsed(path))
    }
    assert silent == set()


def test_the_readmes_addresses_for_another_code_base_are_those_that_make_run_announces() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f'Path("var/{FILE}")' in readme
    named = set(re.findall(r'addresses\["(\w+)"\]', readme))
    assert named == {"celery_broker_url", "celery_result_backend"}
    assert named <= {field.name for field in fields(Endpoints)}


def test_no_page_holds_a_word_that_stands_for_what_is_still_to_come() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    found = {str(page): re.findall(r"\b(?:[A-Z_]+_TABLE|TODO|TBD|FIXME|XXX)\b", page.read_text()) for page in pages}
    assert {page: words for page, words in found.items() if words} == {}
