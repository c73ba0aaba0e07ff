"""The ledger as the rest of the system sees it: `mlops.domain.ports.Ledger` on PostgreSQL.

runs, stages, leases, stage_completion                       a run's life
champions, registry_findings                                 decisions, their models and their registry
reconciliation, set_back, timetable, workers                 missing messages, restores, slots, liveness
accounts, sign_in_limits                 people, their sessions and tokens; how often passwords may be tried
auditing, retention                      what people did; what is old is taken out
live/                                    what models said in use, what came of it, experiments, awaited features
queries/                                 what pages and commands read, in few queries
engine, tables, columns, schema, studies connection, tables, migrations; trials of a tuning, by Optuna
"""

from __future__ import annotations

from mlops.ledger.auditing import Auditing
from mlops.ledger.engine import Database
from mlops.ledger.leases import Leases
from mlops.ledger.live.experiments import Experiments
from mlops.ledger.live.predictions import Predictions
from mlops.ledger.live.watermarks import Watermarks
from mlops.ledger.people.accounts import Credentials, Users
from mlops.ledger.people.policy_edits import Policies
from mlops.ledger.people.sign_in_limits import SignInLimits
from mlops.ledger.queries.attempts import Attempts
from mlops.ledger.queries.checks import CheckList
from mlops.ledger.queries.decisions import Decisions
from mlops.ledger.queries.live import LiveQueries
from mlops.ledger.queries.models import ModelList
from mlops.ledger.queries.readers import RunQueries
from mlops.ledger.queries.run_lists import JobList, RunList, StartList
from mlops.ledger.queries.strategy_status import StrategyStatusQueries
from mlops.ledger.reconciliation import Outboxes, Reconciling
from mlops.ledger.registry.findings import ArtifactSizes, RegistryFindings
from mlops.ledger.registry.model_files import ModelFiles
from mlops.ledger.reports import Reports
from mlops.ledger.retention import Retention
from mlops.ledger.runs import Runs
from mlops.ledger.set_back import Identity, SettingBack
from mlops.ledger.stage_completion import StageCompletion
from mlops.ledger.timetable import Timetable
from mlops.ledger.workers import Workers


class SqlLedger(
    Runs,
    Leases,
    StageCompletion,
    Experiments,
    Decisions,
    ModelFiles,
    Reconciling,
    Outboxes,
    Timetable,
    Watermarks,
    Workers,
    Policies,
    RunQueries,
    Reports,
    Attempts,
    StrategyStatusQueries,
    RunList,
    CheckList,
    JobList,
    ModelList,
    LiveQueries,
    StartList,
    Users,
    Credentials,
    SignInLimits,
    Auditing,
    RegistryFindings,
    ArtifactSizes,
    Retention,
    Predictions,
    Identity,
    SettingBack,
):
    """All parts on one database; safe to use from several threads, each call being a transaction of its own."""

    def close(self) -> None:
        """Drop the connections; a later call opens new ones."""
        self.database.close()


def open_ledger(url: str, *, lease_s: float = 60.0) -> SqlLedger:
    """The ledger at a database's URL; connects at the first call. Raises ConfigurationError for other URLs."""
    return SqlLedger(Database(url), lease_s=lease_s)
