"""Where Flower and MLflow show the same thing, as a browser reaches them."""

from __future__ import annotations

from urllib.parse import quote

from config.settings import Settings
from mlops.addresses import MLFLOW_VIEW, without_credentials


def mlflow_home(settings: Settings) -> str | None:
    """MLflow's own pages; None where none is configured, or it has no pages."""
    uri = settings.mlflow_tracking_uri
    home = settings.mlflow_url or (without_credentials(uri.get_secret_value()) if uri else "")
    return home.rstrip("/") if home.startswith("http") else None


def mlflow_run(settings: Settings, run_id: str | None) -> str | None:
    """A run there."""
    home = mlflow_home(settings)
    return f"{home}/#/runs/{quote(run_id)}?{MLFLOW_VIEW}" if home and run_id else None


def mlflow_model(settings: Settings, model_name: str) -> str | None:
    """A registered model there."""
    home = mlflow_home(settings)
    return f"{home}/#/models/{quote(model_name)}?{MLFLOW_VIEW}" if home else None


def flower_task(settings: Settings, task_id: str | None) -> str | None:
    """A task there."""
    home = settings.flower_url
    return f"{home.rstrip('/')}/task/{quote(task_id)}" if home and task_id else None
