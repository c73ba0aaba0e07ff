"""Whether the champion gives its place back: shown better at alpha / k, guardrails, the cooldown, who can take it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lab.rollback_simulation import watch_champions
from mlops.domain.experiments.decision import Guardrail
from mlops.domain.experiments.duration import MAX_DAYS
from mlops.domain.experiments.rollback import FormerChampion, RollbackFacts, concluded, evidence_of
from mlops.domain.experiments.sequence import confidence_sequence
from mlops.domain.promotion.evidence import replay
from mlops.domain.training.fingerprint import evidence_digest

R = 25.0


def former(version: str, mean: float = 0.0, *, n: int = 60, **changes: Any) -> FormerChampion:
    """One whose daily difference to the champion has this mean and a spread of 1."""
    noise = np.resize([1.0, -1.0], n)
    values = tuple((f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}", float(mean + noise[day])) for day in range(n))
    given = {"model_sha256": version * 4, "made_by": "r", "is_watched": True, "r": R, "differences": values}
    return FormerChampion(version=version, **{**given, **changes})


def facts(*of: FormerChampion, **changes: Any) -> RollbackFacts:
    """A policy that rolls back by itself."""
    given: dict[str, Any] = {
        "strategy": "growth",
        "as_of": "2026-06-30",
        "champion": {"version": "9", "seq": 4, "model_sha256": "ff", "promotion_id": 7},
        "measure": "mark",
        "why_not": None,
        "mode": "automatic",
        "alpha": 0.05,
        "cooldown_days": 20,
        "days_since_rollback": None,
        "former": of,
    }
    return RollbackFacts(**{**given, **changes})


def broken(**changes: Any) -> tuple[Guardrail, ...]:
    """The champion is calibrated far worse than the version beside it."""
    given = {"name": "calibration", "value": 0.4, "bound": 0.25, "n": 500, "min_n": 200}
    return (Guardrail(**{**given, **changes}),)


def decided(*of: FormerChampion, **changes: Any) -> tuple[str, str | None]:
    found = evidence_of(facts(*of, **changes))
    return found["action"], found["to"]


def test_without_a_difference_nothing_happens() -> None:
    assert decided(former("5")) == ("none", None)
    assert decided() == ("none", None)


def test_the_champion_gives_its_place_to_the_best_of_those_that_are_shown_better() -> None:
    assert decided(former("5", 0.9), former("4", 1.2), former("3")) == ("rollback", "4")


def test_each_of_k_is_held_to_alpha_over_k() -> None:
    """A mean that one alone shows at 0.05 and one of three does not at 0.05 / 3."""
    means = np.arange(0.2, 1.0, 0.01)
    ends = [
        [confidence_sequence(np.array([v for _, v in former("5", m).differences]), r=R, alpha=a).low[-1] for m in means]
        for a in (0.05, 0.05 / 3)
    ]
    between = float(next(m for m, alone, of_three in zip(means, *ends, strict=True) if alone > 0 >= of_three))
    assert decided(former("5", between)) == ("rollback", "5")
    assert decided(former("5", between), former("4"), former("3")) == ("none", None)
    assert decided(former("5", between), former("4", is_watched=False, differences=())) == ("rollback", "5")


def test_a_broken_guardrail_brings_the_predecessor_back_whatever_the_days_say() -> None:
    assert decided(former("5"), former("4", guardrails=broken())) == ("rollback", "5")
    assert decided(former("5", guardrails=broken(n=199))) == ("none", None)


@pytest.mark.parametrize("name", ["positive share", "error rate", "latency"])
def test_a_guardrail_that_does_not_say_which_of_the_two_is_broken_asks_a_person_and_never_acts(name: str) -> None:
    """A former version that calls everything positive differs from a sound champion as much as the other way round."""
    found = evidence_of(facts(former("5", guardrails=broken(name=name))))
    assert (found["action"], found["to"]) == ("ask", "5")
    assert f"{name} is 0.4" in found["words"]
    assert "that alone does not say that the champion is the one at fault: `acis rollback" in found["words"]
    both = (*broken(), *broken(name=name))
    assert decided(former("5", guardrails=both)) == ("rollback", "5")
    assert decided(former("5", 1.2, guardrails=broken(name=name))) == ("rollback", "5")
    assert decided(former("5", guardrails=broken(name=name)), mode="off") == ("off", "5")


def test_of_two_models_of_one_number_the_one_that_is_shown_better_is_brought_back() -> None:
    """A registry that was made anew counts from 1 again."""
    anew, old = former("1"), former("1", 1.2, model_sha256="bbbb")
    found = evidence_of(facts(anew, old))
    assert (found["action"], found["target"]) == (
        "rollback",
        {"version": "1", "model_sha256": "bbbb", "made_by": "r"},
    )
    assert decided(anew, replace(old, unusable="its file is gone")) == ("rollback", "1")
    assert evidence_of(facts(anew, replace(old, unusable="gone")))["target"]["model_sha256"] == "1111"
    assert decided(replace(anew, was_left=True), replace(old, unusable="gone")) == ("ask", None)


def test_a_version_that_a_rollback_took_the_place_from_comes_back_only_where_it_is_shown_better() -> None:
    left = {"was_left": True, "guardrails": broken()}
    assert decided(former("5", **left), former("4")) == ("rollback", "4")
    assert decided(former("5", **left)) == ("ask", None)
    assert decided(former("5", 1.2, was_left=True)) == ("rollback", "5")


def test_one_that_cannot_be_used_is_passed_over_and_where_nobody_can_a_person_is_asked() -> None:
    damaged = {"unusable": "its model file is damaged"}
    assert decided(former("5", 1.5, **damaged), former("4", 1.2)) == ("rollback", "4")
    found = evidence_of(facts(former("5", 1.5, **damaged)))
    assert (found["action"], found["to"]) == ("ask", None)
    assert "version 5: its model file is damaged" in found["words"]


@pytest.mark.parametrize(("since", "action"), [(None, "rollback"), (0, "ask"), (19, "ask"), (20, "rollback")])
def test_within_the_cooldown_a_person_is_asked(since: int | None, action: str) -> None:
    assert decided(former("5", 1.2), days_since_rollback=since) == (action, "5")


def test_one_that_was_better_and_is_worse_by_now_takes_no_place() -> None:
    """As where the cooldown, the hook or a person let it wait: what was excluded once stays so."""
    rng = np.random.default_rng(1)
    d = np.concatenate([rng.normal(size=120) + 0.4, rng.normal(size=130) - 0.6])
    days = [(f"day {place:03d}", float(value)) for place, value in enumerate(d)]
    for n, action in ((100, "rollback"), (200, "none"), (250, "none")):
        found = evidence_of(facts(former("5", differences=tuple(days[:n]))))
        assert found["bounds"][0]["low"] > 0
        assert (found["action"], found["to"]) == (action, "5" if action == "rollback" else None)
        again = replay(json.loads(json.dumps(found)), evidence_digest(found))
        assert again is not None
        assert again.agrees
    assert found["words"] == (
        "no former champion is shown better: version 5 after 250 days, in which the difference changed"
    )


def test_a_policy_that_asks_names_the_command_and_one_that_is_off_says_what_it_found() -> None:
    found = evidence_of(facts(former("5", 1.2), mode="ask"))
    assert found["action"] == "ask"
    assert "`acis rollback growth --to 5 --reason" in found["words"]
    off = evidence_of(facts(former("5", 1.2), mode="off"))
    assert off["action"] == "off"
    assert "champion 9 is shown worse than former champion 5" in off["words"]


def test_a_hook_that_says_no_lets_it_wait() -> None:
    no = {"allowed": False, "words": "task:positions says no: 3 positions are open"}
    found = evidence_of(facts(former("5", 1.2), switch=no))
    assert (found["action"], found["to"]) == ("wait", "5")
    assert "3 positions are open" in found["words"]
    assert decided(former("5", 1.2), switch={**no, "allowed": True}) == ("rollback", "5")


def test_it_is_decided_again_from_its_evidence_and_changed_evidence_is_found_out() -> None:
    stored = json.loads(json.dumps(evidence_of(facts(former("5", 1.2), former("4", guardrails=broken())))))
    digest = evidence_digest(stored)
    again = replay(stored, digest)
    assert again is not None
    assert again.agrees
    assert concluded(stored) == stored
    other = {**stored, "to": "4"}
    found = replay(other, evidence_digest(other))
    assert found is not None
    assert not found.agrees


def test_a_guardrail_beside_one_that_is_not_watched_is_not_there() -> None:
    assert decided(replace(former("5"), is_watched=False, guardrails=())) == ("none", None)


def test_a_former_champion_that_sees_far_more_is_found_and_one_that_sees_as_much_is_not() -> None:
    """The simulation that `bench/rollback.py` counts by, on a few champions of a stated seed."""
    found = watch_champions(2, k=2, n_names=60, best=0.5, seed=5)
    assert [one.rolled_back for one in found] == [1.0, 1.0]
    assert all(one.median_days is not None and one.median_days < MAX_DAYS for one in found)
    assert [one.rolled_back for one in watch_champions(2, k=2, n_names=60, seed=5)] == [0.0, 0.0]
