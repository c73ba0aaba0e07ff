"""The numbers by which KEDA scales workers, asked as k8s/ has it: work that waits, and work that is being done."""

from __future__ import annotations

import re
import secrets

import pytest
import yaml
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from config.settings import ROOT
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.schema import migrate
from tests.support.ledgers import accepted_and_sent, granted, request_for
from worker.routing import ROLES

_FILES = ("components/keda/scaled-objects.yaml", "overlays/gpu/scaled-object.yaml")
QUERIES: dict[str, str] = {
    document["metadata"]["name"]: trigger["metadata"]["query"]
    for name in _FILES
    for document in yaml.safe_load_all((ROOT / "k8s" / name).read_text(encoding="utf-8"))
    for trigger in document["spec"].get("triggers", [])
}


#: As the page has it, in its order.
_MAKING = re.findall(
    r"^ +((?:CREATE ROLE|GRANT) .*acis_scaler.*;)$",
    (ROOT / "k8s/base/README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def asked(ledger: SqlLedger, name: str) -> int:
    with ledger.database.reading() as connection:
        return int(connection.scalar(text(QUERIES[name])) or 0)


def test_the_user_of_the_page_may_ask_and_nothing_else(postgres_url: str) -> None:
    url, password = make_url(postgres_url), secrets.token_hex(8)
    migrate(postgres_url)
    owner = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    scaler = create_engine(url.set(username="acis_scaler", password=password))
    try:
        with owner.connect() as connection:
            connection.execute(
                text(f"REVOKE ALL ON DATABASE {url.database} FROM PUBLIC")
            )  # as `acis server-users` does
            for statement in _MAKING:
                mine = statement.replace("'…'", f"'{password}'").replace("DATABASE acis ", f"DATABASE {url.database} ")
                connection.execute(text(mine))
        with scaler.connect() as connection:
            assert [connection.scalar(text(query)) for query in QUERIES.values()] == [0] * len(QUERIES)
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text("SELECT 1 FROM mlops_run"))
    finally:
        scaler.dispose()
        with owner.connect() as connection:
            connection.execute(text("DROP OWNED BY acis_scaler"))
            connection.execute(text("DROP ROLE acis_scaler"))
        owner.dispose()


@pytest.mark.parametrize("name", QUERIES)
def test_the_queue_is_that_of_the_role(name: str) -> None:
    assert f"queue = '{ROLES[name.replace('-', '.')].queue}'" in QUERIES[name]


def test_what_waits_and_what_is_worked_at_counts_and_nothing_else(ledger: SqlLedger) -> None:
    assert asked(ledger, "drift") == 0
    waiting, busy, over = (
        accepted_and_sent(ledger, request_for(strategy=name)).run_id for name in ("growth", "value", "momentum")
    )
    assert asked(ledger, "drift") == 3
    granted(ledger, busy)
    ledger.cancel(over, actor="test")
    assert asked(ledger, "drift") == 2
    assert (asked(ledger, "train-cpu"), asked(ledger, "train-gpu")) == (0, 0)
    granted(ledger, waiting)
    assert asked(ledger, "drift") == 2  # both are busy, and neither counts as idle


def test_what_is_due_later_wakes_no_worker(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    ledger.fail(granted(ledger, run_id), error="away", retry=True, delay_s=600, counts=False)
    assert asked(ledger, "drift") == 0


def test_what_is_due_within_the_minute_keeps_its_worker(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    ledger.fail(granted(ledger, run_id), error="away", retry=True, delay_s=20, counts=False)
    assert asked(ledger, "drift") == 1
