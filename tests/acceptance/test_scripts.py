"""The documented scripts, word for word, from another folder, with no variable but where the stack's files are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from config.settings import ROOT
from mlops.domain.records import Executor
from tests.acceptance.conftest import STRATEGIES
from tests.support.served_stack import ServedStack, Terminal

DRIFT = "mlops/drift_detection/drift_detector.py"
TRAIN = "mlops/mlflow/train_with_mlflow.py"
RETRAIN = "mlops/retraining/auto_retrain.py"

NEWEST = "2022-12-28"  # of the sample's prices
# Every strategy of the sample has drifted on both. The demo has not trained on either, and on the second one only the
# pipeline over all strategies does: a check of an episode that was retrained in needs no second training.
CRASH = "2008-10-10"
RETRAINED_CRASH = "2011-08-08"
SUMMARY = (
    r"Pipeline Summary:\n"
    r"Total strategies processed: {total}\n"
    r"Drift detected: \d+\n"
    r"Models retrained: \d+\n"
    r"Promoted to production: \d+\n"
    r"Errors: {errors}\n"
)


def test_the_drift_script_prints_the_guide_s_summary_writes_its_report_and_exits_1_where_needed(
    terminal: Terminal,
) -> None:
    words = f"python {ROOT}/{DRIFT} \\\n    --strategy growth \\\n    --alert-threshold 0.3"
    calm = terminal.run(words + "\n")
    assert calm.code == 0, calm.said
    assert f"As of: {NEWEST}\n" in calm.out
    assert "  Retraining needed: False\n  Verdict: stable: " in calm.out
    ended = terminal.run(words + f" --as-of {CRASH}\n")
    assert ended.code == 1, ended.said
    path = terminal.folder / f"drift_report_growth_{CRASH.replace('-', '')}.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    ratio = report["summary"]["drifted_features_psi"] / report["n_features"]
    assert ended.out.startswith(
        "Checking data drift for growth...\n"
        f"As of: {CRASH}\n"
        f"Drift report saved to: {path}\n\n"
        "Drift Detection Summary:\n"
        f"  Features analyzed: {report['n_features']}\n"
        f"  Features with drift (KS): {report['summary']['drifted_features_ks']}\n"
        f"  Features with drift (PSI): {report['summary']['drifted_features_psi']}\n"
        f"  Drift ratio: {ratio:.2%}\n"
        "  Retraining threshold: 30.00%\n"
        "  Retraining needed: True\n"
        "  Verdict: drifted: so large a shift is rare here (p 0.00"
    )


def test_the_report_file_has_the_documented_keys(terminal: Terminal) -> None:
    terminal.script(DRIFT, "--strategy", "growth", "--as-of", "2019-12-13")
    report = json.loads((terminal.folder / "drift_report_growth_20191213.json").read_text(encoding="utf-8"))
    documented = {"timestamp", "n_features", "n_samples_reference", "n_samples_current", "drift_threshold"}
    assert report.keys() >= documented | {"summary", "ks_test", "psi"}
    assert report["summary"].keys() >= {"drifted_features_ks", "drifted_features_psi", "drift_detected"}
    assert report["drift_threshold"] == 0.05
    assert len(report["ks_test"]) == len(report["psi"]) == report["n_features"]
    assert all(found.keys() >= {"p_value", "drifted"} for found in report["ks_test"].values())
    assert all(found.keys() >= {"psi_value", "drifted"} for found in report["psi"].values())
    # the documented rules: p below 0.05, PSI from 0.2 on
    assert all(found["drifted"] == (found["p_value"] < 0.05) for found in report["ks_test"].values())
    assert all(found["drifted"] == (found["psi_value"] >= 0.2) for found in report["psi"].values())
    assert sum(found["drifted"] for found in report["psi"].values()) == report["summary"]["drifted_features_psi"]


def test_the_drift_script_exits_0_where_no_retraining_is_needed(terminal: Terminal) -> None:
    ended = terminal.script(DRIFT, "--strategy", "growth", "--alert-threshold", "1.0")
    assert ended.code == 0, ended.said
    assert "  Retraining threshold: 100.00%\n  Retraining needed: False\n" in ended.out


def test_the_workers_do_it_with_queue_and_json_is_all_that_is_printed(stack: ServedStack, terminal: Terminal) -> None:
    ended = terminal.script(DRIFT, "--strategy", "momentum", "--as-of", CRASH, "--queue", "--json")
    assert ended.code == 1, ended.said
    run = json.loads(ended.out)
    assert (run["kind"], run["state"], run["as_of"], run["executor"]) == ("check", "succeeded", CRASH, "celery")
    assert run["stages"][0]["worker"].startswith("drift@")
    assert stack.services.ledger.run(run["run_id"]).executor is Executor.CELERY


def test_the_training_script_registers_a_version_in_staging(stack: ServedStack, terminal: Terminal) -> None:
    ended = terminal.run(f"python {ROOT}/{TRAIN} --strategy growth")
    assert ended.code == 0, ended.said
    assert ended.out.startswith("Training XGBoost model for growth...\n")
    found = re.search(r"^Retraining completed\. Run ID: ([0-9a-f]{32})$", ended.out, re.MULTILINE)
    assert found, ended.said
    versions = stack.services.registry.versions("acis_growth_classifier")
    assert [version.stage for version in versions if version.run_id == found[1]] == ["Staging"]


def test_the_training_script_promotes_what_meets_the_policy_and_says_why_not(
    stack: ServedStack, terminal: Terminal
) -> None:
    ended = terminal.run(f"python {ROOT}/{TRAIN} --strategy growth --promote")
    assert ended.code == 0, ended.said
    found = re.search(r"^Model: acis_growth_classifier v(\d+)\nAccuracy: 0\.\d{3}\n", ended.out, re.MULTILINE)
    assert found, ended.said
    stage = stack.services.registry.version("acis_growth_classifier", found[1]).stage
    if stage == "Production":
        assert "✅ Model promoted to Production\n" in ended.out
    else:
        assert stage in ("Archived", "Staging")  # Staging: nobody knows whether it is better
        assert re.search(r"❌ Model not promoted.*\n  - \S", ended.out)


def test_the_pipeline_prints_its_summary_for_the_strategies_that_were_named(terminal: Terminal) -> None:
    ended = terminal.run(
        f"python {ROOT}/{RETRAIN} \\\n"
        "    --strategies growth momentum \\\n    --drift-threshold 0.3 \\\n    --min-accuracy 0.7 --summary"
    )
    assert ended.code == 0, ended.said
    assert re.fullmatch(SUMMARY.format(total=2, errors=0), ended.out)


def test_the_pipeline_over_all_strategies_prints_the_guide_s_lines(terminal: Terminal) -> None:
    command = f"python {ROOT}/{RETRAIN} --drift-threshold 0.3 --as-of {RETRAINED_CRASH} 2>&1 | tee retrain.log"
    ended = terminal.run(["bash", "-o", "pipefail", "-c", command])
    assert ended.code == 0, ended.said
    printed = (terminal.folder / "retrain.log").read_text(encoding="utf-8")
    assert printed == ended.out
    for strategy in STRATEGIES:
        lines = re.search(
            rf"Processing strategy: {strategy}\n"
            rf"Checking data drift for {strategy}\.\.\.\n"
            rf"(.*\n)*?Drift report saved to: \S+/drift_report_{strategy}_\d{{8}}\.json\n\n"
            r"Drift Detection Summary:\n  Features analyzed: \d+\n(.*\n)*?  Retraining needed: True\n  Verdict: drifted: .*\n(  .*\n)*\n"
            rf"(Drift detected for {strategy}\. Starting retraining|"
            rf"No Production version for {strategy}\. Starting training)\.\.\.\n"
            r"Training XGBoost model\.\.\.\nRetraining completed\. Run ID: [0-9a-f]{32}\n"
            rf"(.*\n)*?\nModel: acis_{strategy}_classifier v\d+\nAccuracy: 0\.\d{{3}}\n",
            printed,
        )
        assert lines, printed
    # the guide's gate, which only `direction` keeps in the sample
    assert "\nRequired: 0.700\n" in printed
    assert re.search(SUMMARY.format(total=5, errors=0), printed)


def test_the_pipeline_exits_1_where_a_strategy_had_an_error_and_goes_on_with_the_others(terminal: Terminal) -> None:
    ended = terminal.script(RETRAIN, "--strategies", "growth", "value", "--as-of", "1980-01-02")
    assert ended.code == 1, ended.said
    assert re.search(SUMMARY.format(total=2, errors=2), ended.out)
    for strategy in ("growth", "value"):
        assert f"Error: {strategy}: strategy '{strategy}' has no rows in its reference window" in ended.err
    assert "Traceback" not in ended.said


def test_the_pipeline_s_json_has_the_summary_and_the_runs(terminal: Terminal) -> None:
    ended = terminal.script(RETRAIN, "--strategies", "value", "--as-of", NEWEST, "--queue", "--json")
    assert ended.code == 0, ended.said
    printed = json.loads(ended.out)
    assert printed["summary"]["total_strategies"] == 1
    assert printed["summary"]["errors"] == 0
    assert [one["strategy"] for one in printed["runs"]] == ["value"]
    assert printed["runs"][0]["run"]["as_of"] == NEWEST


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (DRIFT, ("--strategy",)),
        (TRAIN, ("--promote", "--strategy")),
        (RETRAIN, ("--strategies", "growth")),
    ],
)
@pytest.mark.parametrize("name", ["growht", "growth'; DROP TABLE x"])
def test_a_strategy_that_is_not_known_is_named_with_those_that_are(
    stack: ServedStack, terminal: Terminal, script: str, arguments: tuple[str, ...], name: str
) -> None:
    before = len(stack.services.ledger.runs(limit=1000))
    ended = terminal.script(script, *arguments, name)
    assert ended.code == 2
    assert f"strategy {name!r} is not known; one of: {', '.join(STRATEGIES)}" in ended.err
    assert "Traceback" not in ended.said
    assert len(stack.services.ledger.runs(limit=1000)) == before


@pytest.mark.parametrize(
    ("script", "arguments", "what"),
    [
        (DRIFT, ("--strategy", "growth", "--alert-threshold", "30"), "no share of features"),
        (RETRAIN, ("--drift-threshold", "0"), "no share of features"),
        (TRAIN, ("--strategy", "growth", "--min-accuracy", "70"), "no share of predictions"),
    ],
)
def test_a_threshold_that_is_no_share_is_refused(
    terminal: Terminal, script: str, arguments: tuple[str, ...], what: str
) -> None:
    ended = terminal.script(script, *arguments)
    assert ended.code == 2
    assert what in ended.err
    assert "Traceback" not in ended.said


@pytest.mark.parametrize(
    ("script", "arguments", "variable"),
    [
        (DRIFT, ("--strategy", "growth", "--alert-threshold", "0.3"), "DATABASE_URL"),
        (TRAIN, ("--strategy", "growth"), "DATABASE_URL"),
        (RETRAIN, ("--summary",), "DATABASE_URL"),
        (RETRAIN, ("--queue",), "DATABASE_URL"),
    ],
)
def test_nothing_up_and_nothing_set_names_both_ways_out(
    lonely_terminal: Terminal, script: str, arguments: tuple[str, ...], variable: str
) -> None:
    ended = lonely_terminal.script(script, *arguments)
    assert ended.code == 2
    assert "`make run`" in ended.err
    assert f"set {variable} to a server of yours" in ended.err
    assert ended.err.count("Error:") == 1
    assert "Traceback" not in ended.said
    assert not (lonely_terminal.folder / "none").exists()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [(DRIFT, ("--strategy", "growth")), (TRAIN, ("--strategy", "growth", "--queue")), (RETRAIN, ())],
)
def test_postgresql_down_is_said_and_nothing_is_accepted(
    terminal: Terminal, script: str, arguments: tuple[str, ...]
) -> None:
    down = {"DATABASE_URL": "postgresql://x:hidden@127.0.0.1:1/y", "ACIS_PATIENCE_S": "1"}
    ended = terminal.script(script, *arguments, **down)
    assert ended.code == 2
    assert ended.err.count("Waiting up to 1 s (ACIS_PATIENCE_S)") == 1
    assert "does not answer" in ended.err
    assert "DATABASE_URL" in ended.err
    assert "Traceback" not in ended.said
    assert "hidden" not in ended.said


PATIENT_FOR_5_S = """
import sys
import mlops.runs.inline
from mlops.mlflow.train_with_mlflow import main
mlops.runs.inline.PATIENCE_S = 5.0  # in place of 120
sys.exit(main(["--strategy", "dividend"]))
"""


def test_mlflow_down_keeps_an_inline_training_waiting_and_then_gives_up_in_words(
    stack: ServedStack, terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "patient.py").write_text(PATIENT_FOR_5_S, encoding="utf-8")
    ended = terminal.run(["python", "patient.py"], MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert ended.code == 2, ended.said
    assert ended.err.count("dividend: train waits: MLflow at http://127.0.0.1:1 does not answer") == 1
    assert "run.given_up" in (terminal.var_dir / "log" / "commands.log").read_text(encoding="utf-8")
    assert "Error: MLflow at http://127.0.0.1:1 does not answer" in ended.err
    assert "Traceback" not in ended.said
    newest = stack.services.ledger.runs(strategy="dividend", kinds=["train"], limit=1)[0]
    assert (newest.state, newest.executor) == ("cancelled", "inline")
