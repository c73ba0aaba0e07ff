"""What `acis up` shows while it starts, works, serves and stops."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from mlops.addresses import without_credentials
from mlops.domain.live.headline import decayed_on, why_no_value, why_not_tested
from mlops.domain.records import RunView, Stage, StageState
from mlops.reporting.narrative import counts, error_of, is_error, summary_lines
from mlops.reporting.terminal import err, out, print_json
from mlops.volumes import says_full

if TYPE_CHECKING:
    from config.endpoints import Endpoints
    from devstack.demo import Pass
    from devstack.status import StackStatus
    from mlops.ledger.queries.live import LiveLine

_WORDS = {"prepare": "tables and sample"}
_DECISIONS = {
    "promote": "✅ Production",
    "keep": "❌ champion kept",
    "inconclusive": "❌ inconclusive",
    "await_approval": "⏸ awaits approval",
}


class UpDisplay:
    """Progress on standard error, results on standard output."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, text: str) -> None:
        """One line; dropped where it leads to a file on a volume that is full, since the servers must live on."""
        try:
            err.print(text, markup=False)
        except OSError as exc:
            if not says_full(exc):
                raise

    @contextmanager
    def starting(self) -> Iterator[Callable[[str, str], None]]:
        """One line per server and role, each with what it does now."""
        with self._lines() as update:

            def on_step(name: str, what: str) -> None:
                if name != "servers":
                    update("servers", "prepared", True)
                update(_WORDS.get(name, name), what, what.startswith("ready"))

            yield on_step

    @contextmanager
    def working(self, one: Pass, *, since: datetime) -> Iterator[Callable[[Sequence[RunView]], None]]:
        """One line per strategy; nothing of runs that had all ended before `since`."""
        out_of = f" (as of {one.as_of})" if one.as_of else ""
        words = f"Pass {one.title}{out_of}: drift check → training → promotion, through the queues"
        with self._runs(words, since) as on_change:
            yield on_change

    @contextmanager
    def _runs(self, words: str, since: datetime) -> Iterator[Callable[[Sequence[RunView]], None]]:
        with ExitStack() as shown:
            update: Callable[[str, str, bool], None] | None = None

            def on_change(views: Sequence[RunView]) -> None:
                nonlocal update
                if update is None:
                    if _ended_before(views, since):
                        return
                    self.say(words)
                    update = shown.enter_context(self._lines())
                for view in views:
                    update(view.strategy, _now(view), view.finished_at is not None)

            yield on_change

    @contextmanager
    def predicting(self) -> Iterator[Callable[[str, date, int, int], None]]:
        """One line per strategy with the date that its champion predicts; nothing where all of it is there already."""
        with ExitStack() as shown:
            update: Callable[[str, str, bool], None] | None = None

            def on_date(strategy: str, day: date, done: int, total: int) -> None:
                nonlocal update
                if update is None:
                    self.say("The champions predict the dates that follow, each from its own day's features alone")
                    update = shown.enter_context(self._lines())
                if err.is_terminal or done in (1, total):  # a line per date would be ninety in a log file
                    update(strategy, f"{day}, {done} of {total} dates", done == total)

            yield on_date

    @contextmanager
    def scoring(self, *, since: datetime) -> Iterator[Callable[[Sequence[RunView]], None]]:
        """One line per strategy; nothing of runs that had all ended before `since`."""
        with self._runs("What came is compared with what was predicted, through the queues", since) as on_change:
            yield on_change

    def live_summary(self, lines: Mapping[str, LiveLine], views: Sequence[RunView], *, since: datetime) -> None:
        """What the champions' predictions were worth, as a table; nothing where an earlier start has shown it."""
        if self._quiet or not views or _ended_before(views, since):
            return
        for view in views:
            if is_error(view):
                out.print(f"{view.strategy}: its predictions are not scored: {error_of(view)}", markup=False)
        if not lines:
            return
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        for name, justify in (
            ("strategy", "left"), ("worth", "left"), ("days", "right"), ("not ripe", "right"), ("decay", "left"),
        ):  # fmt: skip
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a literal
        for name, line in lines.items():
            table.add_row(name, *_worth(line.headline))
        newest = max(line.as_of for line in lines.values())
        out.print(f"\nWhat the champions' predictions were worth, as known on {newest}", style="bold")
        out.print(table)
        out.print(
            "with its 90 % interval; predictions whose outcome is not known yet are counted, not guessed.\n"
            "Admin page: Live performance, and each strategy's story from the overview; or `acis live growth`\n"
        )

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """While everything is being stopped."""
        if err.is_terminal:
            with err.status("stopping"):
                yield
        else:
            yield
        self.say("Everything that was started has stopped.")

    def pass_summary(self, one: Pass, views: Sequence[RunView], *, since: datetime) -> None:
        """The pass as a table, its refusals with their reasons, and its numbers in the guide's words.

        A pass whose runs had all ended before `since` is no news: a line says when it was.
        """
        if self._quiet:
            return
        if _ended_before(views, since):
            ended = max(view.finished_at for view in views if view.finished_at is not None)
            out.print(
                f"Pass {one.title}, as of {views[0].as_of}: was run by an earlier start and ended at "
                f"{ended:%Y-%m-%d %H:%M} UTC, nothing ran now; `acis runs` lists its {len(views)} runs\n",
                markup=False,
            )
            return
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("strategy", no_wrap=True)
        table.add_column("features", no_wrap=True)
        table.add_column("trained", no_wrap=True)
        table.add_column("AUC", justify="right")
        table.add_column("acc.", justify="right", no_wrap=True)
        table.add_column("maj.", justify="right", no_wrap=True)
        table.add_column("decision", no_wrap=True)
        for view in views:
            table.add_row(*_row(view))
        out.print(f"\nPass {one.title}, as of {views[0].as_of}", style="bold")
        out.print(table)
        out.print("acc.: accuracy on the held-out dates; maj.: that of always naming their majority class\n")
        newcomers = [view.strategy for view in views if _results(view)[0].get("retrain_reason") == "no_champion"]
        if newcomers:
            out.print(f"{', '.join(newcomers)}: no champion yet, so trained whatever the verdict\n", markup=False)
        for view in views:
            for reason in _objections(view):
                out.print(f"{view.strategy}: {reason}", markup=False)
        out.print("\n" + "\n".join(summary_lines(counts(views))) + "\n")

    def end(self, results: Sequence[tuple[Pass, Sequence[RunView]]], *, sample: bool, json: bool) -> None:
        """What a reader must know about the results."""
        if json:
            print_json(
                {
                    "passes": [
                        {"title": one.title, "as_of": one.as_of, "summary": counts(views), "runs": list(views)}
                        for one, views in results
                    ]
                }
            )
        elif sample:
            out.print(
                "The demo predicts volatility (will the next 20 trading days move more than the last 20?), "
                "not direction.\n"
                "`direction` asks the documented question, target_return > 0, and an honest evaluation refuses it.\n"
            )

    def sign_in(self, page: str, basic_auth: str) -> None:
        """The sign-in, once: when the secrets were made."""
        user, _, password = basic_auth.partition(":")
        self.say(f"{page} sign-in, shown once: user {user}, password {password}")

    def addresses(self, endpoints: Endpoints | None, var_dir: Path) -> None:
        """Where to look."""
        from devstack.mlflow import experiment_page
        from mlops.registry.registry import EXPERIMENT

        if endpoints is None or self._quiet:
            return
        mlflow = experiment_page(without_credentials(endpoints.mlflow_tracking_uri), EXPERIMENT, endpoints.mlflow_auth)
        sign_in = json.loads(endpoints.flower_credentials.read_text(encoding="utf-8"))
        # Of a server that is the user's own, its sign-in is as well.
        is_ours = endpoints.mlflow_auth == f"registrar:{sign_in['mlflow_passwords']['registrar']}"
        viewer = f"   user viewer, password in {endpoints.flower_credentials}" if is_ours else ""
        out.print(
            f"Admin    {endpoints.admin_url}   user {sign_in['admin_user']}, "
            f"password in {endpoints.flower_credentials}\n"
            f"MLflow   {mlflow}{viewer}\n"
            f"Flower   {endpoints.flower_url}   user {sign_in['flower_user']}, "
            f"password in {endpoints.flower_credentials}\n"
            f"Predict  {endpoints.serve_url}/api/v1/predict/STRATEGY   with a token of the admin page\n"
            f"Logs     {var_dir / 'log'}\n",
            markup=False,
        )

    def serving(self) -> None:
        """The last line before the wait."""
        self.say(
            "Serving. Try `.venv/bin/acis runs` or `.venv/bin/acis check growth` in another terminal. "
            "Ctrl-C stops everything."
        )

    @contextmanager
    def _lines(self) -> Iterator[Callable[[str, str, bool], None]]:
        if not err.is_terminal:
            yield self._plain()
            return
        with Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.fields[name]}", markup=False, table_column=Column(no_wrap=True, min_width=18)),
            # Cut at the terminal's edge: a line that is broken in two cannot be drawn over.
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            console=err,
        ) as progress:
            tasks: dict[str, Any] = {}

            def update(name: str, what: str, done: bool) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(what, total=1, name=name)
                progress.update(tasks[name], description=what, completed=1 if done else 0)

            yield update

    def _plain(self) -> Callable[[str, str, bool], None]:
        """A line per change, for a log file."""
        last: dict[str, str] = {}

        def update(name: str, what: str, done: bool) -> None:  # noqa: ARG001
            if last.get(name) != what:
                last[name] = what
                self.say(f"• {name}: {what}")

        return update


def _worth(headline: Mapping[str, Any]) -> list[str]:
    """Worth, days, predictions that are not ripe, and decay."""
    value, low, high = (headline.get(key) for key in ("value", "low", "high"))
    if value is None:
        return [why_no_value(headline) or "", "", str(headline.get("n_unripe") or ""), ""]
    metric = {"roc_auc": "AUC"}.get(headline["metric"], headline["metric"].replace("_", " "))
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    estimate = " estimated" if headline.get("is_estimate") else ""
    decayed = decayed_on(headline, headline.get("version"))
    decay = "not tested" if why_not_tested(headline, headline.get("version")) else "no"
    return [
        f"{metric} {value:.2f}{interval}{estimate}",
        str(headline.get("n_days") or ""),
        str(headline.get("n_unripe") or ""),
        f"since {decayed}" if decayed else decay,
    ]


def show_status(found: StackStatus) -> None:
    """A stack for a person: a line each, what does not answer marked."""
    words = {
        "serving": f"Serving since {found.since:%Y-%m-%d %H:%M:%S} UTC" if found.since else "Serving",
        "starting": "Starting or stopping",
        "stopped": "Nothing runs",
    }[found.state]
    out.print(f"{words} (data in {found.folder}{f', process {found.pid}' if found.pid else ''})", markup=False)
    rows = [("", "address", "state", "pid", "since (UTC)", "restarts", "answers")]
    for one in found.services:
        since = f"{one.since:%m-%d %H:%M:%S}" if one.since else ""
        restarts = str(one.restarts) if one.pid else ""
        answers = "yes" if one.answers else "NO"
        rows.append((one.name, one.address or "", one.state, str(one.pid or ""), since, restarts, answers))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows if found.services else []:
        # Not a table of rich's: that would cut words to make it fit, in a pipe too.
        out.print(" ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip(), markup=False)
    for volume in found.volumes:
        if volume.is_low:
            out.print(f"{'✗' if volume.is_full else '!'} {volume}", markup=False)


def _ended_before(views: Sequence[RunView], since: datetime) -> bool:
    return all(view.finished_at is not None and view.finished_at < since for view in views)


def _now(view: RunView) -> str:
    if is_error(view):
        return f"{view.state}: {error_of(view)}"
    if view.finished_at is not None:
        return view.state.value
    stage = view.stages[-1]
    if stage.state is StageState.QUEUED and stage.error:
        return f"{stage.stage} waits: {stage.error}"
    return f"{stage.stage} {stage.state}"


def _row(view: RunView) -> list[str]:
    drift, train, promote = _results(view)
    if is_error(view):
        return [view.strategy, "", "", "", "", "", f"✗ {view.state}"]
    metrics = train.get("metrics", {})
    return [
        view.strategy,
        _drift_cell(drift),
        f"v{train['version']}" if train else "no",
        *(
            f"{metrics[name]:.2f}" if name in metrics else ""
            for name in ("roc_auc", "accuracy", "holdout_majority_accuracy")
        ),
        _DECISIONS.get(promote.get("decision", ""), "❌ refused") if promote else "no training needed",
    ]


def _drift_cell(drift: Mapping[str, Any]) -> str:
    """The verdict, and how rare the shift is: beside `stable` a share of features that moved says the contrary."""
    if not drift:
        return ""
    p = drift.get("p_value")
    return drift["verdict"] if p is None else f"{drift['verdict']}, p {p:.2g}"


def _objections(view: RunView) -> list[str]:
    """Why a strategy did not end with this pass's model in Production; none where it did."""
    if is_error(view):
        return [error_of(view)]
    _, _, promote = _results(view)
    return [] if promote.get("promoted") else list(promote.get("reasons", []))


def _results(view: RunView) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    found = {stage.stage: stage.result or {} for stage in view.stages}
    return found.get(Stage.DRIFT, {}), found.get(Stage.TRAIN, {}), found.get(Stage.PROMOTE, {})
