"""Counts of what is in MLflow: the part of the gateway that the admin page uses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from mlops.domain.ports import RegistryCensus, RunStart
from mlops.registry.entities import PAGE, model_version, pages, sizes


def is_served(location: str) -> bool:
    """Whether files lie at the MLflow server that is asked: the library sends its password to any other host, too.

    location : of a version, a run or a model, as whoever may write there wrote it

    >>> [is_served(one) for one in ("mlflow-artifacts:/1/a", "mlflow-artifacts://other/1", "http://other/1", "/tmp/1")]
    [True, False, False, False]
    """
    parts = urlsplit(location)
    return parts.scheme == "mlflow-artifacts" and not parts.netloc


class Counting:
    """Counting methods of a gateway, which brings the client and the translation of its errors."""

    _client: Any
    _translated: Callable[[str], AbstractContextManager[None]]

    def census(self) -> RegistryCensus:
        """List experiments, registered models and versions, a thousand per request."""
        with self._translated("what there is"):
            experiments = pages(lambda token: self._client.search_experiments(page_token=token))
            models = pages(lambda token: self._client.search_registered_models(page_token=token))
            found = pages(lambda token: self._client.search_model_versions("", max_results=PAGE, page_token=token))
        aliases: dict[str, dict[str, list[str]]] = {}
        for model in models:
            for alias, number in model.aliases.items():
                aliases.setdefault(model.name, {}).setdefault(str(number), []).append(alias)
        versions = [model_version(item, aliases.get(item.name, {})) for item in found]
        return RegistryCensus(
            experiments=tuple(item.name for item in experiments),
            models=tuple(sorted(model.name for model in models)),
            versions=tuple(sorted(versions, key=lambda item: (item.name, -int(item.version)))),
        )

    def ended_runs(self, page: str | None) -> tuple[list[RunStart], str | None]:
        """List ended runs of all experiments, newest first, and the next page's token."""
        with self._translated("a search of runs"):
            ids = [
                item.experiment_id for item in pages(lambda token: self._client.search_experiments(page_token=token))
            ]
            found = self._client.search_runs(
                ids,
                "attributes.status != 'RUNNING'",
                order_by=["attributes.start_time DESC"],
                max_results=PAGE,
                page_token=page,
            )
        runs = [
            RunStart(run_id=run.info.run_id, started_at=datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC))
            for run in found
        ]
        return runs, found.token or None

    def artifact_bytes(self, run_id: str) -> int:
        """Sum the sizes of what the server itself holds."""
        with self._translated(f"run {run_id}"):
            run = self._client.get_run(run_id)
            total = 0
            if is_served(run.info.artifact_uri):
                total += sum(sizes(lambda path: self._client.list_artifacts(run_id, path)))
            for id_ in self._served_models(run):
                total += sum(sizes(lambda path, id_=id_: self._client.list_logged_model_artifacts(id_, path)))
        return total

    def _served_models(self, run: Any) -> list[str]:  # noqa: ANN401 -- the library's Run
        """Ids of the models that a run made and the server itself holds."""
        ids = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
        return [id_ for id_ in ids if is_served(self._client.get_logged_model(id_).artifact_location)]
