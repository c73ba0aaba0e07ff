from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.training.fingerprint import canonical_json, data_fingerprint, evidence_digest

X = np.array([[1.5, np.nan], [0.0, 2.0]], dtype=np.float32)
Y = np.array([0, 1], dtype=np.int8)
DATES = np.array(["1970-01-02", "1970-01-03"], dtype="datetime64[D]")


def fingerprint(**changes: Any) -> str:
    given = {"x": X, "y": Y, "dates": DATES, "features": ("a", "b")} | changes
    return data_fingerprint(**given)


def test_it_is_the_digest_of_the_documented_bytes() -> None:
    header = '{"features":["a","b"],"layout":"float32 int8 day","shape":[2,2]}'
    rows = bytes.fromhex("0000c03f 0000c07f 00000000 00000040")  # 1.5, nan, 0, 2 as little-endian float32
    labels = bytes([0, 1])
    days = bytes([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    assert fingerprint() == hashlib.sha256(header.encode() + rows + labels + days).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"x": X + np.float32(1e-6)},
        {"y": Y[::-1]},
        {"dates": DATES + np.timedelta64(1, "D")},
        {"features": ("b", "a")},
        {"x": X.reshape(1, 4), "features": ("a", "b")},
    ],
)
def test_any_change_of_the_data_changes_it(change: dict[str, Any]) -> None:
    assert fingerprint(**change) != fingerprint()


def test_memory_layout_and_kinds_of_nan_and_zero_do_not_matter() -> None:
    other_nan = np.frombuffer(bytes.fromhex("0000c0ff"), dtype="<f4")[0]  # the negative quiet nan
    same = np.asfortranarray(np.array([[1.5, other_nan], [-0.0, 2.0]], dtype=np.float32))
    assert fingerprint(x=same, dates=DATES.astype("datetime64[ns]")) == fingerprint()


def test_the_matrix_itself_is_left_alone() -> None:
    x = np.array([[-0.0]], dtype=np.float32)
    data_fingerprint(x, Y[:1], DATES[:1], features=("a",))
    assert np.signbit(x[0, 0])


def test_evidence_digests_do_not_depend_on_order_or_containers() -> None:
    one = {"a": 1, "b": (1.0, np.float64(0.5)), "c": {"d": date(2020, 1, 2)}, "e": np.array([True])}
    other = {"c": {"d": "2020-01-02"}, "b": [1, 0.5], "a": 1.0, "e": [True]}
    assert evidence_digest(one) == evidence_digest(other)
    assert evidence_digest(one) != evidence_digest({**one, "a": 2})


def test_nan_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"auc": float("nan")})


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.dictionaries(st.text(), _JSON, max_size=5))
def test_a_digest_survives_storage_as_json(evidence: dict[str, Any]) -> None:
    assert evidence_digest(json.loads(json.dumps(evidence))) == evidence_digest(evidence)
