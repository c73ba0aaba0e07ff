"""Flower's HTTP API, asked as a program does."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from config.endpoints import Endpoints

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class FlowerApi:
    """One stack's Flower."""

    endpoints: Endpoints

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Every task that it has seen, by id."""
        status, body = self.get("/api/tasks", sign_in=True)
        assert status == HTTPStatus.OK
        found: dict[str, dict[str, Any]] = json.loads(body)
        return found

    def get(self, path: str, *, sign_in: bool) -> tuple[int, str]:
        """Status and body."""
        request = urllib.request.Request(self.endpoints.flower_url + path)
        if sign_in:
            secrets = json.loads(self.endpoints.flower_credentials.read_text(encoding="utf-8"))
            pair = f"{secrets['flower_user']}:{secrets['flower_password']}"
            request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()
