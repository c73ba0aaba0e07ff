"""Opens what is due of models in use: a date's predictions once its features are there, and their scoring.

By the features themselves, not by the hour: what is looked at is the newest date that counts (`mlops.domain.panel`). A
date has one run of each kind, so any number of these may look at once. The reconciler runs it in a thread of its own: a
feature source that is slow delays no message and no lease.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog

from mlops.domain.errors import AcisError, LedgerUnavailable, SourceUnavailable
from mlops.domain.experiments.decision import broken_words
from mlops.domain.experiments.guardrails import guard_served
from mlops.domain.panel import Panel, panel_of
from mlops.domain.ports import Window
from mlops.domain.records import Kind, RunState
from mlops.domain.run_states import ACTIVE, FAILURES
from mlops.runs.request import prediction_request, run_request, submit
from mlops.stages.live.outcomes import SCORED_DAYS, read_outcomes
from mlops.stages.live.pairs import CHALLENGER, CHAMPION
from mlops.strategies.book import Unfit

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.domain.policies import Strategy
    from mlops.ledger.live.watermarks import Watermark
    from mlops.ledger.queries.live import DatedRun, LiveStanding

    _Runs = Mapping[str, list[DatedRun]]

log = structlog.get_logger(__name__)

EVERY_S = 60.0
"""Between two looks."""
RESTATED_EVERY_S = 3600.0
"""Between two looks at the outcomes of what was scored, which are a few columns of its dates."""
_AGAIN_WITHIN_S = 86_400.0
"""A scoring that is tried again waits no longer."""
_PANEL_DAYS = 90
"""Calendar days by which it is judged whether a date is complete, and when the next is expected."""
_ENDED_S = 14 * 86_400.0
"""A feed whose next date is late for longer has ended before it was first seen: nobody waits for a history to go on."""
COUNTED_EVERY_S = 900.0
"""Between two counts of the rows of dates that were complete already."""
_GROWN_DATES = 5
"""Newest complete dates that are predicted again where rows were added to them: a week of trading."""
_GUARDED_S = 900.0
"""Newest answers by which an experiment's challenger is stopped at once."""
_REASON, _GROWN, _BY = "features complete", "rows were added", "reconciler"


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A strategy's panel as it was found last."""

    newest_row: date
    n_rows: int
    """Of that date; a date that is loaded in parts has more the next time"""
    panel: Panel
    counted_at: float


class LiveWatch(threading.Thread):
    """Works while `leads` is set: this process holds, or held a moment ago, the reconcilers' lock."""

    def __init__(
        self,
        services: Services,
        *,
        leads: threading.Event,
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="live-watch", daemon=True)
        self._services, self._leads, self._stop_asked, self._monotonic = services, leads, stop, monotonic
        self._seen: dict[str, _Seen] = {}
        self._compared_at: dict[str, float] = {}

    def run(self) -> None:
        """Look after look until `stop` is set."""
        while not self._stop_asked.wait(EVERY_S):
            if self._leads.is_set():
                self.step()

    def step(self) -> None:
        """One look; what fails is logged and comes again, experiments and dates each by themselves."""
        for looks in (self.guard_experiments, self._look):
            try:
                looks()
            except AcisError as exc:
                log.warning("live.not_looked", error=str(exc), next=f"in {EVERY_S:.0f} s")
            except Exception:
                log.exception("live.watch_crashed")

    def guard_experiments(self) -> None:
        """End each experiment whose challenger answers too badly beside the champion. Raises LedgerUnavailable.

        Of the last quarter of an hour, whatever the day's look will say; it ends once, whoever sees it first.
        """
        ledger = self._services.ledger
        for experiment in ledger.running_experiments():
            with _alone(experiment.strategy):
                since = max(experiment.started_at, ledger.now() - timedelta(seconds=_GUARDED_S))
                counts = ledger.answer_counts(experiment.strategy, since=since)
                one, other = (
                    [count for count in counts if (count.variant, count.model_sha256) == (variant, identity.sha256)]
                    for variant, identity in ((CHALLENGER, experiment.challenger), (CHAMPION, experiment.champion))
                )
                broken = [guard for guard in guard_served(one, other, experiment.plan.guardrails) if guard.is_broken]
                if not broken:
                    continue
                words = broken_words(broken)
                if ledger.break_guardrail(experiment.id, broken, words).end_words != words:
                    continue  # somebody was first, and has said so
                log.warning(
                    "experiment.guardrail_broken",
                    strategy=experiment.strategy,
                    experiment=experiment.id,
                    version=experiment.challenger_version,
                    action=words,
                )

    def _look(self) -> None:
        """Raises LedgerUnavailable, SourceUnavailable; the error of one strategy stops no other."""
        strategies = self._watched()
        standings = self._services.ledger.live_standings(list(strategies))
        predicting = {name for name, one in strategies.items() if _predicts(one, standings[name])}
        # What a backend or the service asked is scored too, where the schedule predicts nothing.
        in_use = {
            name: one for name, one in strategies.items() if name in predicting or standings[name].has_predictions
        }
        ended = self._services.ledger.not_late([name for name in self._services.strategies if name not in predicting])
        for name in ended:
            log.info("features.no_longer_awaited", strategy=name)
        today = self._services.feature_day()
        if not in_use:
            return
        marks = self._services.ledger.watermarks()
        try:
            panels = self._panels(in_use, today=today)
        except SourceUnavailable:
            # A deadline passes all the same, and is judged by what was seen last.
            kept = {name: seen.panel for name, seen in self._seen.items() if name in predicting}
            self._say_what_is_late({name: strategies[name] for name in predicting}, kept, marks)
            raise
        self._say_what_is_late({name: strategies[name] for name in predicting}, panels, marks)
        runs, scorings = self._runs_of(panels)
        for name, panel in panels.items():
            with _alone(name):
                self._open_what_is_due(in_use[name], standings[name], panel, runs.get(name, []), scorings.get(name, []))

    def _watched(self) -> dict[str, Strategy]:
        """Strategies that are not paused."""
        found = {}
        for name, settled in self._services.policies.all_settled().items():
            if isinstance(settled, Unfit):
                continue  # the timetable says so
            strategy = settled.strategy
            if not is_paused(strategy):
                found[name] = strategy
        return found

    def _open_what_is_due(
        self,
        strategy: Strategy,
        standing: LiveStanding,
        panel: Panel,
        runs: Sequence[DatedRun],
        scorings: Sequence[DatedRun],
    ) -> None:
        if _predicts(strategy, standing) and self._predict(strategy, standing, panel, runs):
            return
        newest = panel.newest
        predicts_now = any(run.as_of == newest and run.state in ACTIVE for run in runs)
        if newest is not None and standing.has_predictions and not predicts_now:
            self._score(strategy, standing, scorings, newest)

    def _panels(self, strategies: Mapping[str, Strategy], *, today: date) -> dict[str, Panel]:
        """Of each strategy that has dates that count. Raises SourceUnavailable."""
        newest_of_all = self._services.source.latest_date(until=today)
        panels: dict[str, Panel] = {}
        if newest_of_all is None:
            return panels
        for name, strategy in strategies.items():
            with _alone(name):
                panel = self._panel_of(strategy, newest_of_all, today=today)
                if panel is not None and panel.newest is not None:
                    panels[name] = panel
        return panels

    def _runs_of(self, panels: Mapping[str, Panel]) -> tuple[_Runs, _Runs]:
        """Predictions and scorings of the dates of each panel, a query for all panels that end on the same date."""
        ending: dict[date, list[str]] = {}
        for name, panel in panels.items():
            if panel.newest is not None:
                ending.setdefault(panel.newest, []).append(name)
        predictions: list[DatedRun] = []
        scorings: list[DatedRun] = []
        for newest, names in ending.items():
            since = newest - timedelta(days=_PANEL_DAYS)
            predictions += self._services.ledger.predict_runs(names, since=since)
            scorings += self._services.ledger.score_runs(names, since=since)
        return _by_strategy(predictions), _by_strategy(scorings)

    def _panel_of(self, strategy: Strategy, newest_of_all: date, *, today: date) -> Panel | None:
        """The dates that count; counted anew where the newest date, or its number of rows, is another one.

        Nothing is asked while the newest date of all strategies is one that counts for this one, but for a count now
        and then: tickers that are loaded later make no date newer.
        """
        source, name, now = self._services.source, strategy.name, self._monotonic()
        known = self._seen.get(name)
        is_old = known is not None and now - known.counted_at >= COUNTED_EVERY_S
        if known is not None and not is_old and known.panel.newest == newest_of_all:
            return known.panel
        newest = source.latest_date(name, until=today)
        if newest is None:
            return None
        n_rows = source.count(name, Window(start=newest - timedelta(days=1), end=newest))
        seen = self._seen.get(name)
        if seen is None or is_old or (seen.newest_row, seen.n_rows) != (newest, n_rows):
            window = Window(start=newest - timedelta(days=_PANEL_DAYS), end=newest)
            panel = panel_of(source.rows_by_date(name, window), min_share=strategy.data.min_date_share)
            seen = self._seen[name] = _Seen(newest_row=newest, n_rows=n_rows, panel=panel, counted_at=now)
        return seen.panel

    # -- the watermark's alarm

    def _say_what_is_late(
        self, strategies: Mapping[str, Strategy], panels: Mapping[str, Panel], marks: Mapping[str, Watermark]
    ) -> None:
        for name, panel in panels.items():
            if name in strategies and panel.newest is not None:
                with _alone(name):
                    self._say_whether_late(strategies[name], panel, panel.newest, marks.get(name))

    def _say_whether_late(self, strategy: Strategy, panel: Panel, newest: date, mark: Watermark | None) -> None:
        """Once for a date, on the page and in the log; taken back when the date, or a later one, is complete."""
        ledger, name = self._services.ledger, strategy.name
        if mark is None or mark.newest != newest or (mark.late_date is not None and mark.late_date <= newest):
            came = ledger.note_newest(name, newest)
            if came is not None:
                log.info("features.came", strategy=name, date=came.isoformat(), newest=newest.isoformat())
        expected = panel.next_expected
        late_s = 0.0 if expected is None else (self._services.now() - self._late_at(strategy, expected)).total_seconds()
        if expected is None or not 0 <= late_s < _ENDED_S:
            return
        incomplete = next((one for one in panel.left_out if one.day == expected), None)
        found = f"; {incomplete.n_rows} of about {incomplete.expected:g} rows are there" if incomplete else ""
        words = (
            f"the features of {expected} are not complete, {strategy.live.late_after_hours:g} h after it began{found}"
        )
        if ledger.note_late(name, expected, words):
            log.warning(
                "features.late",
                strategy=name,
                date=expected.isoformat(),
                newest=newest.isoformat(),
                error=words,
                action="load them; the date is predicted as soon as they are there. A holiday needs nothing",
            )

    def _late_at(self, strategy: Strategy, day: date) -> datetime:
        zone = ZoneInfo(self._services.settings.feature_time_zone)
        began = datetime.combine(day, time_of_day(), tzinfo=zone).astimezone(UTC)
        return began + timedelta(hours=strategy.live.late_after_hours)

    # -- what is opened

    def _predict(self, strategy: Strategy, standing: LiveStanding, panel: Panel, runs: Sequence[DatedRun]) -> bool:
        """Open the oldest date that is due; whether one was, or waits for another prediction to end."""
        grown = _grown_dates(panel, runs)
        answered = [run for run in runs if _is_answer(run, standing)]
        due = sorted({*self._due_dates(strategy, panel, answered, grown), *grown})
        if not due:
            return False
        if any(run.state in ACTIVE for run in runs):
            return True
        return any(self._opens(strategy, day, panel, reason=_GROWN if day in grown else _REASON) for day in due)

    def _opens(self, strategy: Strategy, day: date, panel: Panel, *, reason: str) -> bool:
        """Open a prediction of the date; whether there is one now, and not the answer of one that has ended."""
        request = prediction_request(
            self._services.policies,
            self._services.ledger,
            strategy.name,
            day,
            reason=reason,
            requested_by=_BY,
            n_rows=panel.rows[day],
        )
        accepted = submit(self._services, request)
        if accepted.created:
            log.info("predict.opened", strategy=strategy.name, date=day.isoformat(), run_id=accepted.run_id)
        return accepted.created or accepted.state in ACTIVE

    def _due_dates(
        self, strategy: Strategy, panel: Panel, runs: Sequence[DatedRun], grown: Collection[date]
    ) -> list[date]:
        """Complete dates after the newest that has a run, oldest first; of those before the newest that are in grace.

        At first sight nothing was missed: the newest alone is due.
        """
        newest = panel.newest
        known = {run.as_of for run in runs if run.as_of is not None}
        if newest is None or newest in known:
            return []
        last = max(known, default=None)
        before = [day for day in panel.rows if last is not None and last < day < newest and day not in grown]
        grace = timedelta(hours=strategy.schedule.grace_hours)
        in_grace = [day for day in before if self._services.now() <= self._late_at(strategy, day) + grace]
        missed = [day for day in before if day not in in_grace]
        if missed:
            note = "missed, and older than its grace"
            self._services.ledger.dates_missed(strategy.name, Kind.PREDICT, missed, note=note)
            log.warning(
                "predict.dates_missed",
                strategy=strategy.name,
                dates=len(missed),
                first=missed[0].isoformat(),
                last=missed[-1].isoformat(),
                action=f"none, or `acis predict {strategy.name} --date DATE` for each",
            )
        return [*in_grace, newest]

    def _score(self, strategy: Strategy, standing: LiveStanding, scorings: Sequence[DatedRun], newest: date) -> None:
        """Once for each newest date; again where outcomes are not those that were known, or the model was not asked."""
        as_of, is_again, reason = newest, False, "labels became ripe"
        place = newest.isoformat()
        if standing.scored_as_of is not None and newest <= standing.scored_as_of:
            as_of, is_again = standing.scored_as_of, True
            digest = self._other_outcomes(strategy, standing)
            if digest is not None:
                place, reason = f"{as_of.isoformat()}/{digest[:12]}", "outcomes were restated"
            elif standing.outcomes and standing.outcomes.get("champion_not_asked"):
                place, reason = as_of.isoformat(), "the champion could not be asked"
            else:
                return
        slot = self._open_slot(place, scorings, is_again=is_again)
        if slot is None or not self._was_predicted_near(strategy, as_of):
            return
        request = run_request(
            self._services.policies,
            strategy.name,
            Kind.SCORE,
            reason=reason,
            requested_by=_BY,
            as_of=as_of,
            slot=slot,
        )
        accepted = submit(self._services, request)
        if accepted.created:
            log.info("score.opened", strategy=strategy.name, as_of=as_of.isoformat(), reason=reason)

    def _open_slot(self, place: str, scorings: Sequence[DatedRun], *, is_again: bool) -> str | None:
        """`2026-11-27`; `2026-11-27/2` where that one's run is no answer; None where one is, or may become one.

        is_again : a scoring that succeeded is no answer either
        The next one waits for twice as long as the one before it, from two minutes to a day.
        """
        if any(run.state in ACTIVE for run in scorings):
            return None
        numbered = re.compile(re.escape(place) + r"(/\d{1,6})?")
        runs = [run for run in scorings if run.slot is not None and numbered.fullmatch(run.slot)]
        if not runs:
            return place
        is_answer = runs[-1].state not in FAILURES and not (is_again and runs[-1].state is RunState.SUCCEEDED)
        wait_s = min(EVERY_S * 2.0 ** min(len(runs), 20), _AGAIN_WITHIN_S)
        if is_answer or (self._services.ledger.now() - runs[-1].created_at).total_seconds() < wait_s:
            return None
        return f"{place}/{len(runs) + 1}"

    def _was_predicted_near(self, strategy: Strategy, as_of: date) -> bool:
        """Whether a scoring would find anything: a demo's or a history's dates may lie years before the newest."""
        newest = self._services.ledger.predicted_to([strategy.name]).get(strategy.name)
        return newest is not None and newest >= as_of - timedelta(days=SCORED_DAYS)

    def _other_outcomes(self, strategy: Strategy, standing: LiveStanding) -> str | None:
        """Digest of what is known now of the dates that were scored, where it is another one; looked at by the hour."""
        scored = standing.outcomes
        if not scored:
            return None
        now = self._monotonic()
        if now - self._compared_at.get(strategy.name, float("-inf")) < RESTATED_EVERY_S:
            return None
        self._compared_at[strategy.name] = now
        first, last = (date.fromisoformat(scored[key]) for key in ("first", "last"))
        with self._services.source.snapshot() as source:
            digest = read_outcomes(source, strategy, first=first, last=last).digest
        return None if digest == scored["digest"] else digest


def _predicts(strategy: Strategy, standing: LiveStanding) -> bool:
    return strategy.live.predict and standing.champion_since is not None


def is_paused(strategy: Strategy) -> bool:
    """Whether all of the strategy's scheduled jobs are: then nothing is predicted by itself either."""
    crons = {"drift_check": strategy.schedule.drift_check, "retrain": strategy.schedule.retrain}
    jobs = {job for job, cron in crons.items() if cron} or set(crons)
    return jobs <= set(strategy.schedule.paused)


def _is_answer(run: DatedRun, standing: LiveStanding) -> bool:
    """Whether its date need not be asked for again: one that was refused may be predicted by another champion.

    One that somebody else asked for before it was complete says nothing.
    """
    was_incomplete = run.state in FAILURES or (run.state is RunState.REFUSED and run.n_found is not None)
    if was_incomplete and run.requested_by != _BY:
        return False
    since = standing.champion_since
    return run.state is not RunState.REFUSED or (since is not None and run.created_at >= since)


def _grown_dates(panel: Panel, runs: Sequence[DatedRun]) -> list[date]:
    """The newest dates that have more rows now than their last run found."""
    last_runs = {run.as_of: run for run in runs}
    newest = list(panel.rows)[-_GROWN_DATES:]
    return [day for day in newest if (run := last_runs.get(day)) is not None and run.has_grown(panel.rows[day])]


@contextmanager
def _alone(strategy: str) -> Iterator[None]:
    """What fails of one strategy is logged, and stops no other; an outage stops them all."""
    try:
        yield
    except (LedgerUnavailable, SourceUnavailable):
        raise
    except AcisError as exc:
        log.warning("live.strategy_not_looked_at", strategy=strategy, error=str(exc), next=f"in {EVERY_S:.0f} s")
    except Exception:
        log.exception("live.strategy_crashed", strategy=strategy)


def _by_strategy(runs: Iterable[DatedRun]) -> _Runs:
    found: dict[str, list[DatedRun]] = {}
    for run in runs:
        found.setdefault(run.strategy, []).append(run)
    return found
