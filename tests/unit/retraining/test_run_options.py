"""The options of a run: declared once, refused in words, the same for messages, commands and scripts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, get_type_hints

import pytest
import typer

from cli import champions
from mlops.domain.errors import ConfigurationError
from mlops.domain.policies import Strategy
from mlops.mlflow.train_with_mlflow import train
from mlops.runs.command_line import run_script
from mlops.runs.options import RunOptions, option_help
from tasks.payloads import StartCheck, StartPromotion, StartTraining


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"drift_threshold": 30}, "alert threshold 30 is no share of features; give more than 0 and at most 1"),
        ({"drift_threshold": "high"}, "alert threshold high is no share of features; give more than 0 and at most 1"),
        ({"min_accuracy": float("nan")}, "accuracy nan is no share of predictions; give 0 to 1"),
        ({"folds": 21}, "21 folds cannot be made; give 0 to 20"),
        ({"tune": 0}, "0 trials cannot be made; give 1 to 500"),
        ({"drift_rule": "row"}, "drift_rule 'row' cannot be: input should be 'raw' or 'calibrated'"),
        ({"version": 3}, "version 3 cannot be: input should be a valid string"),
        ({"treshold": 0.3}, "a run has no option 'treshold'; its options are run_id, slot, "),
        ({"override": "because"}, "is kept with its reason and names its version; give both"),
        ({"incremental": True, "leak_check": True}, "no folds and no random split; ask for them with a full training"),
    ],
)
def test_an_option_that_cannot_be_says_what_was_given_and_what_can_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RunOptions(**given)
    assert words in str(refused.value)


def test_what_was_given_is_recorded_and_what_was_not_is_not() -> None:
    asked = RunOptions(leak_check=False, folds=0, slot="a slot", drift_threshold=0.5)
    assert asked.params == {"leak_check": False, "folds": 0, "drift_threshold": 0.5}
    assert asked.replaced == {
        "leak_check": "training.leak_check",
        "folds": "training.folds",
        "drift_threshold": "drift.alert_share",
    }
    assert asked.of_request["slot"] == "a slot"


def test_every_replaced_value_is_one_of_a_policy() -> None:
    every = RunOptions(
        drift_threshold=0.5, drift_rule="raw", reference="season", min_accuracy=0.5, folds=3, leak_check=True
    )
    strategy = asdict(Strategy(name="growth"))
    for path in every.replaced.values():
        table, _, name = path.partition(".")
        assert name in strategy[table]


@pytest.mark.parametrize("message", [StartCheck, StartTraining, StartPromotion])
def test_a_message_has_the_options_as_they_are_declared(message: Any) -> None:
    shared = message.model_fields.keys() & RunOptions.model_fields.keys()
    assert "min_accuracy" in shared
    for name in shared:
        ours, theirs = RunOptions.model_fields[name], message.model_fields[name]
        assert (ours.annotation, ours.default, ours.metadata) == (theirs.annotation, theirs.default, theirs.metadata)


def test_a_command_s_help_is_the_option_s() -> None:
    hints = get_type_hints(train, include_extras=True) | get_type_hints(champions.promote, include_extras=True)
    for name in ("min_accuracy", "folds", "leak_check", "tune", "incremental", "as_of", "version", "override"):
        (shown,) = [one for one in hints[name].__metadata__ if isinstance(one, typer.models.ParameterInfo)]
        assert shown.help == option_help(name)
    assert option_help("tune") == "Search parameters in so many trials first. (1 to 500)"


Names = Annotated[list[str] | None, typer.Option()]


def script(*arguments: str) -> tuple[int, list[str] | None, bool]:
    """Exit code, names and flag that a command got from a script's arguments."""
    got: list[Any] = [None, False]

    def command(names: Annotated[list[str] | None, typer.Argument()] = None, flag: bool = False) -> None:
        got[:] = names, flag
        raise typer.Exit(1)

    code = run_script(command, arguments, several=("--names",), names=Names)
    return code, got[0], got[1]


@pytest.mark.parametrize(
    "arguments",
    ["--names growth momentum --flag", "--flag --names growth momentum", "--names growth --flag --names momentum"],
)
def test_a_script_s_option_takes_all_values_that_follow_it(arguments: str) -> None:
    assert script(*arguments.split()) == (1, ["growth", "momentum"], True)


@pytest.mark.parametrize("arguments", ["--names", "growth", "--flag growth", "--names=growth momentum", "--nothing"])
def test_arguments_that_a_script_does_not_know_are_exit_code_2(arguments: str) -> None:
    assert script(*arguments.split())[0] == 2


def test_a_script_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("-h")[0] == script("--help")[0] == 0
    assert "--names" in capsys.readouterr().out
