"""Which version answers, through OpenFeature: for a backend that asks its flags there already.

    api.set_provider(RoutingProvider.open("growth"))
    api.get_client().get_string_details("growth", "", EvaluationContext(targeting_key="AAPL"))

Needs the extra `openfeature`. A flag's key is a strategy, the targeting key is the key that `predict_one` is given:

    string   version that answers the key       variant   champion or challenger
    object   `ExplainedRoute` as a mapping      reason    SPLIT while keys are divided, else STATIC

Errors are OpenFeature's: FLAG_NOT_FOUND for an unknown strategy, TARGETING_KEY_MISSING while keys are divided and none
is given, TYPE_MISMATCH for other types, PROVIDER_NOT_READY where nothing answers; its client gives the default then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

from openfeature.exception import (
    FlagNotFoundError,
    InvalidContextError,
    ProviderNotReadyError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

from mlops.domain.errors import AcisError, InvalidRows
from mlops.serving.router import ModelRouter

if TYPE_CHECKING:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagValueType

    from mlops.serving.routes import ExplainedRoute

_Value = TypeVar("_Value")


class RoutingProvider(AbstractProvider):
    """Resolves each strategy's flag from the router in this process, without a question to any server."""

    def __init__(self, routers: Mapping[str, ModelRouter]) -> None:
        """routers: by strategy; they stay the caller's, who closes them."""
        super().__init__()
        self._routers = routers
        self._opened = ExitStack()

    @classmethod
    def open(cls, *strategies: str) -> Self:
        """Open a router for each strategy, which the SDK's shutdown closes. Raises what `ModelRouter` raises."""
        with ExitStack() as opened:
            found = cls({strategy: opened.enter_context(ModelRouter(strategy)) for strategy in strategies})
            found._opened = opened.pop_all()
            return found

    def shutdown(self) -> None:
        """Close the routers that `open` opened; called by the SDK when it lets go of the provider."""
        self._opened.close()

    def get_metadata(self) -> Metadata:
        """Give the provider's name."""
        return Metadata(name="acis")

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Give the version that answers the targeting key."""
        del default_value
        route = self._route(flag_key, evaluation_context)
        return _details(route.version, route)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Give the version with why it answers: what of `ExplainedRoute` has a value."""
        del default_value
        route = self._route(flag_key, evaluation_context)
        told: Mapping[str, FlagValueType] = {name: value for name, value in vars(route).items() if value is not None}
        return _details(told, route)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 -- the SDK's own
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Raise TypeMismatchError: a version is no boolean."""
        del default_value, evaluation_context
        self._refuse_type(flag_key)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Raise TypeMismatchError: a version is a text."""
        del default_value, evaluation_context
        self._refuse_type(flag_key)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Raise TypeMismatchError: a version is a text."""
        del default_value, evaluation_context
        self._refuse_type(flag_key)

    def _route(self, strategy: str, context: EvaluationContext | None) -> ExplainedRoute:
        key = context.targeting_key if context is not None else None
        try:
            route = self._router(strategy).explain_route(key)
        except InvalidRows as exc:
            raise InvalidContextError(str(exc)) from exc
        except AcisError as exc:
            raise ProviderNotReadyError(str(exc)) from exc
        if route.is_split and not key:
            message = f"experiment {route.experiment} of {strategy!r} divides its keys; give one as targeting key"
            raise TargetingKeyMissingError(message)
        return route

    def _router(self, strategy: str) -> ModelRouter:
        router = self._routers.get(strategy)
        if router is None:
            raise FlagNotFoundError(f"strategy {strategy!r} has no router here; one of: {', '.join(self._routers)}")
        return router

    def _refuse_type(self, strategy: str) -> NoReturn:
        self._router(strategy)
        message = f"the flag of {strategy!r} is a version: ask for a string, or for an object with why it answers"
        raise TypeMismatchError(message)


def _details(value: _Value, route: ExplainedRoute) -> FlagResolutionDetails[_Value]:
    told: dict[str, bool | int | float | str] = {"share": route.share, "sha256": route.sha256, "why": route.reason}
    if route.experiment is not None:
        told["experiment"] = route.experiment
    return FlagResolutionDetails(
        value=value,
        variant=route.variant,
        reason=Reason.SPLIT if route.is_split else Reason.STATIC,
        flag_metadata=told,
    )
