"""The gateway's errors in words. Nothing is asked of any server."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException

from mlops.errors import RegistryError, RegistryUnavailable
from mlops.mlflow.gateway import Gateway

URI = "http://user:s3cr3t@registry:5000"


class FailingClient:
    """Stands for the library's client."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, _: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise self.error

        return fail


@pytest.mark.parametrize(
    "error",
    [
        MlflowException(f"API request to {URI}/api/2.0/mlflow failed with exception: refused"),
        requests.ConnectionError(f"no answer from {URI}/api"),
    ],
)
def test_an_error_names_the_server_without_its_password(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(URI)
    monkeypatch.setattr(gateway, "_client", FailingClient(error))
    with pytest.raises((RegistryError, RegistryUnavailable)) as caught:
        gateway.delete_alias("growth", "champion")
    assert "http://registry:5000" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
