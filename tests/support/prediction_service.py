"""A champion of the ledger's and a prediction service in a process of its own, for tests and for bench/serving.py."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
import xgboost as xgb

from config.settings import ROOT, Settings
from devstack.ports import choose_port
from devstack.process import die_with_parent
from mlops.domain.promotion.records import ModelIdentity
from mlops.ledger.ledger import SqlLedger
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import MODEL, key_of
from tests.support.ledgers import decision_for
from tests.support.processes import environment_of
from tests.support.waiting import wait_for

FEATURES = tuple(f"feature_{place}" for place in range(45))


def model_file(seed: int = 1, *, trees: int = 5, depth: int = 3, n_features: int = len(FEATURES)) -> bytes:
    """A classifier's file, with the names of its features."""
    generator = np.random.default_rng(seed)
    x = pd.DataFrame(generator.normal(size=(500, n_features)), columns=list(FEATURES[:n_features]))
    y = x.iloc[:, 0] + generator.normal(size=len(x)) > 0
    model = xgb.XGBClassifier(n_estimators=trees, max_depth=depth, n_jobs=1).fit(x, y)
    return bytes(model.get_booster().save_raw("ubj"))


def place_champion(
    ledger: SqlLedger, settings: Settings, content: bytes, *, version: str = "1", strategy: str = "growth"
) -> str:
    """Make it the champion, with its file where a promotion keeps it; its digest."""
    identity = ModelIdentity(sha256=hashlib.sha256(content).hexdigest(), made_by=f"run-{version}")
    CheckpointStore(settings.checkpoint_place).keep_model(key_of(identity), {MODEL: content})
    seq = ledger.champion(strategy).seq
    ledger.record_transition(strategy, decision_for(version, expected_seq=seq, identity=identity))
    assert identity.sha256 is not None
    return identity.sha256


def made_token(ledger: SqlLedger, *, name: str = "backend") -> str:
    """The text of a new token of a new user."""
    if ledger.user("caller") is None:
        ledger.add_user("caller", "a long enough password", role="viewer", created_by="test")
    return ledger.add_token(name, user="caller", role="viewer")[1]


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass
class Service:
    """`python -m worker serve` on a port of its own; started again with `start`, and gone with the block."""

    settings: Settings
    log: Path
    token: str = ""
    process: subprocess.Popen[bytes] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.settings.serve_port

    def start(self, *, within_s: float = 60.0) -> Self:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "serve"],
                cwd=ROOT,
                env={**environment_of(self.settings), **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(9),  # noqa: PLW1509 -- a killed test run leaves nothing
            )
        wait_for(self._lives, f"the service answers; its log:\n{self.told()}", within_s=within_s)
        return self

    def _lives(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.told()
        try:
            return self.ask("GET", "/healthz").status == 200
        except OSError:
            return False

    def told(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, *, within_s: float = 30.0) -> None:
        """SIGTERM."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=within_s)

    def ask(
        self, method: str, path: str, body: object = None, *, token: str | None = None, raw: bytes | None = None
    ) -> Response:
        """One request on a connection of its own. Raises OSError."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
            payload = raw if raw is not None else None if body is None else json.dumps(body).encode()
            connection.request(method, path, body=payload, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            return Response(
                status=answer.status, body=json.loads(content or b"null"), headers={**dict(answer.getheaders())}
            )
        finally:
            connection.close()

    def predict(self, rows: object, *, strategy: str = "growth", **more: object) -> Response:
        """Ask a champion."""
        return self.ask("POST", f"/api/v1/predict/{strategy}", {"rows": rows, **more})

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


def rows_of(n: int, *, seed: int = 3, features: Sequence[str] = FEATURES) -> list[dict[str, float | None]]:
    """Rows by column name, one value of each missing."""
    values = np.random.default_rng(seed).normal(size=(n, len(features)))
    rows: list[dict[str, float | None]] = [
        {name: round(float(value), 6) for name, value in zip(features, row, strict=True)} for row in values
    ]
    for row in rows:
        row[features[-1]] = None
    return rows


def service_settings(url: str, var_dir: Path, **more: Any) -> Settings:
    """Of a service with two strategies on that ledger, and no MLflow."""
    var_dir.mkdir(parents=True, exist_ok=True)
    strategies = var_dir / "strategies.toml"
    strategies.write_text("[strategies.growth]\n[strategies.value]\n")
    return Settings(
        **{
            "database_url": url,
            "var_dir": var_dir,
            "strategies_file": strategies,
            "serve_port": choose_port(),
            **more,
        }
    )
