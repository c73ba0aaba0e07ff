"""Who may do what at a real MLflow: every route that the server has, asked by an outsider and by each identity."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil
import psycopg2
import pytest
import yaml
from sqlalchemy.engine import make_url

from config.roles import ACCESS, MLFLOW_PASSWORD_VARIABLES
from config.settings import ROOT
from devstack.layout import Layout, Ports
from devstack.mlflow import mlflow_answers, mlflow_program, mlflow_refuses, page_answers
from devstack.mlflow_access import may, read_passwords
from devstack.plan import ROLES, StackOptions, make_plan, role_of
from devstack.ports import choose_port
from devstack.process import Child
from devstack.secrets import Secrets, env_lines, role_files
from mlops.addresses import credentials_of, without_credentials
from mlops.domain.errors import ForeignRegistry, RegistryForbidden
from mlops.domain.records import LedgerIdentity
from mlops.registry.gateway import Gateway
from mlops.registry.registry import OWNER_TAG, MlflowRegistry
from tests.support.compose_file import compose_services
from tests.support.kubernetes_files import secret_keys
from tests.support.models import trained_model
from tests.support.servers import new_mlflow_passwords

NAME = "acis_guarded_classifier"
_ROUTES = """
import json
from fastapi.routing import iter_route_contexts
from mlflow.server import app as flask
from mlflow.server.fastapi_app import app
found = {(method, rule.rule) for rule in flask.url_map.iter_rules() for method in rule.methods}
found |= {(method, one.path) for one in iter_route_contexts(app.routes) if one.methods for method in one.methods}
print(json.dumps(sorted(found)))
"""
#: Requests beside GET that a viewer may send; each of them only looks something up.
_SEARCHES = {
    "/graphql",
    "mlflow/artifacts/presigned-download-url",
    "mlflow/datasets/search",
    "mlflow/experiments/search",
    "mlflow/experiments/search-datasets",
    "mlflow/logged-models/search",
    "mlflow/registered-models/get-latest-versions",
    "mlflow/runs/search",
    "mlflow/traces/batchGetInfos",
    "mlflow/traces/metrics",
    "mlflow/traces/search",
}
#: What a trainer may ask beyond that, by the beginning of the path.
_TRAINS = (
    *(
        "experiments/create",
        "experiments/set-experiment-tag",
        "runs/create",
        "runs/update",
        "runs/set-tag",
        "runs/log-",
    ),
    *("runs/outputs", "logged-models", "artifacts/presigned-upload-url", "registered-models/create"),
    *("registered-models/update", "model-versions/create", "model-versions/set-tag"),
)


@dataclass(frozen=True, kw_only=True)
class Door:
    """Sends requests to the server as somebody."""

    url: str
    passwords: Mapping[str, str]

    def uri(self, identity: str, password: str | None = None) -> str:
        """Tracking URI with name and password."""
        return self.url.replace("://", f"://{identity}:{password or self.passwords[identity]}@")

    def status(self, method: str, path: str, *, auth: str = "", content: bytes | None = None) -> int:
        """Status of the answer to a request."""
        headers = {"Content-Type": "application/json"}
        if auth:
            headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, path, body=content, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def ask(self, identity: str, method: str, path: str, **fields: Any) -> int:
        """Status of what an identity gets; the fields are the body, or of GET the query."""
        auth = f"{identity}:{self.passwords[identity]}"
        if method in ("GET", "HEAD", "OPTIONS"):
            return self.status(method, f"{path}?{urlencode(fields)}", auth=auth)
        return self.status(method, path, auth=auth, content=json.dumps(fields).encode())


@pytest.fixture(scope="module")
def door(mlflow_url: str, mlflow_passwords: Mapping[str, str]) -> Door:
    return Door(url=without_credentials(mlflow_url), passwords=mlflow_passwords)


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Method and path of every route of the installed MLflow, with a harmless word for each part that varies."""
    environment = {"MLFLOW_BACKEND_STORE_URI": "sqlite://", "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": ""}
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ROUTES],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout
    found = json.loads(shown.splitlines()[-1])
    assert len(found) > 400
    return [(method, re.sub(r"<[^>]+>|\{[^}]+\}", "none", path)) for method, path in found if method != "OPTIONS"]


@pytest.fixture(scope="module")
def version(door: Door) -> Mapping[str, Any]:
    """A version that a trainer made and the registrar put into Production, in all words by which requests name it."""
    trainer = MlflowRegistry(door.uri("trainer"), experiment=NAME)
    made = trainer.log_training(trained_model("guarded", model_name=NAME))
    trainer.apply_stage(NAME, made.version, "Staging", seq=1, tags={})
    MlflowRegistry(door.uri("registrar"), experiment=NAME).apply_stage(
        NAME, made.version, "Production", seq=2, tags={"acis.decision": "promote"}
    )
    run = Gateway(door.uri("reader")).run(str(made.run_id))
    return {
        "name": NAME,
        "version": made.version,
        "alias": "champion",
        "stage": "Production",
        "run_id": made.run_id,
        "experiment_id": Gateway(door.uri("reader")).experiment_of(run.run_id),
        "key": "acis.model_sha256",
        "value": "0" * 64,
        "query": '{ test(inputString: "a") { output } }',
        "max_results": 5,
    }


def named(path: str) -> str:
    """A path without the beginning that MLflow has in four spellings."""
    return re.sub(r"^/(ajax-)?api/[23]\.0/(?=mlflow)", "", path)


def test_an_outsider_is_answered_by_the_health_page_alone(door: Door, routes: list[tuple[str, str]]) -> None:
    answered = {path for method, path in routes if door.status(method, path) != 401}
    assert answered == {"/health"}


@pytest.mark.parametrize(
    "auth", ["viewer", "viewer:", "viewer:{registrar}", "registrar:{viewer}", "admin:password1234", ":{registrar}"]
)
def test_a_name_without_its_own_password_is_an_outsider(door: Door, auth: str) -> None:
    given = auth.format(**door.passwords)
    assert door.status("GET", "/api/2.0/mlflow/experiments/search?max_results=1", auth=given) == 401
    assert door.status("POST", "/api/2.0/mlflow/registered-models/alias", auth=given, content=b"{}") == 401


def test_health_is_no_way_to_another_page(door: Door) -> None:
    for path in ("/health/", "//health", "/health/../version", "/health%2f..%2fversion", "/HEALTH", "/health;a"):
        assert door.status("GET", path) == 401
    assert door.status("POST", "/health") == 401


def state_of(database: str) -> dict[str, str]:
    """A digest of each table of MLflow."""
    url = make_url(database).set(drivername="postgresql")
    with psycopg2.connect(url.render_as_string(hide_password=False)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        found = {}
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} AS t")
            found[table] = cursor.fetchone()[0]  # type: ignore[index]
    return found


@pytest.mark.parametrize("identity", ["viewer", "reader"])
def test_who_reads_changes_nothing_whatever_he_asks(
    door: Door, routes: list[tuple[str, str]], version: Mapping[str, Any], mlflow_database: str, identity: str
) -> None:
    before = state_of(mlflow_database)
    answers = {(method, path): door.ask(identity, method, path, **version) for method, path in routes}
    assert {status for status in answers.values() if status == 401} == set()
    allowed = {(method, named(path)) for (method, path), status in answers.items() if status != 403}
    assert {path for method, path in allowed if method not in ("GET", "HEAD")} == _SEARCHES
    assert state_of(mlflow_database) == before


def test_a_trainer_may_make_runs_and_versions_and_nothing_more(door: Door, routes: list[tuple[str, str]]) -> None:
    beyond = {
        (method, named(path))
        for method, path in routes
        if may("trainer", method, path) and not may("viewer", method, path)
    }
    assert {method for method, _ in beyond} == {"POST", "PATCH", "PUT"}
    for method, path in beyond:
        is_upload = path.startswith("mlflow-artifacts/") and (method == "PUT" or "/mpu/" in path)
        assert is_upload or path.removeprefix("mlflow/").startswith(_TRAINS), (method, path)
    refused = [one for one in routes if not may("trainer", *one) and one[1] != "/health"]
    assert {door.ask("trainer", method, path) for method, path in refused} == {403}


def test_what_no_rule_opens_is_closed_to_the_registrar_too(door: Door, routes: list[tuple[str, str]]) -> None:
    refused = [one for one in routes if not may("registrar", *one) and one[1] != "/health"]
    assert len(refused) > 200  # of language models, webhooks, jobs, workspaces
    assert {door.ask("registrar", method, path) for method, path in refused} == {403}
    assert door.ask("registrar", "POST", "/api/2.0/mlflow/a-new-route") == 403


@pytest.mark.parametrize("identity", ["viewer", "reader", "trainer"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "registered-models/alias"),
        ("DELETE", "registered-models/alias"),
        ("POST", "model-versions/transition-stage"),
        ("DELETE", "model-versions/delete"),
        ("DELETE", "registered-models/delete"),
        ("POST", "registered-models/rename"),
        ("PATCH", "model-versions/update"),
        ("POST", "runs/delete"),
        ("POST", "experiments/delete"),
    ],
)
def test_only_the_registrar_moves_the_champion(
    door: Door, version: Mapping[str, Any], identity: str, method: str, path: str
) -> None:
    for prefix in ("api/2.0", "ajax-api/2.0", "api/3.0", "ajax-api/3.0"):
        assert door.ask(identity, method, f"/{prefix}/mlflow/{path}", **version) == 403
    assert door.status(method, f"/api/2.0/mlflow/{path}", content=json.dumps(dict(version)).encode()) == 401
    (found,) = Gateway(door.uri("reader")).versions(NAME)
    assert (found.stage, found.aliases) == ("Production", ("champion",))


ALIAS = "/api/2.0/mlflow/registered-models/alias"
STAGE = "/api/2.0/mlflow/model-versions/transition-stage"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (ALIAS, f'{{"name": "{NAME}", "version": "1", "alias": "champion", "alias": "champion"}}'),
        (ALIAS, f'{{"name": "{NAME}", "version": "1", "alias": "challenger", "Alias": "champion"}}'),
        (ALIAS, f'[{{"name": "{NAME}", "version": "1", "alias": "challenger"}}]'),
        (ALIAS, json.dumps(f'{{"name": "{NAME}", "version": "1", "alias": "challenger"}}')),
        (ALIAS, "alias=challenger"),
        (ALIAS, ""),
        (ALIAS + "?alias=champion", f'{{"name": "{NAME}", "version": "1", "alias": "challenger"}}'),
        (STAGE, f'{{"name": "{NAME}", "version": "1", "stage": "staging"}}'),
        (STAGE, f'{{"name": "{NAME}", "version": "1", "stage": "Archived"}}'),
        (STAGE, f'{{"name": "{NAME}", "version": 1, "stage": "Staging"}}'),
        (STAGE, f'{{"name": "{NAME}", "version": "1", "stage": "Staging", "archive_existing_versions": "true"}}'),
    ],
)
def test_a_trainer_s_challenger_is_named_in_one_way_only(door: Door, path: str, content: str) -> None:
    auth = f"trainer:{door.passwords['trainer']}"
    assert door.status("POST", path, auth=auth, content=content.encode()) == 403


def test_of_two_values_of_a_field_mlflow_sees_the_one_that_was_checked(door: Door, version: Mapping[str, Any]) -> None:
    content = f'{{"name": "{NAME}", "version": "{version["version"]}", "alias": "champion", "alias": "challenger"}}'
    gateway = Gateway(door.uri("registrar"))
    gateway.delete_alias(NAME, "champion")
    auth = f"trainer:{door.passwords['trainer']}"
    assert door.status("POST", ALIAS, auth=auth, content=content.encode()) == 200
    (found,) = gateway.versions(NAME)
    assert found.aliases == ("challenger",)
    gateway.delete_alias(NAME, "challenger")
    gateway.set_alias(NAME, "champion", str(version["version"]))


@pytest.mark.usefixtures("version")
def test_the_error_says_as_whom_it_was_asked_and_waits(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    with pytest.raises(RegistryForbidden, match=r"does not allow it to 'viewer'.*identity of its role") as caught:
        Gateway(door.uri("viewer")).set_alias(NAME, "champion", "1")
    assert caught.value.delay_s > 0
    assert door.passwords["viewer"] not in str(caught.value)
    with pytest.raises(RegistryForbidden, match=r"does not know the name or the password.*'reader'.*restart") as caught:
        Gateway(door.uri("reader", "an-older-password")).versions(NAME)
    assert "an-older-password" not in str(caught.value)
    with pytest.raises(RegistryForbidden, match="nobody"):
        Gateway(door.url).versions(NAME)


@pytest.mark.usefixtures("version")
def test_a_reader_loads_the_champion(door: Door) -> None:
    registry = MlflowRegistry(door.uri("reader"), experiment=NAME)
    (found,) = registry.versions(NAME)
    assert found.metrics
    assert registry.model_file(NAME, found.version)


def test_a_reader_claims_no_mlflow_for_its_ledger_and_reads_all_the_same(door: Door) -> None:
    ours = LedgerIdentity(ledger_id="a" * 32, address="one:5432/acis", made_at=datetime(2026, 1, 1, tzinfo=UTC))
    experiment = "unclaimed"
    Gateway(door.uri("trainer")).experiment_id(experiment)
    reader = MlflowRegistry(door.uri("reader"), experiment=experiment, owner=lambda: ours)
    assert reader.versions("acis_nobody_classifier") == []
    assert OWNER_TAG not in (Gateway(door.uri("reader")).claim(experiment, {}, by="") or {})
    trainer = MlflowRegistry(door.uri("trainer"), experiment=experiment, owner=lambda: ours)
    assert trainer.versions("acis_nobody_classifier") == []
    theirs = replace(ours, ledger_id="b" * 32)
    with pytest.raises(ForeignRegistry, match="belongs to"):
        MlflowRegistry(door.uri("reader"), experiment=experiment, owner=lambda: theirs).versions(
            "acis_nobody_classifier"
        )


def test_wrong_password_and_away_are_two_answers(door: Door) -> None:
    assert mlflow_answers(door.uri("reader"))
    assert not mlflow_refuses(door.uri("reader"))
    assert not mlflow_answers(door.uri("reader", "wrong"))
    assert mlflow_refuses(door.uri("reader", "wrong"))
    assert not mlflow_refuses("http://reader:wrong@127.0.0.1:1")


# ---- Every platform gives each role its own identity, and starts MLflow behind the guard


@pytest.mark.parametrize("missing", list(MLFLOW_PASSWORD_VARIABLES.values()))
def test_mlflow_does_not_start_without_a_secret_for_each_identity(missing: str) -> None:
    good = {variable: f"{variable:x<24}" for variable in MLFLOW_PASSWORD_VARIABLES.values()}
    assert set(read_passwords(good)) == set(MLFLOW_PASSWORD_VARIABLES)
    for password in ("", "short", next(value for name, value in good.items() if name != missing)):
        with pytest.raises(SystemExit, match="MLflow is not started"):
            read_passwords({**good, missing: password})


def test_make_run_gives_each_role_its_own_identity_alone(tmp_path: Path) -> None:
    ports = Ports(mlflow=5000, flower=5555, admin=3000, serve=8080, redis=1, postgres=2, supervisor=3)
    layout, secrets = Layout(var_dir=tmp_path), Secrets()
    layout.make()
    options = StackOptions(
        var_dir=tmp_path, strategies_file=tmp_path / "strategies.toml", database_url="postgresql://them/db",
        celery_broker_url="redis://them/0", roles=ROLES,
    )  # fmt: skip
    plan = make_plan(options, layout=layout, ports=ports, secrets=secrets)
    for program in plan.roles:
        held = {name for name, one in secrets.mlflow_passwords.items() if one in json.dumps(dict(program.environment))}
        identity = ACCESS[role_of(program.name)].mlflow
        assert held == ({identity} if identity else set()), program.name
        assert program.environment.get("MLFLOW_TRACKING_USERNAME") == identity
    (server,) = plan.tracking
    assert not set(secrets.mlflow_passwords.values()) & set(server.command)
    assert credentials_of(f"http://{plan.urls.mlflow_auth}@them") == secrets.mlflow_auth("registrar")
    assert ("--app-name", "acis") in zip(server.command, server.command[1:], strict=False)


def test_compose_gives_each_role_its_own_identity_alone() -> None:
    values = dict(line.split("=", 1) for line in env_lines())
    files, seen = role_files(values), set()
    for name, service in compose_services(ROOT).items():
        role = (service.get("command") or [None])[0]
        if service.get("entrypoint") or role not in ACCESS:
            continue
        (mounted,) = (one for one in service["volumes"] if isinstance(one, dict))
        held = files[str(mounted["source"]).rpartition("}/")[2]]
        identity = ACCESS[role].mlflow
        of_identities = {values[variable] for variable in MLFLOW_PASSWORD_VARIABLES.values()}
        wanted = {values[MLFLOW_PASSWORD_VARIABLES[identity]]} if identity else set()
        assert of_identities & set(held.values()) == wanted, name
        assert service["environment"].get("MLFLOW_TRACKING_USERNAME") == identity, name
        seen.add(role)
    assert seen == {*ROLES, "train.gpu"}


def test_kubernetes_gives_each_role_the_identity_of_its_own_secret() -> None:
    seen = set()
    for document in yaml.safe_load_all((ROOT / "k8s/base/workers.yaml").read_text()):
        if document["kind"] not in ("Deployment", "StatefulSet"):
            continue
        pod = document["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (role,) = container.get("args") or [container["name"]]
        keys = {key: secret for secret, key, _ in secret_keys(pod) if key.startswith("MLFLOW_TRACKING_")}
        wanted = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} if ACCESS[role].mlflow else set()
        assert keys.keys() == wanted, role
        assert len(set(keys.values())) == (1 if wanted else 0)
        seen.add(role)
    assert seen == {*ROLES, "tools"}


def test_every_platform_starts_mlflow_behind_the_guard() -> None:
    mlflow = compose_services(ROOT)["mlflow"]
    assert "--app-name=acis" in [*mlflow.get("entrypoint", []), *mlflow.get("command", [])]
    documents = yaml.safe_load_all((ROOT / "k8s/base/mlflow-deployment.yaml").read_text())
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")
    assert "--app-name=acis" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["mlflow.app"]
    assert f"[mlflow.app]\\nacis = {entry['acis']}\\n" in (ROOT / "Dockerfile").read_text()


def test_a_server_in_one_process_takes_the_hosts_that_it_was_given_and_no_others(tmp_path: Path) -> None:
    port, passwords = choose_port(), new_mlflow_passwords()
    program = mlflow_program(
        port=port, backend_url=f"sqlite:///{tmp_path}/mlflow.db", artifact_root=str(tmp_path), cwd=tmp_path,
        passwords=passwords,
    )  # fmt: skip
    signed = {"Authorization": "Basic " + base64.b64encode(f"viewer:{passwords['viewer']}".encode()).decode()}

    def status(host: str) -> int:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host, **signed})
        with closing(connection):
            return connection.getresponse().status

    log = tmp_path / "mlflow.log"
    with Child(replace(program, command=(*program.command, "--allowed-hosts=mlflow,mlflow:*")), log=log) as child:
        child.wait_until(lambda: page_answers(f"http://127.0.0.1:{port}/health"), timeout_s=120)
        assert {host: status(host) for host in ("mlflow:5000", "127.0.0.1")} == {"mlflow:5000": 200, "127.0.0.1": 403}
        assert psutil.Process(child.process.pid).children() == []
