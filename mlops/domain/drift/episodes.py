"""Episodes of drift, and the one plan of retrainings that each of them has; pure.

    checks        . . d d . d d d . . . . . d       d: drifted   .: stable
    episode           |___________________|   |     ends with the fifth stable check in a row
    retraining        1             2         1

An episode begins with a drifted check and ends with the fifth check in a row that is stable, or where a month passes
without a drifted one; `insufficient` counts for neither. It follows from the verdicts that the ledger has, by their
as-of dates, so a replay finds the same ones and a check that is made up later takes its place among them.

A retraining at the beginning of an episode knows no label of it: what is predicted then lies in the future. One more is
due when as many dates of the episode have known labels as one label looks ahead, which is twice the horizon after its
beginning; after that it holds no other. Any retraining that came to its end counts, a forced one too, so a timetable
that retrains each week leaves nothing to do. Why so: docs/decisions/0057. Called by the drift stage and `what_if`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from mlops.domain.drift.verdict import Alarm, Verdict, settle_alarm
from mlops.domain.policies import DriftPolicy, calendar_days

#: Stable checks in a row that end an episode: a week of daily ones.
CALM_CHECKS = 5
#: Calendar days without a drifted check that end one too, however few checks were made.
SILENT_DAYS = 30
#: An episode is followed back so many calendar days: one that lasts longer gets a new plan about once a year.
EPISODE_DAYS = 400


@dataclass(frozen=True, kw_only=True)
class CheckedDay:
    """A date's check."""

    as_of: date
    verdict: Verdict
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Checks that drifted one after the other."""

    began: date
    """As-of date of the first drifted check"""
    last: date
    """As-of date of the newest drifted check"""
    worst: CheckedDay
    """Drifted check with the smallest p, the first of them"""
    n_drifted: int
    ended: date | None = None
    """As-of date of the check that ended it; None: it goes on"""


@dataclass(frozen=True, kw_only=True)
class RetrainingPlan:
    """Whether a check retrains, and the episode that it is in."""

    retrain: bool
    reason: str
    episode: Episode | None = None
    """The newest one, ended or not; None: there was none"""
    retrained: tuple[date, ...] = ()
    """As-of dates of the retrainings since it began"""
    due: date | None = None
    """About when labels of the episode can be learnt from"""

    def to_json(self) -> dict[str, Any] | None:
        """Return the part of a report on the episode; None: there was none."""
        if self.episode is None:
            return None
        return {
            "words": self.reason,
            "retrain": self.retrain,
            "began": self.episode.began.isoformat(),
            "last_drifted_on": self.episode.last.isoformat(),
            "ended_on": self.episode.ended.isoformat() if self.episode.ended else None,
            "n_drifted": self.episode.n_drifted,
            "worst_on": self.episode.worst.as_of.isoformat(),
            "worst_p_value": self.episode.worst.p_value,
            "retrained": [day.isoformat() for day in self.retrained],
            "due": self.due.isoformat() if self.due else None,
        }


def newest_episode(checks: Iterable[CheckedDay]) -> Episode | None:
    """The newest episode of these checks. checks : in any order; of several of one date the last one counts"""
    by_date = {check.as_of: check for check in checks}
    found, n_calm = None, 0
    for day in sorted(by_date):
        check = by_date[day]
        if found is not None and found.ended is None and (day - found.last).days > SILENT_DAYS:
            found = replace(found, ended=day)
        if check.verdict == "drifted":
            found, n_calm = _drifted(found, check), 0
        elif check.verdict == "stable" and found is not None and found.ended is None:
            n_calm += 1
            found = replace(found, ended=day) if n_calm == CALM_CHECKS else found
    return found


def _drifted(before: Episode | None, check: CheckedDay) -> Episode:
    if before is None or before.ended is not None:
        return Episode(began=check.as_of, last=check.as_of, worst=check, n_drifted=1)
    worst = check if _rarity(check) < _rarity(before.worst) else before.worst
    return replace(before, last=check.as_of, worst=worst, n_drifted=before.n_drifted + 1)


def _rarity(check: CheckedDay) -> float:
    return 1.0 if check.p_value is None else check.p_value


def plan_retraining(
    check: CheckedDay,
    earlier: Sequence[CheckedDay],
    retrained: Iterable[date],
    policy: DriftPolicy,
    *,
    cooldown_days: int,
    horizon_dates: int,
) -> RetrainingPlan:
    """Decide whether a retraining follows from a check.

    earlier : checks as of earlier dates; checks that never ran are not there
    retrained : as-of dates of the retrainings that came to their end, promoted or not; later ones do not count
    """
    before = {one.as_of: one for one in earlier if one.as_of < check.as_of}
    episode = newest_episode([*before.values(), check])
    known = sorted({day for day in retrained if day <= check.as_of})
    alarm = settle_alarm(
        check.verdict,
        [before[day].verdict for day in sorted(before, reverse=True)],
        policy,
        as_of=check.as_of,
        last_retrained=known[-1] if known else None,
        cooldown_days=cooldown_days,
    )
    if episode is None:
        return RetrainingPlan(retrain=alarm.retrain, reason=alarm.reason)
    since = tuple(day for day in known if day >= episode.began)
    plan = RetrainingPlan(retrain=alarm.retrain, reason=alarm.reason, episode=episode, retrained=since)
    if policy.plan == "check":
        return plan
    due = episode.began + timedelta(days=calendar_days(2 * horizon_dates))
    plan = replace(plan, due=due)
    if episode.ended is not None:
        return plan
    where = f"day {(check.as_of - episode.began).days + 1} of an episode that began {episode.began}"
    if check.verdict != "drifted":
        return replace(plan, reason=f"{where}; {alarm.reason}")
    return _by_plan(plan, episode, alarm, where=where, due=due, as_of=check.as_of)


def _by_plan(
    plan: RetrainingPlan, episode: Episode, alarm: Alarm, *, where: str, due: date, as_of: date
) -> RetrainingPlan:
    """Let the alarm through where the episode's plan has a retraining left for it."""
    can_learn = as_of >= due
    if any(day >= (due if can_learn else episode.began) for day in plan.retrained):
        retrained = f"retrained {plan.retrained[0] if not can_learn else plan.retrained[-1]}"
        left = (
            "labels since it began were known then, and its plan holds no further retraining"
            if can_learn
            else f"the next retraining is due when labels since then are ripe, about {due}"
        )
        return replace(plan, retrain=False, reason=f"{where}; {retrained}; {left}")
    if not alarm.retrain:
        return replace(plan, reason=f"{where}; {alarm.reason}")
    told = (
        "labels since then are ripe, which this retraining learns from"
        if can_learn
        else f"this retraining comes first, and one more when labels since then are ripe, about {due}"
    )
    return replace(plan, reason=f"{where}; {told}; {alarm.reason}")
