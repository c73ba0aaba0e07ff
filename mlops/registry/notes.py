"""Descriptions of experiments, models, versions and runs for MLflow's pages, in markdown; pure.

Callers: `registry` and `report_runs`, which write it, and the stages, which know what was trained and found.
"""

from __future__ import annotations

from collections.abc import Mapping

NOTE_TAG = "mlflow.note.content"
"""MLflow's pages show it as the description of a run or an experiment."""
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
"""Of an experiment: it opens on runs and metrics, and not on the pages for language models."""
_DECIDED = "\n\n---\n"
"""Before what was decided, which is written anew by each decision."""
_WORDS = {
    "promote": "Promoted",
    "override": "Promoted whatever it fails",
    "rollback": "Made the champion again",
    "restore": "Restored as the champion",
    "keep": "Not promoted, the champion stays",
    "refuse": "Refused",
    "inconclusive": "Not promoted, nothing is certain",
    "await_approval": "Awaits approval",
}

TRAININGS = (
    "Every training of every strategy is a run here. A run that registered a model links to its version; the aliases "
    "`champion` and `challenger` of a model say which version is in production and which was trained last.\n\n"
    "Useful columns: parameter `strategy`, metrics `roc_auc`, `accuracy`, `log_loss`. All metrics are of the held-out "
    "dates, by the model that has not seen them: of a version that was refitted, its judged twin."
)
"""Of the experiment that holds the trainings."""


def checks_note(strategy: str) -> str:
    """Describe the experiment that holds a strategy's drift checks."""
    return (
        f"Drift checks of the strategy `{strategy}`, one run each. `drift_ratio` is the share of features that moved "
        f"by PSI, and `p_value` how rare so large a shift is in the strategy's own past. The whole report is the "
        f"artifact `drift_report.html`."
    )


def model_note(strategy: str, description: str, label: str) -> str:
    """Describe a registered model."""
    said = f"{description}\n\n" if description else ""
    return (
        f"{said}Predicts, for the strategy `{strategy}`, whether `{label}`. The alias `champion` is the version in "
        f"production; each version's description says what was decided about it, and why."
    )


def linked(note: str, admin_url: str | None, run_id: str) -> str:
    """Add the address of the run's page to the note, where one is configured."""
    if not admin_url:
        return f"{note}\n\nRun `{run_id}` of the ledger: `acis runs {run_id}`"
    return f"{note}\n\n[The run on the admin page]({admin_url.rstrip('/')}/runs/{run_id})"


def decided(note: str, tags: Mapping[str, str], stage: str) -> str:
    """Write what was decided about the version into its note, in place of an earlier decision.

    tags : `acis.decision`, `acis.reasons`, `acis.actor` of the decision
    """
    decision = tags.get("acis.decision", "")
    words = _WORDS.get(decision, decision)
    reasons = "\n".join(f"- {reason}" for reason in tags.get("acis.reasons", "").split("; ") if reason)
    head = f"**{words}**, by {tags.get('acis.actor', '')}; stage {stage}"
    return f"{note.partition(_DECIDED)[0]}{_DECIDED}{head}\n\n{reasons}"


def table(header: tuple[str, ...], *rows: tuple[object, ...]) -> str:
    """Write a table in markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
