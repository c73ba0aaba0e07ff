"""The durable record of runs, stages, reports and promotions; PostgreSQL is the truth, Redis rings the bell.

states        every arrow between states (pure)        records   what goes in and comes out (pure)
runs          accept, cancel, requeue                  leases    claim, renew
endings       finish, fail, release, worker_lost       closing   a run's end and its outcome
champions     decisions and the version in production  bells     when a message is due
reconciling   missing messages, expired leases         outboxes, timetable, workers, policies, readers
retention     what is old is taken out                 studies   trials of a tuning, by Optuna
engine        connection and its errors                schema    migrations
standings, run_list, attempts, artifact_sizes     what the page reads, in few queries
users, access, auditing                           who may use the page, and what they did
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.ledger.ledger import SqlLedger


def open_ledger(url: str, *, lease_s: float = 60.0) -> SqlLedger:
    """The ledger at a database's URL; connects at the first call. Raises ConfigurationError for other URLs."""
    # imported here: whoever reads the records alone does not load SQLAlchemy
    from mlops.ledger.engine import Database  # noqa: PLC0415
    from mlops.ledger.ledger import SqlLedger  # noqa: PLC0415

    return SqlLedger(Database(url), lease_s=lease_s)
