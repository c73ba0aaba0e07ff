"""The page can be read by everybody, anywhere, whatever the report holds."""

from __future__ import annotations

import re
from datetime import date, timedelta

import numpy as np
import pytest

from mlops.reporting.page.render import MORE_PICTURES, PICTURES, render_page
from tests.unit.drift_detection.checks import N_CURRENT, N_REFERENCE, noise
from tests.unit.drift_detection.page.documents import (
    AS_OF,
    calibrated_document,
    dated,
    document,
    of_features,
    parsed,
    rendered,
)

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "a' onload='b", "&lt;b&gt;")


def test_its_headings_and_sections_can_be_walked_through() -> None:
    page = rendered(calibrated_document())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(labelled) <= set(ids)
    assert {str(link["href"]).removeprefix("#") for link in page.named("a")} <= set(ids)
    assert len(page.named("h1")) == len(page.named("main")) == 1
    assert [attributes["lang"] for attributes in page.named("html")] == ["en"]
    assert all(attributes.get("scope") for attributes in page.named("th"))


def test_every_picture_says_in_words_what_it_shows() -> None:
    page = rendered(calibrated_document())
    assert all(attributes["aria-hidden"] == "true" for attributes in page.named("svg"))
    pictures = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(pictures) == len(page.named("svg")) == 2 * 3 + 2
    assert all(attributes["aria-label"] for attributes in pictures)


def test_it_fetches_nothing() -> None:
    text = render_page(calibrated_document())
    assert "://" not in text
    assert not re.search(r"@import|url\(|\bsrc=|<link|<iframe|<img|fetch\(|XMLHttpRequest", text)
    policy = next(tag for tag in parsed(text).named("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_it_follows_the_readers_screen() -> None:
    text = render_page(document())
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


def test_names_from_the_data_are_text_wherever_they_stand() -> None:
    report = of_features(*HOSTILE, shift=2.0)
    report["data"]["strategy"] = HOSTILE[0]
    report["findings"] = [{"code": "new_column", "column": HOSTILE[1], "message": HOSTILE[1], "is_drift": False}]
    report["unheard of"] = {HOSTILE[2]: HOSTILE[0]}
    page = rendered(report, dated(report, date(2020, 3, 19)))
    assert len(page.named("script")) == 1
    assert page.named("img") == []
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for name in HOSTILE:
        assert name in page.shown


def test_it_is_the_same_text_each_time() -> None:
    report = calibrated_document()
    assert render_page(report, [report]) == render_page(report, [report])


def test_the_sentence_says_verdict_and_reason() -> None:
    moved = calibrated_document(shift=3.0)
    assert moved["verdict"]["verdict"] == "drifted"
    headline = " ".join(rendered(moved).said["h1"][0].split())
    assert headline == f"drifted growth has drifted: {moved['verdict']['reason']}."
    calm = " ".join(rendered(calibrated_document()).said["h1"][0].split())
    assert calm.startswith("stable growth has not drifted: ")


def test_where_the_rules_differ_that_is_said_and_the_reason_only_once() -> None:
    report = calibrated_document()
    report["verdict"] |= {
        "reason": "so it is",
        "difference": "the raw rule says drifted, the calibrated one stable: so it is",
    }
    shown = rendered(report).shown
    assert "The raw rule says drifted, the calibrated one stable. In force: calibrated." in shown
    assert shown.count("so it is") == 1
    report["verdict"]["rule"] = "raw"
    assert "the calibrated one stable: so it is. In force: raw." in rendered(report).shown


def test_windows_are_dates_that_belong_to_them() -> None:
    shown = rendered(calibrated_document()).shown
    assert "26 March 2020 to 23 June 2020 (90 days)" in shown
    assert "24 June 2020 to 30 June 2020 (7 days)" in shown
    assert "1,800 rows" in shown


def test_too_few_rows_are_no_verdict() -> None:
    report = document(calm=(noise(N_REFERENCE), noise(40, seed=1)))
    page = rendered(report)
    assert "There is no verdict on growth: the current window has 40 rows" in page.shown
    assert "drifted" not in " ".join(page.said["tbody"])


def test_a_check_without_history_says_what_is_missing() -> None:
    page = rendered(document())
    assert "there are no rows before" in page.shown
    assert "This is the first check of this strategy" in page.shown


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
def test_undefined_statistics_are_dashes(value: float) -> None:
    report = document(
        odd=(np.full(N_REFERENCE, value), np.full(N_CURRENT, value)), calm=(noise(N_REFERENCE), noise(N_CURRENT))
    )
    page = rendered(report)
    assert "None" not in page.shown
    assert "nan" not in page.shown
    assert "–" in page.shown


def test_a_category_has_bars_and_its_largest_move_in_words() -> None:
    before = np.array(["tech", "food"] * (N_REFERENCE // 2), dtype=object)
    now = np.array(["tech", "tech", "tech", None] * (N_CURRENT // 4), dtype=object)
    page = rendered(document(sector=(before, now)))
    assert "food: 50 % before, 0 % now" in page.shown
    assert "(missing)" in page.shown
    assert "0 % → 25 %" in page.shown


@pytest.mark.parametrize(
    "key", ["distributions", "distances", "calibration", "feature_statistics", "findings", "targets"]
)
def test_a_report_of_an_earlier_version_is_rendered_with_what_it_has(key: str) -> None:
    report = calibrated_document()
    report.pop(key, None)
    report["data"].pop("psi_bands")
    assert "growth" in rendered(report).shown


def test_a_report_with_the_documented_keys_alone_is_rendered() -> None:
    documented = (
        "timestamp", "n_features", "n_samples_reference", "n_samples_current", "drift_threshold", "summary", "ks_test",
        "psi",
    )  # fmt: skip
    report = of_features("momentum", shift=3.0)
    shown = rendered({key: report[key] for key in documented}).shown
    assert "has drifted: 100% of the features moved by PSI; the alert threshold is 30%." in shown
    assert "momentum" in shown


def test_four_hundred_features_are_one_page_of_half_a_megabyte() -> None:
    names = [f"feature_with_a_long_name_{number:03}" for number in range(400)]
    report = of_features(*names, shift=0.3)
    days = [AS_OF - timedelta(days=back) for back in range(40, 70)]
    text = render_page(report, [dated(report, day, psi=0.3) for day in days])
    assert len(text.encode()) < 500_000
    page = parsed(text)
    assert len(page.named("article")) == PICTURES + MORE_PICTURES
    assert all(name in page.shown for name in names)


def test_a_part_that_the_page_never_heard_of_is_shown() -> None:
    report = document()
    report["data"]["sampling"] = {
        "rows": 100_000,
        "of": 4_000_000,
        "dkw_bound": 0.0043,
        "reference": {"is_sampled": True},
    }
    shown = rendered(report).shown
    assert "sampling · of 4,000,000" in shown
    assert "sampling · dkw bound 0.0043" in shown
    assert "sampling · reference · is sampled yes" in shown


def test_targets_and_predictions_stand_in_one_table() -> None:
    report = document()
    part = {
        "windows": report["windows"], "n_reference": 900, "n_current": 70, "ks_statistic": 0.31, "ks_p": 1e-9,
        "psi": 0.77, "wasserstein": 1.25, "jensen_shannon": None, "drifted_ks": True, "drifted_psi": True,
    }  # fmt: skip
    report["targets"] = {"target_return": part}
    report["predictions"] = {
        **part, "psi": 0.66, "version": "3", "positive_share": {"reference": 0.84, "current": 0.24}
    }  # fmt: skip
    shown = rendered(report).shown
    assert "target_return (moved)" in shown
    assert "predictions (moved)" in shown
    assert "0.77" in shown
    assert "0.66" in shown
    assert "prediction of champion v3" in shown
    assert "900 values, 84 % called positive" in shown
    assert "70 values, 24 % called positive" in shown
