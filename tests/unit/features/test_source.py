"""A feature source of one's own, named as `package.module:function`."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.domain.errors import ConfigurationError, SourceUnavailable
from mlops.features.source import open_source
from tests.support.features import InMemoryFeatures
from tests.support.services import panel


def own(*, relation: str, time_zone: str) -> InMemoryFeatures:
    assert (relation, time_zone) == ("quant.view", "Asia/Tokyo")
    return InMemoryFeatures(panel())


def without_keywords() -> None:
    """Takes nothing."""


def nothing(**_: Any) -> None:
    """Gives no source."""


def away(**_: Any) -> None:
    raise SourceUnavailable("the store is away")


def test_it_is_called_with_the_relation_and_the_time_zone() -> None:
    source = open_source(f"{__name__}:own", relation="quant.view", time_zone="Asia/Tokyo")
    assert isinstance(source, InMemoryFeatures)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("desk.nowhere:features", "cannot be opened .ModuleNotFoundError: No module named 'desk'"),
        (f"{__name__}:missing", "cannot be opened .AttributeError"),
        (f"{__name__}:without_keywords", "take the keywords relation and time_zone"),
        (f"{__name__}:nothing", "gave a NoneType without columns, latest_date"),
    ],
)
def test_one_that_cannot_be_had_is_refused_with_the_reason(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        open_source(name)


def test_an_error_of_ours_is_raised_as_it_is() -> None:
    with pytest.raises(SourceUnavailable, match="the store is away"):
        open_source(f"{__name__}:away")
