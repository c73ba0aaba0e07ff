"""Every failpoint of the system, read from its source, and those that the suite's load cannot reach, with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from config.settings import ROOT

PACKAGES = ("worker", "tasks", "mlops")
#: What follows a block's name: `transaction("x")` has x.before_commit and x.committed.
AROUND = {
    "transaction": ("before_commit", "committed"),
    "statement": ("before_commit", "committed"),
    "external_write": ("before", "done"),
}

UNREACHED = {
    "ledger.cancel": "the command's and the page's process, which nobody restarts",
    "ledger.requeue": "as above",
    "ledger.set_draining": "as above",
    "ledger.settle_quarantined": "as above",
    **dict.fromkeys(
        ("ledger.was_set_back", "ledger.looked_through", "ledger.quarantine"),
        "needs a ledger that was set back; the next pass does it again",
    ),
    "ledger.edit_policy": "the command's and the page's process, which nobody restarts",
    "ledger.accept_registry": "as above",
    "ledger.record_model_file": "as above",
    "ledger.identity": "once in a ledger's life, at the first question of any process; one statement, done again",
    "ledger.identify": "of champions that an earlier version of this system promoted; one statement, done again",
    "ledger.champion_seen": "a registry that comes back by itself; one statement, done again at the next look",
    "ledger.record_transition": "a person's change in the registry; one statement's transaction",
    **dict.fromkeys(
        ("ledger.note_changed_by_hand", "ledger.reword_change"),
        "needs a change that somebody makes in MLflow; one transaction each, and what is not taken back is found anew",
    ),
    "ledger.keep_model_files": "hourly; one statement, done again",
    "ledger.reroute": "needs a GPU worker that vanishes; one statement",
    "ledger.fail_lost_inline": "needs an inline run that died; a retry of the pass does it again",
    "ledger.redeliver_outcome": "needs a start message that comes again after its run's end; the reconciler stores it",
    "ledger.slots_skipped": "needs slots that everybody missed; one transaction, done again at the next tick",
    "ledger.set_back": "needs a clock that goes back; one transaction, done again at the next tick",
    "ledger.set_leases_back": "as above, in the next pass",
    "ledger.timetable_begins": "once in an entry's life, before the test arms anything",
    "ledger.sync_schedule": "at beat's start, the same statements at each",
    **dict.fromkeys(
        (
            "ledger.add_user",
            "ledger.set_password",
            "ledger.change_user",
            "ledger.first_user",
            "ledger.open_session",
            "ledger.session",
            "ledger.end_session",
            "ledger.add_token",
            "ledger.token_of",
            "ledger.revoke_token",
            "ledger.audit",
            "ledger.audit_refusal",
            "ledger.begin_try",
            "ledger.end_right_try",
            "ledger.unlock",
            "ledger.browser_key",
            "ledger.sign_out_everywhere",
        ),
        "the page's process: one statement each, and a person who sees that it failed",
    ),
    **dict.fromkeys(
        ("ledger.write_predictions", "ledger.make_partitions"),
        "the prediction service's, and of strategies that predict, which the load has none of, since workers of the "
        "release before cannot; tests/integration/serving/test_kills.py and live/test_killed.py kill them there",
    ),
    "ledger.note_look": "of strategies that predict, as above; tests/contracts/ledger/test_experiments.py kills it",
    "ledger.break_guardrail": "as above: one transaction, which ends what it finds running",
    **dict.fromkeys(
        ("ledger.start_experiment", "ledger.steer_experiment"),
        "the command's and the page's process, which nobody restarts",
    ),
    "ledger.settle_targets": "nightly; one statement, done again the next night",
    "ledger.count_answers": "the prediction service's; the next count of the minute has what this one had",
    "ledger.purge_answers": "hourly; one statement",
    "ledger.purge_predictions": "hourly; one statement for each month",
    **dict.fromkeys(
        ("ledger.note_newest", "ledger.note_late", "ledger.not_late", "ledger.dates_missed"),
        "of strategies that predict; the next look, a minute later, does the same again",
    ),
    "ledger.fill_check_columns": "needs a worker of an older version; the next pass does the same again",
    "ledger.answered": "needs a start by name beside a run of its kind, met by chance; it comes again and is answered anew",
    "ledger.measured": "sizes of artifacts, measured again by the hour",
    "ledger.purge_runs": "hourly; one statement",
    "ledger.purge_reports": "as above",
    "ledger.purge_live_reports": "as above",
    "ledger.purge_workers": "as above",
}
"""Places with the reason why no kill at them is a part of the short suite."""


def all_places() -> list[str]:
    """Names of all failpoints, ascending."""
    return sorted({place for path in _sources() for place in _places_of(path)})


def reached_places() -> list[str]:
    """Those that the load comes by."""
    return [place for place in all_places() if place.rpartition(".")[0] not in UNREACHED]


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def _places_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for after in AROUND.get(called, ()):
            yield f"{node.args[0].value}.{after}"
