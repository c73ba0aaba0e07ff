"""An interpreter that keeps its variables from one piece of code to the next, in a process of its own.

The guide's Python blocks stand on each other (`client`, `model`), and importing MLflow for each takes seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, cast

CELL_S = 60.0

_LOOP = """
import contextlib, io, json, sys, traceback
answers, names = sys.stdout, {"__name__": "notebook"}
for line in sys.stdin:
    asked, printed, error, value = json.loads(line), io.StringIO(), None, None
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(asked["code"], "<cell>", "exec"), names)
            value = eval(asked["value"], names) if asked["value"] else None
        except Exception:
            error = traceback.format_exc()
    answers.write(json.dumps({"printed": printed.getvalue(), "error": error, "value": value}, default=str) + "\\n")
    answers.flush()
"""


class CellFailed(AssertionError):
    """The code raised; the message is its traceback."""


class Notebook:
    """Runs cells one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, code: str) -> str:
        """What the code printed. Raises CellFailed."""
        return cast("str", self._ask(code, "")["printed"])

    def value(self, expression: str) -> Any:
        """An expression's value, as JSON carries it. Raises CellFailed."""
        return self._ask("", expression)["value"]

    def _ask(self, code: str, value: str) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        late = Timer(CELL_S, self._process.kill)
        late.start()
        try:
            self._process.stdin.write(json.dumps({"code": code, "value": value}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        assert line, f"no answer within {CELL_S:.0f} s to:\n{code or value}"
        answer: dict[str, Any] = json.loads(line)
        if answer["error"]:
            raise CellFailed(answer["error"])
        return answer


@contextmanager
def open_notebook(folder: Path, environment: Mapping[str, str]) -> Iterator[Notebook]:
    """A notebook whose working folder is `folder`; its warnings and logs go to `notebook.err` there."""
    with (
        (folder / "notebook.err").open("w") as err,
        subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        ) as process,
    ):
        try:
            yield Notebook(process)
        finally:
            process.kill()
