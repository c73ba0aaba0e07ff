"""The tree can be cloned anywhere: locks without addresses, no path of one machine, the files that a reader expects."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.architecture.sources import ROOT, text_files

LOCKS = sorted(path.name for path in ROOT.glob("*.lock") if path.name.startswith("requirements"))
#: /home/somebody, /root/…, … at the beginning of a path; /home-dir and /var/lib are no such places.
MACHINE_PATH = re.compile(r"(?<![\w.$~/}-])/(?:home|Users|root|workspace)/\w")


def requirements(lock: str) -> list[Requirement]:
    """Pinned packages of a lock; one name may be pinned twice, for different Pythons."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return [Requirement(line.removesuffix("\\").strip()) for line in lines if re.match(r"[A-Za-z0-9]", line)]


def applies(requirement: Requirement, **environment: str) -> bool:
    """It is installed there."""
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_there_is_a_lock_for_everything_that_is_installed() -> None:
    assert LOCKS == [
        "requirements-bootstrap.lock",
        "requirements-dev.lock",
        "requirements-gpu.lock",
        "requirements-image.lock",
        "requirements-manifests.lock",
        "requirements-openfeature.lock",
        "requirements-otel.lock",
        "requirements-s3.lock",
        "requirements-sample.lock",
        "requirements-supply.lock",
        "requirements.lock",
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_hashes_every_package(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^--?(index|extra-index|find-links)", text, re.MULTILINE)
    pinned = re.findall(r"^[A-Za-z0-9][^\n]*==[^\n]*\\\n\s+--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(pinned) == len(requirements(lock)) > 0


@pytest.mark.parametrize("python", ["3.11.7", "3.12.1", "3.13.0"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-gpu.lock", "requirements-dev.lock"])
def test_a_lock_installs_exactly_one_of_the_two_xgboosts(lock: str, platform: str, python: str) -> None:
    """Both wheels ship the same folder; there is none for the CPU alone on macOS."""
    found = [
        requirement.name
        for requirement in requirements(lock)
        if requirement.name.startswith("xgboost")
        and applies(requirement, sys_platform=platform, python_full_version=python, python_version=python[:4])
    ]
    assert found == ["xgboost-cpu" if platform == "linux" and "gpu" not in lock else "xgboost"]


def test_no_file_names_a_place_of_one_machine() -> None:
    found = {
        f"{path}: {match.group()}"
        for path, text in text_files()
        for match in MACHINE_PATH.finditer(text)
        if path.name != "test_tree.py"
    }
    assert found == set()


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("cd /root/main", True),
        ('"/home/anna/x"', True),
        ("--home-dir /nonexistent", False),
        ("https://host/root/x", False),
        ("$HOME/root/x", False),
    ],
)
def test_a_place_of_one_machine_is_recognised(text: str, is_one: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is is_one


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE",
        "Makefile",
        ".ci/run",
        ".devcontainer/devcontainer.json",
        ".editorconfig",
        ".env.example",
        ".github/pull_request_template.md",
        ".pre-commit-config.yaml",
        "Dockerfile",
    ],
)
def test_the_files_that_a_reader_expects_are_there(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8").strip()


def test_the_changelog_keeps_one_sentence_a_line() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line.startswith("- ")]
    assert entries
    assert [line for line in entries if not line.endswith(".")] == []


def test_the_licence_is_apache_2_word_for_word() -> None:
    # The digest of the text that the Apache Software Foundation publishes.
    published = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == published
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])


def recipe(target: str) -> list[str]:
    """Commands of a target of the Makefile, with the virtual environment's folder written out."""
    _, rule = (ROOT / "Makefile").read_text(encoding="utf-8").split(f"\n{target}:", 1)
    lines = rule.split("\n\n", 1)[0].splitlines()[1:]
    return [line.strip().lstrip("@").replace("$(BIN)", ".venv/bin") for line in lines]


def hooks(stage: str) -> list[str]:
    """Commands that pre-commit runs at a stage."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    found = [hook for repo in config["repos"] for hook in repo["hooks"]]
    return [hook["entry"] for hook in found if stage in hook.get("stages", config["default_stages"])]


def test_a_commit_is_checked_by_the_same_commands_as_ci() -> None:
    assert hooks("pre-commit") == recipe("lint")
    assert hooks("manual") == ["make check"]


def test_a_development_container_is_built_from_files_and_targets_that_are_there() -> None:
    text = (ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8")
    container = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).is_file()
    targets = set(re.findall(r"make (\S+)", container["onCreateCommand"] + " " + container["postCreateCommand"]))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(VENV)", ".venv")
    assert targets
    assert {target for target in targets if f"\n{target}:" not in makefile} == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_what_a_newcomer_is_pointed_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.=$-])(?:\w[\w-]*/)+[\w-]+\.(?:py|md|toml|yaml)\b(?:::\w+)?", text))
    linked = {target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target}
    missing = {name for name in named | linked if not is_there(name)}
    assert missing == set()


def is_there(name: str) -> bool:
    """The file exists and, where a test is named, holds it."""
    path, _, test = name.partition("::")
    place = ROOT / path
    return place.exists() and (not test or f"def {test}(" in place.read_text(encoding="utf-8"))


def test_a_path_that_is_not_there_is_noticed() -> None:
    assert is_there("tests/architecture/test_tree.py::test_a_path_that_is_not_there_is_noticed")
    assert not is_there("tests/architecture/test_tree.py::test_nothing")
    assert not is_there("tests/architecture/test_forest.py")


def test_text_files_are_as_the_editorconfig_says() -> None:
    untidy = {
        str(path)
        for path, text in text_files()
        if text
        and "vendor" not in path.parts
        and path.suffix != ".svg"
        and path != Path("LICENSE")
        and (not text.endswith("\n") or "\r" in text or re.search(r"[ \t]+$", text, re.MULTILINE))
    }
    assert untidy == set()
