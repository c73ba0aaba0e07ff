"""A ledger as a year with 400 strategies leaves it, written by the server itself; for bench/admin.py."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import create_engine, text

LARGE_REPORTS = 90
"""Checks of the first strategy that have a whole report, so many as a preview of its policy reads."""

_TRAINED = {
    "model_name": "acis_classifier",
    "mlflow_run_id": "0" * 32,
    "metrics": {
        **dict.fromkeys(("accuracy", "f1_score", "roc_auc", "precision", "recall", "log_loss", "brier"), 0.7123),
        **{f"fold_{number}_{name}": 0.7123 for number in range(5) for name in ("accuracy", "roc_auc", "log_loss")},
    },
    "n_train": 100_000,
    "train_end": "2026-01-05",
    "holdout_start": "2026-01-10",
    "holdout_end": "2026-02-25",
    "folds": [{"fold": n, "first": "2025-01-01", "last": "2025-03-01", "metrics": {"roc_auc": 0.7}} for n in range(5)],
    "notes": ["a sentence of the usual length about what was found in the data"] * 10,
}
"""Of a size as trainings leave it."""

_FILL = (
    # Every strategy is checked once a day, and every tenth check leads to a training and a decision.
    """
    INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, slot, reason, requested_by, as_of,
                           policy, params, outcome, created_at, finished_at)
    SELECT 'run-' || s || '-' || d, 'live', 's' || lpad(s::text, 3, '0'), 'pipeline',
           CASE WHEN d % 10 = 0 THEN 'refused' WHEN (s * 7 + d) % 97 = 1 THEN 'failed' ELSE 'succeeded' END,
           'celery', 'slot ' || d, 'schedule', 'beat', (now() - d * interval '1 day')::date,
           CAST(:policy AS jsonb), '{}',
           jsonb_build_object('version', d::text, 'stages', jsonb_build_object('drift', jsonb_build_object(
             'verdict', CASE WHEN d % 10 = 0 THEN 'drifted' ELSE 'stable' END))),
           now() - d * interval '1 day' - s * interval '1 second', now() - d * interval '1 day' + interval '40 seconds'
    FROM generate_series(0, :strategies - 1) AS s, generate_series(1, :days) AS d
    """,
    """
    INSERT INTO mlops_stage (run_id, stage, state, strategy, executor, device, max_attempts, deadline_s, token, attempt,
                             publish_no, ring_at, ring_backoff_s, queue, worker, queued_at, started_at, claimed_at,
                             finished_at, result)
    SELECT run_id, name, 'succeeded', strategy, 'celery', 'auto', 3, 900, 1, 1, 1, created_at, 60, 'drift',
           'drift@host', created_at, created_at + interval '1 second', created_at + interval '1 second',
           created_at + (10 + length(run_id)) * interval '1 second',
           CASE WHEN name = 'train' THEN CAST(:trained AS jsonb) || jsonb_build_object('version', outcome ->> 'version')
                ELSE CAST(:result AS jsonb) END
    FROM mlops_run, (VALUES ('drift'), ('train'), ('promote')) AS stages (name)
    WHERE name = 'drift' OR state = 'refused'
    """,
    """
    INSERT INTO mlops_drift_report (run_id, namespace, strategy, as_of, report, created_at, verdict, rule, raw_verdict,
                                    share, alert_share, p_value, alpha, n_placements, logged_at)
    SELECT run_id, 'live', strategy, as_of, CAST(:small AS jsonb), finished_at,
           CASE WHEN state = 'refused' THEN 'drifted' ELSE 'stable' END, 'calibrated',
           CASE WHEN state = 'refused' THEN 'drifted' ELSE 'stable' END,
           (hashtext(run_id) & 255) / 255.0, 0.3,
           (CASE WHEN state = 'refused' THEN 0.05 ELSE 1.0 END)
             * (1 + (hashtext('p' || run_id) & 255)) / 256.0, 0.05, 400, now()
    FROM mlops_run WHERE state <> 'failed'
    """,
    """
    UPDATE mlops_drift_report SET report = CAST(:large AS jsonb) WHERE id IN (
      SELECT id FROM mlops_drift_report WHERE strategy = 's000' ORDER BY as_of DESC LIMIT :large_reports)
    """,
    """
    INSERT INTO mlops_promotion (run_id, namespace, strategy, model_name, version, decision, reasons, evidence,
                                 evidence_digest, actor, target_stage, seq, as_of, created_at, projected_at)
    SELECT run_id, 'live', strategy, 'acis_' || strategy || '_classifier', (outcome ->> 'version'), 'keep',
           '["the champion is better"]', '{}', 'digest', 'policy', 'Archived', 1, as_of, finished_at, finished_at
    FROM mlops_run WHERE state = 'refused' ORDER BY created_at
    """,
    """
    INSERT INTO mlops_champion (namespace, strategy, version, seq, as_of, promotion_id, changed_at)
    SELECT 'live', strategy, max(version), 1, min(as_of), max(id), now() FROM mlops_promotion GROUP BY strategy
    """,
    """
    INSERT INTO mlops_schedule (key, strategy, kind, cron, offset_s, grace_s, enabled, last_slot)
    SELECT 's' || lpad(s::text, 3, '0') || ':' || name, 's' || lpad(s::text, 3, '0'), kind, cron, s, 43200, true,
           date_trunc('day', now())
    FROM generate_series(0, :strategies - 1) AS s,
         (VALUES ('drift_check', 'pipeline', '0 3 * * *'), ('retrain', 'retrain', '0 4 * * 0'))
         AS jobs (name, kind, cron)
    """,
    """
    INSERT INTO mlops_audit (actor, action, subject, created_at, address)
    SELECT 'anna', 'run.cancel', 'run-' || n, now() - n * interval '1 minute', '127.0.0.1'
    FROM generate_series(1, 20000) AS n
    """,
    """
    INSERT INTO mlops_worker (name, role, queues, device, pid, host, concurrency, seen_at)
    SELECT 'drift-' || n || '@host', 'drift', '["drift"]', 'cpu', n, 'host', 2, now() FROM generate_series(1, 20) AS n
    """,
    # What works and what waits now.
    """
    INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, reason, requested_by, policy, params,
                           created_at)
    SELECT 'open-' || s, 'live', 's' || lpad(s::text, 3, '0'), 'train', 'running', 'celery', 'operator', 'anna',
           CAST(:policy AS jsonb), '{}', now()
    FROM generate_series(0, 99) AS s
    """,
    """
    INSERT INTO mlops_stage (run_id, stage, state, strategy, executor, device, max_attempts, deadline_s, token, attempt,
                             lease_until, publish_no, published_at, ring_at, ring_backoff_s, queue, worker, queued_at,
                             started_at, claimed_at, progress)
    SELECT run_id, 'train', CASE WHEN run_id < 'open-3' THEN 'running' ELSE 'queued' END, strategy, 'celery', 'auto', 3,
           2700, 1, 1, now() + interval '1 hour', 1, now(), now() + interval '1 hour', 60, 'train.cpu', 'drift-1@host',
           now(), now(), now(), '{"done": 40, "total": 100, "unit": "rounds", "left_s": 30}'
    FROM mlops_run WHERE run_id LIKE 'open-%'
    """,
    # What the server does by itself within a minute.
    "VACUUM ANALYZE",
)


def fill(url: str, *, strategies: int, days: int, policy: dict[str, Any], report: dict[str, Any]) -> int:
    """Rows of every table that a page reads; how many runs. report : a whole one, of which lists need a part"""
    small = {name: report[name] for name in ("timestamp", "summary", "verdict", "windows") if name in report}
    verdict = {"verdict": "stable", "verdict_reason": "no shift", "retrain": False, "retrain_reason": None}
    values: dict[str, object] = {
        "strategies": strategies,
        "days": days,
        "policy": json.dumps(policy),
        "result": json.dumps(verdict),
        "trained": json.dumps(_TRAINED),
        "small": json.dumps(small),
        "large": json.dumps(report),
        "large_reports": LARGE_REPORTS,
    }
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in _FILL:
            names = [name for name in values if f":{name}" in statement]
            connection.execute(text(statement), {name: values[name] for name in names})
        n_runs = int(connection.scalar(text("SELECT count(*) FROM mlops_run")) or 0)
    engine.dispose()
    return n_runs
