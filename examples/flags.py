"""A backend that asks OpenFeature which version answers a customer, as it asks for its other flags.

Needs the extra `openfeature` of this package.
"""

from __future__ import annotations

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext

from mlops.serving.openfeature import RoutingProvider


def make_client(*strategies: str) -> OpenFeatureClient:
    """Give a client whose flags are the strategies; routers follow the ledger here until `api.shutdown()`."""
    api.set_provider(RoutingProvider.open(*strategies), "acis")
    return api.get_client("acis")


def version_of(strategy: str, customer: str, client: OpenFeatureClient) -> tuple[str | None, str | None]:
    """Version that answers the customer, and `champion` or `challenger`; None of both where nothing can be told."""
    found = client.get_string_details(strategy, "", EvaluationContext(targeting_key=customer))
    return (None, None) if found.error_code else (found.value, found.variant)
