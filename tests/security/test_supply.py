"""What we take from others is known and pinned: a planted fault of each kind is found."""

from __future__ import annotations

import os
import tomllib
from datetime import date
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.support.supply_chain import (
    ACCEPTED,
    Package,
    advisory_faults,
    images_of_others,
    licence_faults,
    pin,
    secrets_in,
    unpinned_tags,
)

TODAY = date(2026, 11, 29)


def accepted() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))


# ---- Secrets


@pytest.mark.parametrize(
    "line",
    [
        "DATABASE_URL=postgresql://acis:" + "Xk29fhsWq81z" + "@db:5432/acis",
        "token = '" + "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a" + "'",
        "-----BEGIN " + "PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7" * 4
        + "\n-----END " + "PRIVATE KEY-----",
    ],
    ids=["a database's password", "an access token", "a private key"],
)  # fmt: skip
def test_a_planted_secret_is_found_and_not_told(tmp_path: Path, line: str) -> None:
    planted, clean = tmp_path / "planted.py", tmp_path / "clean.py"
    planted.write_text(f"x = 1\n{line}\n", encoding="utf-8")
    clean.write_text("DATABASE_URL = 'postgresql://acis:<password>@db:5432/acis'\n", encoding="utf-8")
    found = secrets_in([planted, clean])
    assert [one.split(":")[:2] for one in found] == [[str(planted), "2"]]
    assert line not in found[0]


# ---- Licences


@pytest.mark.parametrize(
    ("licence", "is_accepted"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("Apache Software License; MIT License", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_a_licence_counts_where_all_its_parts_are_accepted(licence: str, *, is_accepted: bool) -> None:
    faults = list(licence_faults([Package(name="some", version="1.0", licence=licence)], accepted()))
    assert (faults == []) is is_accepted


def test_a_licence_that_was_looked_at_by_hand_counts_for_that_version_alone() -> None:
    looked_at = accepted()["packages"]["huey"]["version"]
    now, later = (Package(name="huey", version=version, licence="UNKNOWN") for version in (looked_at, "99.0"))
    assert list(licence_faults([now], accepted())) == []
    (fault,) = licence_faults([later], accepted())
    assert "look at this one's licence" in fault


def test_whatever_is_accepted_has_its_reason() -> None:
    found = accepted()
    reasons = [
        *found["licences"].values(),
        *(one["reason"] for kind in ("packages", "advisories", "secrets") for one in found[kind].values()),
    ]
    assert all(reason.strip() for reason in reasons)


# ---- Advisories

VULNERABLE = [
    {
        "name": "some",
        "version": "1.0",
        "vulns": [{"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["1.1"]}],
    },
    {"name": "other", "version": "2.0", "vulns": []},
]


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({}, "upgrade to 1.1"),
        ({"CVE-2026-1": {"reason": "not used here", "until": date(2026, 12, 1)}}, None),
        ({"PYSEC-2026-1": {"reason": "not used here", "until": date(2026, 11, 1)}}, "accepted until 2026-11-01"),
    ],
    ids=["not listed", "listed", "listed until a day that is past"],
)
def test_an_advisory_fails_unless_it_is_listed_and_its_day_is_ahead(
    listed: dict[str, object], words: str | None
) -> None:
    faults = list(advisory_faults(VULNERABLE, {"advisories": listed}, TODAY))
    assert [words in fault for fault in faults] == ([] if words is None else [True])


# ---- Images and what installs packages


def test_no_image_of_others_is_on_a_tag_that_moves() -> None:
    assert {image.split(":")[0] for image in images_of_others()} == {"python", "postgres", "redis"}
    assert unpinned_tags() == []


@pytest.mark.parametrize("tag", ["", ":latest", ":15", ":15-alpine", ":3.11-slim"])
def test_a_tag_that_moves_is_found(tmp_path: Path, tag: str) -> None:
    for name in ("Dockerfile", ".devcontainer/Dockerfile", "docker-compose.yml", "k8s/base/x.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    (tmp_path / "docker-compose.yml").write_text(f"    image: ${{SOME_IMAGE:-some/image{tag}}}\n", encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(
        "ARG PYTHON_IMAGE=python:3.11.15-slim\nFROM ${PYTHON_IMAGE}\n", encoding="utf-8"
    )
    (fault,) = unpinned_tags(tmp_path)
    assert fault.startswith(f"docker-compose.yml: some/image{tag} ")


def test_a_digest_is_written_as_the_registry_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "sha256:" + "ab" * 32
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\necho {digest}\n", encoding="utf-8")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    compose = tmp_path / "docker-compose.yml"
    compose.write_text("image: some:1.2.3-alpine\nimage: some:1.2.3-alpine3.22\n", encoding="utf-8")
    pin("some:1.2.3-alpine", [compose, compose])
    assert compose.read_text(encoding="utf-8") == f"image: some:1.2.3-alpine@{digest}\nimage: some:1.2.3-alpine3.22\n"


def test_nothing_is_installed_without_a_hash() -> None:
    files = [ROOT / name for name in ("Makefile", "Dockerfile")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()]
    installs = [line for line in lines if "pip install" in line or "pip sync" in line]
    # The peers that bench/ compares with are newest on purpose; our own tree is built by what the lock has.
    loose = [
        line
        for line in installs
        if not {"--require-hashes", "--build-constraint"} & set(line.split()) and "--group peers" not in line
    ]
    assert len(installs) >= 8
    assert loose == []
