"""The tree can be cloned anywhere: locks without addresses, no path of one machine, the files that a reader expects."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement

from tests.architecture.sources import ROOT, text_files

LOCKS = sorted(path.name for path in ROOT.glob("*.lock") if path.name.startswith("requirements"))
#: /work/…, /home/somebody, … at the beginning of a path; /home-dir and /var/lib are no such places.
MACHINE_PATH = re.compile(r"(?<![\w.$~/}-])/(?:work|home|Users|root)/\w")


def requirements(lock: str) -> list[Requirement]:
    """Pinned packages of a lock; one name may be pinned twice, for different Pythons."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return [Requirement(line.removesuffix("\\").strip()) for line in lines if re.match(r"[A-Za-z0-9]", line)]


def applies(requirement: Requirement, **environment: str) -> bool:
    """It is installed there."""
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_there_is_a_lock_for_users_for_gpus_for_developers_and_for_the_sample() -> None:
    assert LOCKS == [
        "requirements-dev.lock",
        "requirements-gpu.lock",
        "requirements-sample.lock",
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
        ("cd /work/main", True),
        ('"/home/anna/x"', True),
        ("--home-dir /nonexistent", False),
        ("https://host/work/x", False),
        ("$HOME/work/x", False),
    ],
)
def test_a_place_of_one_machine_is_recognised(text: str, is_one: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is is_one


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", ".ci/run", ".env.example", "Dockerfile"]
)
def test_the_files_that_a_reader_expects_are_there(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8").strip()


def test_the_changelog_keeps_one_sentence_a_line() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line.startswith("- ")]
    assert entries
    assert [line for line in entries if not line.endswith(".")] == []
