"""The date as of which a run decides."""

from __future__ import annotations

from datetime import date

from mlops.domain.errors import EmptyWindow
from mlops.domain.panel import newest_counted
from mlops.domain.policies import Strategy
from mlops.domain.ports import FeatureSource


def resolve_as_of(asked: date | None, strategy: Strategy, source: FeatureSource, *, today: date) -> date:
    """The date that was asked for, else what the policy says. Raises EmptyWindow where `latest` has no rows.

    today : of the features' time zone. `latest` is the newest date that counts (`mlops.domain.panel`)
    """
    if asked is not None:
        return asked
    if strategy.data.as_of == "today":
        return today
    newest = newest_counted(source, strategy.name, min_share=strategy.data.min_date_share, today=today)
    if newest is None:
        message = (
            f"strategy {strategy.name!r} has no rows in the feature view; load its features, "
            f"or check the view's column `strategy`"
        )
        raise EmptyWindow(message)
    return newest
