"""`python -m worker serve`: the prediction service, by uvicorn in this process."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from config.log_setup import access_log
from mlops.registry.opening import ModelServices
from mlops.serving.places import folder_of_ledger
from mlops.serving.prediction_log import PredictionLog
from mlops.serving.router import ModelRouter
from mlops.serving.service import PredictionService
from mlops.serving.tokens import TokenCache
from mlops.serving.web_server import AccessLog, run_web_server

if TYPE_CHECKING:
    from config.settings import Settings

_GRACE_S = 5
"""Of questions that are under way when the service is asked to end; then the spool has `CLOSE_S`."""
_KEEP_S = 75
"""A backend's idle connection stays open for longer than the pools of HTTP clients keep theirs."""
_SWITCH_S = 0.001
"""A question waits so long, and not 5 ms, for the thread that brings the log to the ledger."""


def serve(settings: Settings) -> None:
    """Answer until a signal asks it to end. Raises NothingConfigured, InvalidStrategyFile."""
    services = ModelServices(settings)
    predictions = PredictionLog(
        services.ledger, folder_of_ledger(settings, "spool"), limit_bytes=settings.spool_bytes, origin="service"
    )
    tokens = TokenCache(services.ledger, folder_of_ledger(settings, "tokens") / "tokens.json")
    zone = ZoneInfo(settings.feature_time_zone)

    def today() -> date:
        return datetime.now(UTC).astimezone(zone).date()

    def opened(strategy: str) -> ModelRouter:
        return ModelRouter(strategy, services=services, recorder=predictions)

    names = list(services.strategies)
    with ThreadPoolExecutor(max_workers=4) as pool:
        routers = dict(zip(names, pool.map(opened, names), strict=True))
    import pyarrow.compute  # noqa: PLC0415 -- now, and not while somebody waits for the first answer
    import pyarrow.csv  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()  # a full collection would look through all libraries while everybody waits
    sys.setswitchinterval(_SWITCH_S)
    service = PredictionService(routers, predictions, tokens, today=today)
    run_web_server(
        AccessLog(service, write=access_log(is_on=settings.access_log)),
        host=settings.serve_host,
        port=settings.serve_port,
        grace_s=_GRACE_S,
        keep_alive_s=_KEEP_S,
        lifespan="on",
    )
