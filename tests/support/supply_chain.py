"""`python -m tests.support.supply_chain secrets | report | pins [--write]`: what we take from others, and what we give away.

    secrets     a file that git would keep holds a secret (part of `make lint`)
    report      advisories, licences and the bill of materials of the locks, into build/supply (`make supply`)
    pins        which images of others have no digest; --write asks their registry and writes the digests down

What is accepted, with its reason, is in `.ci/supply.toml`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = ROOT / ".ci" / "supply.toml"
LOCKS = (
    "requirements.lock",
    "requirements-gpu.lock",
    "requirements-image.lock",
    "requirements-openfeature.lock",
    "requirements-otel.lock",
    "requirements-s3.lock",
    "requirements-sample.lock",
)
"""What production may install."""
_TOOLS = ROOT / ".venv-supply" / "bin"

# ---- Secrets

_LEFT_OUT = (".lock", ".png", ".svg")


def secrets_in(paths: Sequence[Path], known: Mapping[str, Mapping[str, str]] | None = None) -> list[str]:
    """`path:line: kind` of each secret; the secret itself is not told. Raises RuntimeError where the scanner fails.

    known : examples, by path: one in a line with the text `line` is none
    """
    scanner = Path(sys.executable).parent / "kingfisher"
    quiet = ("--git-history", "none", "--no-validate", "--no-update-check", "--quiet", "--redact", "--no-dedup")
    done = subprocess.run(
        [scanner, "scan", *paths, *quiet, "--format", "json"], capture_output=True, text=True, check=False
    )
    try:
        found = [{**one["finding"], "kind": one["rule"]["name"]} for one in json.loads(done.stdout)["findings"]]
    except (ValueError, KeyError) as exc:
        raise RuntimeError(f"the scanner ended with {done.returncode}: {done.stderr[-500:]}") from exc
    return sorted(f"{one['path']}:{one['line']}: {one['kind']}" for one in found if not _is_example(one, known or {}))


def _is_example(found: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> bool:
    path = Path(found["path"])
    example = next((one for name, one in known.items() if path == ROOT / name), None)
    line = path.read_text(encoding="utf-8").splitlines()[found["line"] - 1] if example else ""
    return example is not None and example["line"] in line


def kept_files(root: Path = ROOT) -> list[Path]:
    """Files that git has, or would take."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return [root / name for name in listed if name and not name.endswith(_LEFT_OUT) and (root / name).is_file()]


def _secrets() -> list[str]:
    files, known = kept_files(), tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))["secrets"]
    sys.stdout.write(f"looked for secrets in {len(files):,} files\n")
    return [f"{one}: take it out, and make it worthless where it counts" for one in secrets_in(files, known)]


# ---- Licences


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package, with the licence that its metadata names."""

    name: str
    version: str
    licence: str


def licence_faults(packages: Sequence[Package], accepted: Mapping[str, Any]) -> Iterator[str]:
    """A line for each package whose licence is unknown, or not accepted for production."""
    for one in packages:
        looked_at = accepted["packages"].get(one.name)
        if looked_at is not None and looked_at["version"] == one.version:
            continue
        if looked_at is not None:
            yield f"{one.name} {one.version}: version {looked_at['version']} was looked at; look at this one's licence"
        elif not _is_accepted(one.licence, accepted["licences"]):
            yield f"{one.name} {one.version}: licence {one.licence!r} is not accepted; see .ci/supply.toml"


def _is_accepted(licence: str, accepted: Mapping[str, str]) -> bool:
    """All of what `AND` or `;` joins, one of what `OR` joins."""
    return any(
        all(part.strip() in accepted for part in re.split(r"\s+AND\s+|;", one))
        for one in re.split(r"\s+OR\s+", licence)
    )


def locked(lock: Path) -> dict[str, str]:
    """Versions by name, of the packages that this machine would install."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    found = [Requirement(line.removesuffix("\\").strip()) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return {
        canonicalize_name(one.name): next(iter(one.specifier)).version
        for one in found
        if one.marker is None or one.marker.evaluate()
    }


def _licences(folder: Path, accepted: Mapping[str, Any]) -> list[str]:
    wanted = {name: version for lock in LOCKS for name, version in locked(ROOT / lock).items()}
    listed = _run("pip-licenses", "--python", sys.executable, "--with-system", "--from", "mixed", "--format", "json")
    packages = [
        Package(name=canonicalize_name(one["Name"]), version=one["Version"], licence=one["License"])
        for one in json.loads(listed.stdout)
    ]
    ours = sorted((one for one in packages if one.name in wanted), key=lambda one: one.name)
    table = {one.name: accepted["packages"].get(one.name, {}).get("licence", one.licence) for one in ours}
    (folder / "licences.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    missing = sorted(set(wanted) - set(table))
    sys.stdout.write(f"licences of {len(ours)} packages; not installed here, so not looked at: {', '.join(missing)}\n")
    return list(licence_faults(ours, accepted))


# ---- Advisories

#: What pip-audit says where the service is away; it has no exit code of its own for that.
_AWAY = re.compile(
    r"(ConnectionError|NameResolutionError|Timeout|ServiceError|Max retries exceeded|5\d\d Server Error)"
)


def advisory_faults(audits: Sequence[Mapping[str, Any]], accepted: Mapping[str, Any], today: date) -> Iterator[str]:
    """A line for each advisory of pip-audit's dependencies that is not listed, or listed until a day that is past."""
    for one in audits:
        for advisory in one.get("vulns", ()):
            names = {advisory["id"], *advisory.get("aliases", ())}
            known = next((accepted["advisories"][name] for name in names if name in accepted["advisories"]), None)
            if known is None:
                mend = (
                    f"upgrade to {' or '.join(advisory['fix_versions'])}" if advisory["fix_versions"] else "no fix yet"
                )
                yield f"{one['name']} {one['version']}: {advisory['id']}; {mend}, or list it in .ci/supply.toml"
            elif known["until"] < today:
                yield f"{one['name']}: {advisory['id']} was accepted until {known['until']} ({known['reason']}); look again"


def _advisories(accepted: Mapping[str, Any]) -> list[str]:
    asked = [part for lock in LOCKS for part in ("--requirement", str(ROOT / lock))]
    how = ("--require-hashes", "--disable-pip", "--vulnerability-service", "osv", "--timeout", "10")
    done = _run("pip-audit", *asked, *how, "--format", "json", "--progress-spinner", "off", is_checked=False)
    try:
        audits = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if not _AWAY.search(done.stderr):
            return [f"pip-audit ended with {done.returncode}: {done.stderr[-500:]}"]
        sys.stdout.write("SKIPPED advisories: the service (OSV) cannot be reached from here; nothing was checked\n")
        return []
    sys.stdout.write(f"advisories of {len(audits)} packages\n")
    return list(advisory_faults(audits, accepted, datetime.now(UTC).date()))


# ---- Bill of materials


def _bills(folder: Path) -> None:
    for lock in LOCKS:
        place = folder / f"{lock.removesuffix('.lock')}.cdx.json"
        _run("cyclonedx-py", "requirements", str(ROOT / lock), "--pyproject", str(ROOT / "pyproject.toml"),
             "--no-validate", "--output-reproducible", "--output-file", str(place))  # fmt: skip
        parts = json.loads(place.read_text(encoding="utf-8"))["components"]
        sys.stdout.write(f"bill of materials of {lock}: {len(parts)} packages\n")


def _report() -> list[str]:
    folder = ROOT / "build" / "supply"
    folder.mkdir(parents=True, exist_ok=True)
    accepted = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))
    _bills(folder)
    return [*_licences(folder, accepted), *_advisories(accepted), *unpinned_tags(ROOT)]


def _run(tool: str, *arguments: str, is_checked: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([_TOOLS / tool, *arguments], capture_output=True, text=True, check=is_checked)


# ---- Images of others

_IMAGE_FILES = ("Dockerfile", ".devcontainer/Dockerfile", "docker-compose.yml", "mlops/mlflow/services.yml", "k8s/base")
_OURS, _NOTHING = "acis-mlops", "scratch"
_NAMED = re.compile(
    r"""^\s*(?:-\s+)?(?:FROM|ARG\s+\w+_IMAGE=|image:)\s*["']?(?:\$\{\w+:-)?(?P<image>[\w./-]+(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?)\}?""",
    re.MULTILINE,
)
#: A tag that names one release: 15.16-alpine, 3.11.15-slim-bookworm; not 15-alpine, 3.11-slim or latest.
_EXACT = re.compile(r":(?:\d+\.\d+\.\d+|1[0-9]\.\d+)(?![\d.])")


def images_of_others(root: Path = ROOT) -> dict[str, list[Path]]:
    """The files that name each image."""
    found: dict[str, list[Path]] = {}
    for name in _IMAGE_FILES:
        place = root / name
        for path in sorted(place.rglob("*.yaml")) if place.is_dir() else [place] if place.exists() else []:
            for match in _NAMED.finditer(path.read_text(encoding="utf-8")):
                if not match["image"].startswith(_OURS) and match["image"] != _NOTHING:
                    found.setdefault(match["image"], []).append(path)
    return found


def unpinned_tags(root: Path = ROOT) -> list[str]:
    """A line for each image of others that is named by a tag which moves with every release."""
    return [
        f"{path.relative_to(root)}: {image} may be another image tomorrow; name one release"
        for image, paths in images_of_others(root).items()
        for path in dict.fromkeys(paths)
        if "@sha256:" not in image and not _EXACT.search(image)
    ]


def _pins(*, is_written: bool) -> list[str]:
    faults = unpinned_tags()
    for image, paths in images_of_others().items():
        names = ", ".join(str(path.relative_to(ROOT)) for path in dict.fromkeys(paths))
        if "@sha256:" in image:
            sys.stdout.write(f"pinned     {image} ({names})\n")
        elif not is_written:
            sys.stdout.write(f"no digest  {image} ({names}); `make pins WRITE=1` asks its registry\n")
        else:
            pin(image, paths)
            sys.stdout.write(f"pinned     {image} ({names})\n")
    return faults


def pin(image: str, paths: Sequence[Path]) -> None:
    """Write the image's digest, as its registry tells it to Docker, behind its name in the files."""
    asked = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image]
    digest = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"the registry's digest of {image} is none: {digest!r}")
    for path in dict.fromkeys(paths):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(rf"{re.escape(image)}(?![\w.@-])", f"{image}@{digest}", text), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Exit code: 1 where there is a fault."""
    command = arguments[0] if arguments else ""
    if command == "secrets":
        faults = _secrets()
    elif command == "report":
        faults = _report()
    elif command == "pins":
        faults = _pins(is_written="--write" in arguments)
    else:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    for fault in faults:
        sys.stderr.write(f"FAULT {fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
