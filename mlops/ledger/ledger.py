"""The ledger as the rest of the system sees it: `mlops.domain.ports.Ledger` on PostgreSQL."""

from __future__ import annotations

from mlops.ledger.access import Access
from mlops.ledger.artifact_sizes import ArtifactSizes
from mlops.ledger.attempts import Attempts
from mlops.ledger.auditing import Auditing
from mlops.ledger.champions import Champions
from mlops.ledger.check_list import CheckList
from mlops.ledger.identity import Identity
from mlops.ledger.job_list import JobList
from mlops.ledger.leases import Leases
from mlops.ledger.model_list import ModelList
from mlops.ledger.outboxes import Outboxes
from mlops.ledger.policies import Policies
from mlops.ledger.readers import Readers
from mlops.ledger.reconciling import Reconciling
from mlops.ledger.registry_findings import RegistryFindings
from mlops.ledger.reports import Reports
from mlops.ledger.retention import Retention
from mlops.ledger.run_list import RunList
from mlops.ledger.runs import Runs
from mlops.ledger.set_back import SettingBack
from mlops.ledger.stage_completion import Endings
from mlops.ledger.start_list import StartList
from mlops.ledger.strategy_status import Standings
from mlops.ledger.timetable import Timetable
from mlops.ledger.users import Users
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
