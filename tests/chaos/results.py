"""What parts of the chaos suite found, added up: one line of JSON a part, and the table of docs/reliability.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from config.settings import ROOT

FILE = ROOT / "var" / "chaos" / "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One system, one kind of faults (or a mixture), until it came to rest."""

    fault: str
    seed: int
    lease_s: float
    recoveries_s: list[float]
    """From the end of each fault until the system had recovered"""
    n_accepted: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Wrongly promoted"""
    other: list[str] = field(default_factory=list)


def append(part: Part, path: Path = FILE) -> None:
    """Add a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(part)) + "\n")


def read(path: Path = FILE) -> list[Part]:
    """All parts so far."""
    if not path.exists():
        return []
    return [Part(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(parts: Iterable[Part]) -> str:
    """Markdown: one row for each fault and length of the lease."""
    rows: dict[tuple[str, float], list[Part]] = defaultdict(list)
    for part in parts:
        rows[part.fault, part.lease_s].append(part)
    lines = [
        "| fault | lease | times | runs accepted | lost | doubled | wrongly promoted | other findings | recovery, median | worst |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (fault, lease_s), some in sorted(rows.items()):
        recoveries = [seconds for part in some for seconds in part.recoveries_s]
        if not recoveries:
            continue
        counts = [sum(len(getattr(part, name)) for part in some) for name in ("lost", "doubled", "wrong", "other")]
        accepted = sum(part.n_accepted for part in some)
        lines.append(
            f"| {fault} | {lease_s:g} s | {len(recoveries)} | {accepted:,} | {' | '.join(map(str, counts))} "
            f"| {median(recoveries):.1f} s | {max(recoveries):.1f} s |"
        )
    return "\n".join(lines)
