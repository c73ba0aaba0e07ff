"""`acis predict` and `acis live`: the champion's predictions of a day's universe, and what they were worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops.runs.command_line import AsJson, AsOf, OnWorkers, StrategyName, command, day

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.bootstrap import Services
    from mlops.domain.records import Accepted, RunView
    from mlops.ledger.queries.live import LiveDay, LiveReport, UnripeCount
    from mlops.reporting.terminal import StageDisplay

_ONE = "asked for on the command line"
_VERSIONS = 2
_METRICS = {
    "roc_auc": "AUC",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
_OF_SIGNAL = {
    "total": "signal: return",
    "total_of_all": "all names: return",
    "sharpe_ratio": "signal: Sharpe",
    "sharpe_ratio_of_all": "all names: Sharpe",
    "max_drawdown": "signal: drawdown",
    "win_rate": "signal: win rate",
}


@command
def predict(
    strategy: StrategyName,
    date_: Annotated[
        date | None, typer.Option("--date", parser=day, metavar="DATE", help="Default: the newest complete date.")
    ] = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """Have the champion predict a date's universe; a date has one run. Exit code 1 where it is refused."""
    from mlops.domain.records import RunState
    from mlops.reporting.narrative import is_error
    from mlops.reporting.terminal import ERROR, FINDING, OK
    from mlops.runs.launch import shown
    from tasks.services import connect

    services = connect()
    view = shown(lambda display: _predicted(services, strategy, date_, display, queue=queue), json=json)
    if is_error(view):
        return ERROR
    return OK if view.state is RunState.SUCCEEDED else FINDING


def _predicted(services: Services, strategy: str, asked: date | None, display: StageDisplay, *, queue: bool) -> RunView:
    from mlops.domain.ports import Window
    from mlops.domain.run_states import TERMINAL
    from mlops.domain.windows import newest_complete_date
    from mlops.invocation import command_line_actor
    from mlops.reporting.terminal import err
    from mlops.runs.launch import launch
    from mlops.runs.request import prediction_request

    today = services.feature_day()
    decided = asked or newest_complete_date(services.policies[strategy], services.source, today=today)
    request = prediction_request(
        services.policies,
        services.ledger,
        strategy,
        decided,
        reason=_ONE,
        requested_by=command_line_actor(),
        n_rows=services.source.count(strategy, Window(start=decided - timedelta(days=1), end=decided)),
    )

    def accepted(one: Accepted) -> None:
        if one.state in TERMINAL:
            err.print(f"{decided} was predicted already. Run ID: {one.run_id}")
        else:
            display.accepted(one)

    return launch(services, request, queue=queue, on_accept=accepted, on_stage=display.stage)


@command
def live(
    strategy: Annotated[str | None, typer.Argument(help="Default: all strategies, a line each.")] = None,
    score: Annotated[bool, typer.Option("--score", help="Compare with what has come since, first.")] = False,
    as_of: AsOf = None,
    history: Annotated[
        date | None,
        typer.Option(parser=day, metavar="DATE", help="Every score of a predicted date, with when it became known."),
    ] = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """Show what the champions' predictions were worth. Exit code 1 where a present champion has decayed."""
    from mlops.domain.errors import ConfigurationError
    from mlops.domain.live.headline import decayed_on
    from mlops.reporting.narrative import error_of, is_error
    from mlops.reporting.terminal import ERROR, FINDING, OK, StageDisplay, err, out, print_json
    from tasks.services import connect

    if as_of is not None and not score:
        raise ConfigurationError("--as-of says as of when to score; give --score with it")
    if history is not None and not strategy:
        raise ConfigurationError("--history shows a date of one strategy; name it")
    services = connect()
    names = [services.strategies[strategy].name] if strategy else list(services.strategies)
    failed = False
    if score:
        display = StageDisplay(quiet=json)
        with display.live():
            for name in names:
                view = _scored(services, name, as_of, display, queue=queue)
                if is_error(view):
                    failed = True
                    err.print(f"Error: {name}: {error_of(view)}", style="red", markup=False)
    if strategy and history is not None:
        scores = services.ledger.live_day_history(strategy, history)
        print_json({"scores": scores}) if json else out.print(_history(strategy, history, scores), markup=False)
        return ERROR if failed else OK
    reports = {name: services.ledger.live_report(name) for name in names}
    unripe = services.ledger.unripe_predictions(names)
    champions = {name: key.version for name, key in services.ledger.model_keys(names).items()}
    if json:
        print_json({"strategies": [_as_json(name, reports[name], unripe[name]) for name in names]})
    elif strategy:
        for part in _of_strategy(strategy, champions[strategy], reports[strategy], unripe[strategy]):
            out.print(part, markup=False)
    else:
        out.print(_of_all(champions, reports, unripe))
    decayed = any(one and decayed_on(one.document["headline"], champions[name]) for name, one in reports.items())
    return ERROR if failed else FINDING if decayed else OK


def _scored(services: Services, strategy: str, as_of: date | None, display: StageDisplay, *, queue: bool) -> RunView:
    from mlops.domain.records import Kind
    from mlops.runs.launch import command_run

    return command_run(services, strategy, Kind.SCORE, display, queue=queue, as_of=as_of)


def _as_json(strategy: str, report: LiveReport | None, unripe: UnripeCount) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "scored_as_of": report.as_of if report else None,
        "scored_at": report.created_at if report else None,
        "run_id": report.run_id if report else None,
        "unripe": unripe,
        "report": report.document if report else None,
    }


def _history(strategy: str, date_: date, scores: Sequence[LiveDay]) -> str | Table:
    """Each score of a date, oldest first; more than one of a version: its outcomes were restated, or became known."""
    from mlops.domain.live.day_score import DayScore

    if not scores:
        return f"No prediction of {strategy} for {date_} was scored."
    table = _table("known at", "version", "predictions", "outcomes", "right", "log loss")
    for one in scores:
        score, n = DayScore.from_json(one.score), one.n_labelled
        worth = (f"{score.n_hits / n:.1%}", f"{score.log_loss / n:.4f}") if n else ("", "")
        table.add_row(f"{one.known_at:%Y-%m-%d %H:%M}", f"v{one.version}", f"{one.n_predictions:,}", f"{n:,}", *worth)
    return table


# ---- All strategies, a line each


def _of_all(
    champions: Mapping[str, str | None], reports: Mapping[str, LiveReport | None], unripe: Mapping[str, UnripeCount]
) -> Table:
    table = _table("strategy", "champion", "AUC", "days", "not ripe", "no outcome", "scored as of", "decay")
    for name, report in reports.items():
        champion = f"v{champions[name]}" if champions[name] else "none"
        waiting = unripe[name].n_predictions
        if report is None:
            table.add_row(name, champion, "never scored", "", f"{waiting:,}" if waiting else "", "", "", "")
            continue
        head = report.document["headline"]
        never = head.get("n_without_outcome", 0) + head.get("n_gone", 0)
        table.add_row(
            name,
            champion,
            _worth(head, champions[name]),
            f"{head['n_days']:,}",
            f"{waiting:,}",
            f"{never:,}" if never else "",
            f"{report.as_of}",
            _decay_in_short(head, champions[name]),
        )
    return table


def _worth(head: Mapping[str, Any], champion: str | None) -> str:
    from mlops.domain.live.headline import measured_version, why_no_value

    version = measured_version(head, champion)
    found = why_no_value(head) or _shown(head) + (" estimated" if head["is_estimate"] else "")
    return f"{found} (of v{version})" if version else found


def _decay_in_short(head: Mapping[str, Any], champion: str | None) -> str:
    from mlops.domain.live.headline import decayed_on, why_not_tested

    found = decayed_on(head, champion)
    if found:
        return f"since {found}"
    return "not tested" if why_not_tested(head, champion) else "none"


# ---- One strategy


def _of_strategy(
    strategy: str, champion: str | None, report: LiveReport | None, unripe: UnripeCount
) -> Iterator[str | Table]:
    from mlops.domain.live.headline import measured_version
    from mlops.reporting.narrative import without_outcome_words

    if report is None:
        waiting = f" {unripe.n_predictions:,} predictions wait." if unripe.n_predictions else ""
        yield f"Nothing of {strategy} was scored yet.{waiting} `acis live {strategy} --score` compares with what came."
        return
    document = report.document
    yield f"{strategy} as of {report.as_of}: {document['label']}, {document['horizon_dates']} dates ahead"
    yield _performance(document["performance"])
    version = measured_version(document["headline"], champion)
    if version:
        now = f"v{champion} is the champion now and was not scored yet" if champion else "there is no champion now"
        yield f"What follows is of v{version}: {now}"
    if unripe.n_predictions:
        yield f"Not ripe yet: {unripe.n_predictions:,} predictions, of {unripe.first} to {unripe.last}"
    never = without_outcome_words(document.get("counts", {}))
    if never:
        yield never
    yield from _estimates(document)
    yield from _decay(document["decay"])
    yield from _rollback(document.get("rollback") or {})
    yield from _attribution(document["attribution"])
    yield from _slices(document["slices"])
    yield from _parity(document["parity"])
    for note in document["notes"]:
        yield f"Note: {note}"


def _performance(performances: Sequence[Mapping[str, Any]]) -> Table:
    """A column for each of the newest versions, so that the table fits a terminal."""
    newest = sorted(performances, key=lambda one: one["last"] or "")[-_VERSIONS:]
    others = f", newest {_VERSIONS} of {len(performances)} versions" if len(performances) > _VERSIONS else ""
    names = (f"v{one['version']}" + ("" if one["variant"] == "champion" else f" {one['variant']}") for one in newest)
    table = _table(f"90 % intervals{others}", *names)
    table.add_row("from", *(one["first"] or "" for one in newest))
    table.add_row("to", *(one["last"] or "" for one in newest))
    table.add_row("days with outcomes", *(f"{one['n_days']:,}" for one in newest))
    table.add_row("outcomes", *(f"{one['n_labelled']:,}" for one in newest))
    for name, title in _METRICS.items():
        table.add_row(title, *(_shown(one[name]) for one in newest))
    signals = [one["signal"] for one in newest]
    if any(signals):
        for name, title in _OF_SIGNAL.items():
            table.add_row(title, *(_shown(signal[name]) if signal else "" for signal in signals))
    return table


def _estimates(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["estimate"]:
        if one["metric"] == "roc_auc":
            yield f"Estimate, no measurement, of {one['first']} to {one['last']}: AUC {_shown(one)}"
    checks = [one for one in document["estimate_checks"] if one["estimate"]["metric"] == "roc_auc"]
    if checks:
        covered = sum(one["is_covered"] for one in checks)
        yield f"Earlier estimates of the AUC: {covered} of {len(checks)} months lay within their 90 % interval"


def _decay(decay: Mapping[str, Any]) -> Iterator[str]:
    from mlops.reporting.narrative import decay_words

    yield from decay_words(decay)
    if decay.get("retrain_words"):
        yield f"  {decay['retrain_words']}"


def _rollback(rollback: Mapping[str, Any]) -> Iterator[str]:
    from mlops.reporting.narrative import rollback_words

    if rollback:
        yield from rollback_words(rollback) or [f"Former champions beside it: {rollback['words']}"]


def _attribution(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found:
        yield f"Relies on: {found['words']}"


def _slices(found: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    if not found:
        return
    worse = [one for one in found if one["is_worse"]]
    yield f"Slices: {len(worse)} of {len(found)} are worse than the others, the number of looks corrected"
    for one in worse:
        yield (
            f"  {one['column']} {one['value']}: log loss {one['log_loss']:.4f}, {one['excess_log_loss']:+.4f} "
            f"against the others (adjusted p {one['adjusted_p_value']:.3g})"
        )


def _parity(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    yield (
        f"Parity: {found['n_equal']:,} of {found['n_rows']:,} rows that were served from {found['first']} on are those "
        "that training would read"
    )
    shown = [f"{one['ticker']} {one['date']}" for one in found["examples"]]
    if found["n_other"] > len(shown):
        shown.append("…")
    if found["n_other"]:
        yield f"  {found['n_other']:,} are others now: {', '.join(shown)}"
    if found["n_gone"]:
        yield f"  {found['n_gone']:,} are gone"


def _shown(measured: Mapping[str, Any] | None) -> str:
    """`0.543 (0.512 to 0.571)`; empty where it is not defined."""
    if measured is None or measured["value"] is None:
        return ""
    if measured["low"] is None:
        return f"{measured['value']:.3f}"
    return f"{measured['value']:.3f} ({measured['low']:.3f} to {measured['high']:.3f})"


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place == 0)
    return table
