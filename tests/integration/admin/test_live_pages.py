"""Live performance: the list, one strategy's page, and what an operator starts there."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from mlops.domain.live.day_score import score_day
from mlops.domain.policies import LivePolicy
from mlops.domain.records import Kind
from mlops.strategies.file import Strategies
from tests.support.admin import Browser
from tests.support.live_scores import made_up_scores, scored, trading_days
from tests.support.model_pages import champion, row, words
from tests.support.services import FakeServices, small_strategy

PAGE = "/admin/live/growth"
FIRST = date(2025, 6, 2)


def number(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def document(**more: Any) -> dict[str, Any]:
    """As much of a scoring's document as pages read."""
    headline = {
        "version": "1", "metric": "roc_auc", "value": 0.71, "low": 0.66, "high": 0.76, "n_days": 40, "n_labelled": 800,
        "n_unripe": 400, "is_estimate": False, "decayed_on": None,
    }  # fmt: skip
    return {
        "headline": headline,
        "champion": {"version": "1"},
        "performance": [{"version": "1", "accuracy": number(0.62), "roc_auc": number(0.71), "log_loss": None}],
        "estimate": [{"metric": "roc_auc", "value": 0.68, "low": 0.5, "high": 0.8}],
        "parity": {
            "version": "1", "first": "2025-08-01", "last": "2025-08-22", "n_rows": 400, "n_equal": 396, "n_other": 4,
            "n_gone": 0, "examples": [{"ticker": "AAPL", "date": "2025-08-04"}],
        },
        "decay": {"fired_on": None, "words": "No worse than at its promotion.", "alpha": 0.01, "signals": []},
        "attribution": None,
        "slices": [],
        "notes": [],
        **more,
    }  # fmt: skip


@pytest.fixture
def in_use(services: FakeServices) -> FakeServices:
    """A champion, 60 days of its predictions, and the outcomes of the first 40."""
    champion(services, "1", as_of=FIRST)
    scored(services, {"1": made_up_scores(trading_days(FIRST, 60), ripe=40)}, document=document())
    return services


# ---- the list


def test_where_nothing_is_predicted_the_page_says_what_to_do(viewer: Browser) -> None:
    page = words(viewer.get("/admin/live").text)
    assert "Nothing has been predicted yet" in page
    assert "live.predict = true" in page
    assert "ModelRouter" in page
    assert "live.predict is off" in row(viewer.get("/admin/live").text, "growth")


def test_a_strategy_that_predicts_and_has_not_yet_is_told_from_one_that_does_not(
    services: FakeServices, viewer: Browser
) -> None:
    services.with_policy(live=LivePolicy(predict=True))
    assert "nothing yet" in row(viewer.get("/admin/live").text, "growth")
    assert viewer.json("/admin/live")["totals"]["predicting"] == 1


def test_a_row_has_what_the_newest_scoring_measured_with_its_intervals(in_use: FakeServices, viewer: Browser) -> None:
    found = row(viewer.get("/admin/live").text, "growth")
    for part in ("v1", "2025-08-22", "0.710 (0.660 to 0.760)", "0.620 (0.570 to 0.670)", "estimate 0.680", "400"):
        assert part in found
    assert "4 of 400 differ" in found
    assert "Nothing has been predicted yet" not in viewer.get("/admin/live").text


def test_rows_are_sorted_by_what_they_are_worth_and_those_without_stand_last(
    services: FakeServices, viewer: Browser
) -> None:
    vars(services)["strategies"] = Strategies({name: small_strategy(name) for name in ("a", "b", "c")})
    days = made_up_scores(trading_days(FIRST, 30))
    for name, value in (("a", 0.6), ("b", 0.7)):
        headline = {
            **document()["headline"],
            "version": None,
            "value": value,
            "decayed_on": "2025-07-01" if name == "a" else None,
        }
        scored(services, {"1": days}, document=document(headline=headline), strategy=name)

    def order(query: str) -> list[str]:
        return [line["strategy"] for line in viewer.json(f"/admin/live?{query}")["list"]["rows"]]

    assert order("sort=-value") == ["b", "a", "c"]
    assert order("sort=value") == ["a", "b", "c"]
    assert order("show=decayed") == ["a"]
    assert order("show=without+outcomes") == ["c"]
    assert viewer.get("/admin/live?show=nonsense").status_code == 422


def test_an_estimate_is_no_outcome_and_says_that_it_is_one(services: FakeServices, viewer: Browser) -> None:
    headline = {**document()["headline"], "is_estimate": True}
    scored(services, {"1": made_up_scores(trading_days(FIRST, 10), ripe=0)}, document=document(headline=headline))
    assert viewer.json("/admin/live")["totals"]["with outcomes"] == 0
    assert "estimate" in row(viewer.get("/admin/").text, "growth")


# ---- one strategy


def test_an_unknown_strategy_is_not_found(viewer: Browser) -> None:
    assert viewer.get("/admin/live/nobody").status_code == 404


def test_without_a_champion_the_page_says_that_one_is_to_be_trained(viewer: Browser) -> None:
    assert "There is no champion that could predict" in words(viewer.get(PAGE).text)


def test_a_champion_that_was_never_asked_is_shown_how_to_be(services: FakeServices, viewer: Browser) -> None:
    champion(services, "1")
    assert "acis predict growth" in words(viewer.get(PAGE).text)


def test_each_version_has_its_days_its_numbers_and_what_was_said_beside_them(
    in_use: FakeServices, viewer: Browser
) -> None:
    (line,) = viewer.json(PAGE)["lines"]
    assert (line["version"], line["n_days"], line["n_labelled"]) == ("1", 40, 800)
    assert (line["n_unripe"], line["n_never"]) == (400, 0)
    # Calibrated predictions of logistic scores rank three pairs of four right, give or take, on 800 rows.
    assert 0.68 < line["measured"]["roc_auc"]["value"] < 0.80
    page = words(viewer.get(PAGE).text)
    for part in ("800 of 1,200 on 40 days", "Predictions against outcomes", "Calibration", "The signal beside holding"):
        assert part in page
    assert "No worse than at its promotion." in page
    assert "AAPL on 2025-08-04" in page


def test_the_histogram_counts_each_prediction_once(in_use: FakeServices, viewer: Browser) -> None:
    bars = viewer.json(PAGE)["bars"]
    counts = {name: sum(bar[name] for bar in bars) for name in ("n_positive", "n_negative", "n_waiting")}
    assert counts["n_waiting"] == 400
    assert counts["n_positive"] + counts["n_negative"] == 800


def test_what_is_not_ripe_is_estimated_and_called_so(in_use: FakeServices, viewer: Browser) -> None:
    estimates = viewer.json(PAGE)["estimates"]
    assert {one["metric"] for one in estimates} == {"accuracy", "roc_auc", "log_loss", "brier"}
    assert estimates[0]["first"] == trading_days(FIRST, 41)[-1].isoformat()
    assert '<span class="badge warn">estimate</span> from 400 predictions' in viewer.get(PAGE).text


def test_a_label_that_never_comes_is_no_part_of_the_estimate_and_is_not_called_unripe(
    services: FakeServices, viewer: Browser
) -> None:
    champion(services, "1", as_of=FIRST)
    days = trading_days(FIRST, 60)
    scores = made_up_scores(days, ripe=40)
    p, y, known = np.array([0.4, 0.6, 0.7]), np.array([0, 1, 1], dtype=np.int8), np.array([True, True, False])
    scores[days[3]] = score_day(p, y, known)  # the third was delisted
    scored(services, {"1": scores}, document=document())
    found = viewer.json(PAGE)
    assert found["estimates"][0]["first"] == days[40].isoformat()
    assert found["waiting"] == {"n_unripe": 400, "n_never": 1}
    assert "Ripe, without an outcome 1" in words(viewer.get(PAGE).text)
    scored(services, {"1": scores}, document=document(outcomes={"ripe_to": days[44].isoformat()}))
    found = viewer.json(PAGE)
    assert found["estimates"][0]["first"] == days[45].isoformat()
    assert found["waiting"] == {"n_unripe": 300, "n_never": 101}


def test_a_new_champion_is_given_neither_the_numbers_nor_the_decay_of_the_one_before(
    in_use: FakeServices, viewer: Browser
) -> None:
    headline = {**document()["headline"], "decayed_on": "2025-07-15"}
    scored(in_use, {"1": made_up_scores(trading_days(FIRST, 60), ripe=40)}, document=document(headline=headline))
    assert "since 2025-07-15" in row(viewer.get("/admin/live").text, "growth")
    assert "decayed" in row(viewer.get("/admin/").text, "growth")
    champion(in_use, "2", as_of=date(2025, 8, 25))
    listed = row(viewer.get("/admin/live").text, "growth")
    assert "of v1" in listed
    assert "not tested: v2 was not scored yet" in listed
    assert "2025-07-15" not in listed
    assert viewer.json("/admin/live?show=decayed")["list"]["rows"] == []
    overview = row(viewer.get("/admin/").text, "growth")
    assert "of v1" in overview
    assert "decayed" not in overview
    page = viewer.get(PAGE).text
    assert "This is what was found of v1" in words(page)
    for path in (PAGE, "/admin/strategies/growth"):
        assert "the champion has decayed" not in words(viewer.get(path).text), path


def test_decay_that_was_not_tested_is_not_called_none(in_use: FakeServices, viewer: Browser) -> None:
    assert " none " in row(viewer.get("/admin/live").text, "growth")
    headline = {**document()["headline"], "decay_tested": False, "decay_why_not": "MLflow does not answer"}
    scored(in_use, {"1": made_up_scores(trading_days(FIRST, 60), ripe=40)}, document=document(headline=headline))
    assert "not tested: MLflow does not answer" in row(viewer.get("/admin/live").text, "growth")


def test_outcomes_that_are_all_alike_are_not_called_unknown(in_use: FakeServices, viewer: Browser) -> None:
    headline = {**document()["headline"], "value": None}
    scored(in_use, {"1": made_up_scores(trading_days(FIRST, 60), ripe=40)}, document=document(headline=headline))
    assert "no AUC: all outcomes are alike" in row(viewer.get("/admin/").text, "growth")


@pytest.mark.parametrize(
    ("slices", "said"), [(None, "Not computed; the notes below say why."), ([], "Nothing to compare: sector had one")]
)
def test_slices_that_are_not_there_say_why(
    in_use: FakeServices, viewer: Browser, slices: list[Any] | None, said: str
) -> None:
    in_use.with_policy(live=LivePolicy(predict=True, slices=("sector",)))
    scored(in_use, {"1": made_up_scores(trading_days(FIRST, 60), ripe=40)}, document=document(slices=slices))
    page = words(viewer.get(PAGE).text)
    assert said in page
    assert "no outcome yet that could" not in page


def test_a_version_without_days_leaves_the_choice_of_another(in_use: FakeServices, viewer: Browser) -> None:
    page = viewer.get(f"{PAGE}?version=9").text
    assert 'id="filter-version"' in page
    assert "v9 has no scored day" in words(page)


def test_one_version_or_other_days_can_be_chosen(in_use: FakeServices, viewer: Browser) -> None:
    later = made_up_scores(trading_days(date(2025, 8, 25), 30), seed=2)
    scored(in_use, {"2": later}, document=document())
    assert [line["version"] for line in viewer.json(PAGE)["lines"]] == ["1", "2"]
    assert [line["version"] for line in viewer.json(f"{PAGE}?version=2")["lines"]] == ["2"]
    recent = viewer.json(f"{PAGE}?days=90")
    assert recent["axis"] == {"first": "2025-07-06", "last": "2025-10-03"}
    assert recent["lines"][0]["first"] == "2025-07-07"
    assert viewer.get(f"{PAGE}?metric=accuracy").status_code == 200
    assert viewer.get(f"{PAGE}?metric=luck").status_code == 422


def test_a_restated_day_counts_as_it_is_known_now(in_use: FakeServices, viewer: Browser) -> None:
    days = trading_days(FIRST, 60)
    restated = made_up_scores(days[:1], seed=9)
    assert viewer.json(PAGE)["found"]["n_labelled"] == 800
    before = viewer.json(PAGE)["found"]["accuracy"]["value"]
    scored(in_use, {"1": restated}, document=document())
    found = viewer.json(PAGE)["found"]
    assert found["n_labelled"] == 800
    assert found["accuracy"]["value"] != before


# ---- predict and score now


def test_predict_now_opens_a_run_for_an_operator_and_is_audited(in_use: FakeServices, operator: Browser) -> None:
    answer = operator.post(f"{PAGE}/predict")
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
    run = in_use.ledger.runs(limit=1)[0]
    assert (run.kind, run.requested_by) == (Kind.PREDICT, "anna")
    line = in_use.ledger.audit_lines(limit=1)[0]
    assert (line.actor, line.action, line.subject) == ("anna", "live.predict", "growth")


def test_score_now_opens_a_run_and_a_second_leads_to_it(in_use: FakeServices, operator: Browser) -> None:
    assert "The scoring has begun." in operator.post(f"{PAGE}/score", follow=True).text
    run = in_use.ledger.runs(limit=1)[0]
    assert run.kind is Kind.SCORE
    assert operator.post(f"{PAGE}/score").headers["location"] == f"/admin/runs/{run.run_id}"


def test_a_viewer_has_no_button_and_may_not(in_use: FakeServices, viewer: Browser) -> None:
    assert "Predict now" not in viewer.get(PAGE).text
    assert viewer.post(f"{PAGE}/predict").status_code == 403


def test_what_speaks_for_a_former_champion_is_on_its_page_and_a_question_on_the_overview(
    services: FakeServices, viewer: Browser
) -> None:
    champion(services, "1", as_of=FIRST)
    asks = "champion 1 is shown worse than former champion 0. A person decides: `acis rollback growth --to 0`"
    bounds = [
        {"version": "0", "n_days": 41, "mean": 0.002, "low": 0.0004, "high": 0.004},
        {"version": "9", "n_days": 2, "mean": 0.0, "low": None, "high": None},
    ]
    seq = services.ledger.champion("growth").seq
    rollback = {"action": "ask", "words": asks, "to": "0", "bounds": bounds, "alpha": 0.05}
    headline = {**document()["headline"], "rollback": {"action": "ask", "words": asks, "seq": seq}}
    scores = made_up_scores(trading_days(FIRST, 60), ripe=40)
    scored(services, {"1": scores}, document=document(rollback=rollback, headline=headline))
    page = words(viewer.get(PAGE).text)
    for part in ("a person decides", "better by 0.0004 to 0.004 a day, after 41 days", "no interval after 2 days"):
        assert part in page
    assert asks in words(viewer.get("/admin/").text)
    champion(services, "2", as_of=FIRST)
    assert asks not in words(viewer.get("/admin/").text)
