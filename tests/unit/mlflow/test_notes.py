"""What MLflow's pages show of a training: few tags, and a description that says what was decided."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mlops.registry.entities import IN_RECORD, MAX_RECORD, RECORD_TAG, packed, unpacked
from mlops.registry.notes import decided, linked, table

NAMES = st.sampled_from(
    sorted(IN_RECORD | {"strategy", "findings", "train_end", "acis.run_id", "acis.reasons", "acis.actor"})
)


@given(st.dictionaries(NAMES, st.text(max_size=4000)))
def test_every_tag_is_read_as_it_was_given(tags: dict[str, str]) -> None:
    written = packed(tags)
    assert unpacked(written) == tags
    assert len(written.get(RECORD_TAG, "")) <= MAX_RECORD


def test_what_people_and_other_releases_read_stays_a_tag_and_the_rest_is_one() -> None:
    tags = {"strategy": "growth", "acis.run_id": "r", "train_end": "2020-01-02", "fit_s": "1.0", "n_train": "9"}
    assert packed(tags) == {
        "strategy": "growth",
        "acis.run_id": "r",
        "train_end": "2020-01-02",
        RECORD_TAG: '{"n_train": "9", "fit_s": "1.0"}',
    }


def test_tags_of_an_earlier_release_are_read_as_they_are() -> None:
    assert unpacked({"fit_s": "1.0", "strategy": "growth"}) == {"fit_s": "1.0", "strategy": "growth"}


def test_a_decision_of_today_holds_beside_the_tags_that_an_earlier_release_left() -> None:
    tags = {"acis.reasons": "old", **packed({"acis.reasons": "new", "acis.actor": "anna"})}
    assert unpacked(tags) == {"acis.reasons": "new", "acis.actor": "anna"}


def test_a_record_that_a_hand_has_broken_hides_no_other_tag() -> None:
    assert unpacked({RECORD_TAG: "{", "strategy": "growth"}) == {"strategy": "growth"}
    assert unpacked({RECORD_TAG: json.dumps([1]), "strategy": "growth"}) == {"strategy": "growth"}


def test_a_later_decision_replaces_what_an_earlier_one_said() -> None:
    refused = {"acis.decision": "refuse", "acis.reasons": "accuracy; lift", "acis.actor": "policy"}
    first = decided("trained", refused, "Archived")
    assert first == "trained\n\n---\n**Refused**, by policy; stage Archived\n\n- accuracy\n- lift"
    then = decided(first, {"acis.decision": "rollback", "acis.reasons": "", "acis.actor": "anna"}, "Production")
    assert then.startswith("trained\n\n---\n**Made the champion again**, by anna; stage Production")
    assert "Refused" not in then


def test_a_description_leads_to_the_run_where_the_page_is_known() -> None:
    assert "(https://h/admin/runs/r1)" in linked("n", "https://h/admin/", "r1")
    assert linked("n", None, "r1").endswith("`acis runs r1`")


def test_a_table_is_markdown() -> None:
    assert table(("a", "b"), (1, "x")) == "| a | b |\n| --- | --- |\n| 1 | x |"
