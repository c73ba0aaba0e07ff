"""`python -m worker admin` becomes this: the page, served by uvicorn."""

from __future__ import annotations

import sys

from admin.app import create_app
from config.log_setup import access_log, set_up_logging
from config.settings import Settings, SettingsError, load_settings
from mlops import tracing
from mlops.domain.errors import AcisError, ConfigurationError
from mlops.ledger.ledger import SqlLedger
from mlops.serving.web_server import run_web_server
from tasks.services import process_services

_GRACE_S = 3
"""Open streams end at once, and an action that is under way may finish."""


def main() -> int:
    """Exit code; 2 for a wrong setting."""
    try:
        settings = load_settings()
        set_up_logging(level=settings.log_level, style=settings.log_format)
        services = process_services()
        _add_first_user(settings, services.ledger)
        app = create_app(services, write_access=access_log(is_on=settings.access_log))
        tracing.begin("admin")
        tracing.serve_requests(app)
    except (SettingsError, AcisError) as exc:
        sys.stderr.write(f"admin: {exc}\n")
        return 2
    run_web_server(
        app,
        host=settings.admin_host,
        port=settings.admin_port,
        grace_s=_GRACE_S,
        proxies=settings.admin_proxies,
    )
    return 0


def _add_first_user(settings: Settings, ledger: SqlLedger) -> None:
    """The first operator, where there is nobody yet. Raises ConfigurationError, LedgerUnavailable."""
    if settings.admin_auth is None:
        return
    name, _, password = settings.admin_auth.get_secret_value().partition(":")
    if not name or len(password) < 12:
        message = "ACIS_ADMIN_AUTH must be user:password with at least 12 characters of password"
        raise ConfigurationError(message)
    ledger.first_user(name, password, created_by="ACIS_ADMIN_AUTH")


if __name__ == "__main__":
    sys.exit(main())
