from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from mlops.ledger.columns import Timestamp, dump_json

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_nan_and_infinities_become_null() -> None:
    assert dump_json({"a": [float("nan"), float("inf"), -float("inf"), 1.5]}) == '{"a": [null, null, null, 1.5]}'


def test_nul_characters_are_replaced() -> None:
    assert json.loads(dump_json({"a\x00": "b\x00c"})) == {"a\ufffd": "b\ufffdc"}


@given(_json)
def test_every_json_value_is_stored_as_strict_json(value: object) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = dump_json(value)
    json.loads(text, parse_constant=refuse)
    assert "\\u0000" not in text.replace("\\\\u0000", "")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Timestamp().process_bind_param(datetime(2026, 1, 1), postgresql.dialect())  # noqa: DTZ001 -- the refused case


def test_times_come_back_in_utc() -> None:
    noon_in_tokyo = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=9)))
    assert Timestamp().process_result_value(noon_in_tokyo, postgresql.dialect()) == datetime(2026, 1, 1, 3, tzinfo=UTC)
