"""Feature names as XGBoost takes them. It refuses `[`, `]` and `<`, which columns of a feature view may hold.

Such a name stands percent-encoded in the model file (`ret[5]` as `ret%5B5%5D`), every other one as it is. Called
wherever a name goes into XGBoost or comes out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xgboost as xgb

_REFUSED = {"[": "%5B", "]": "%5D", "<": "%3C"}
#: A per cent sign is encoded only where it would be taken for one of ours, so that `chg%` stays as it is.
_ENCODE = re.compile(r"[\[\]<]|%(?=25|5B|5D|3C)")
_DECODE = re.compile(r"%(25|5B|5D|3C)")


def _encoded_name(name: str) -> str:
    """The name as the model file has it."""
    return _ENCODE.sub(lambda found: _REFUSED.get(found.group(), "%25"), name)


def encoded_names(names: Iterable[str]) -> list[str]:
    """The names as the model file has them, in order."""
    return [_encoded_name(name) for name in names]


def feature_names(booster: xgb.Booster) -> tuple[str, ...] | None:
    """The names of the view's columns that a model was trained on; None where it does not say them."""
    if not booster.feature_names:
        return None
    return tuple(_DECODE.sub(lambda found: chr(int(found.group(1), 16)), name) for name in booster.feature_names)
