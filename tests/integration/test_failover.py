"""A ledger on a real primary with a real standby that follows asynchronously, lacks the last moment, and is promoted."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery
from pydantic import SecretStr

from config.settings import Settings
from devstack import account, postgres
from devstack.ports import choose_port
from mlops.bootstrap import Services
from mlops.domain.errors import LeaseLost
from mlops.ledger.schema import migrate
from tasks.services import connect
from tests.chaos.proxy import FaultyProxy
from tests.chaos.servers import Postgres, standby_of, through
from tests.support.ledgers import accepted_and_sent, granted, request_for
from tests.support.servers import origin
from tests.support.waiting import wait_for
from worker.app import celery_config
from worker.set_back import notice_set_back


@pytest.fixture
def primary() -> Iterator[tuple[Postgres, FaultyProxy]]:
    """A server as durable as in production, and the address under which it, or its successor, is found."""
    with tempfile.TemporaryDirectory(prefix="acis-failover-") as name, ExitStack() as stack:
        folder, user = Path(name), account.server_account()
        home = account.make_home(folder / "postgres", user)
        stack.callback(account.remove_home, folder / "postgres")
        installation = postgres.reachable(postgres.find_installation(origin()), home=home, user=user)
        password = secrets.token_urlsafe(16)
        data_dir = postgres.init_cluster(installation, home=home, password=password, user=user)
        server = Postgres(
            installation, data_dir, port=choose_port(), user=user, password=password, log=folder / "postgres.log"
        )
        stack.callback(server.stop)
        server.start()
        yield server, stack.enter_context(FaultyProxy(server.port))


def test_after_a_failover_that_lost_a_moment_it_is_noticed_and_whoever_was_granted_in_it_writes_nothing(
    primary: tuple[Postgres, FaultyProxy], redis_url: str, tmp_path: Path
) -> None:
    server, front = primary
    url = through(postgres.create_database(server.server_url, "acis"), front)
    migrate(url)
    services: Services = connect(
        Settings(database_url=SecretStr(url), celery_broker_url=SecretStr(redis_url), var_dir=tmp_path)
    )
    app = Celery(set_as_current=False)
    app.conf.update({**celery_config(services.settings, None), "imports": (), "task_routes": None})
    ledger = services.ledger
    kept = accepted_and_sent(ledger).run_id
    with standby_of(server) as standby:
        wait_for(standby.has_caught_up, "the standby follows", within_s=60.0)
        notice_set_back(app, services)
        wait_for(standby.has_caught_up, "the standby has the position", within_s=60.0)
        standby.proxy.refuse()
        forgotten = granted(ledger, kept, worker="of the last moment")
        lost = accepted_and_sent(ledger, request_for("value")).run_id
        server.kill()
        standby.promote([front])
        ledger.close()
        assert ledger.unknown_runs([kept, lost]) == {lost}
        anew = granted(ledger, kept, worker="of the new primary")
        assert anew.token == forgotten.token
        with pytest.raises(LeaseLost):
            ledger.renew(forgotten)
        ledger.renew(anew)
        # The position is the same on both: what tells is the timeline.
        notice_set_back(app, services)
        assert ledger.forgotten().registry_since is not None
        ledger.close()
        app.close()
