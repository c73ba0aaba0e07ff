"""The ledger as the rest of the system sees it: `mlops.domain.ports.Ledger` on PostgreSQL."""

from __future__ import annotations

from mlops.ledger.accounts import Access, Users
from mlops.ledger.auditing import Auditing
from mlops.ledger.champions import Champions
from mlops.ledger.leases import Leases
from mlops.ledger.policies import Policies
from mlops.ledger.queries.checks import CheckList
from mlops.ledger.queries.models import ModelList
from mlops.ledger.queries.readers import Readers
from mlops.ledger.queries.run_lists import JobList, RunList, StartList
from mlops.ledger.queries.strategy_status import Standings
from mlops.ledger.reconciliation import Outboxes, Reconciling
from mlops.ledger.registry_findings import ArtifactSizes, RegistryFindings
from mlops.ledger.reports import Reports
from mlops.ledger.retention import Retention
from mlops.ledger.runs import Runs
from mlops.ledger.set_back import Identity, SettingBack
from mlops.ledger.stage_completion import Attempts, Endings
from mlops.ledger.timetable import Timetable
from mlops.ledger.workers import Workers


class SqlLedger(
    Runs,
    Leases,
    Endings,
    Champions,
    Reconciling,
    Outboxes,
    Timetable,
    Workers,
    Policies,
    Readers,
    Reports,
    Attempts,
    Standings,
    RunList,
    CheckList,
    JobList,
    ModelList,
    StartList,
    Users,
    Access,
    Auditing,
    RegistryFindings,
    ArtifactSizes,
    Retention,
    Identity,
    SettingBack,
):
    """All parts on one database; safe to use from several threads, each call being a transaction of its own."""

    def close(self) -> None:
        """Drop the connections; a later call opens new ones."""
        self.database.close()
