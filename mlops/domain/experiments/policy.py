"""What a strategy asks of its experiments and of the versions that come out of them; values of `strategies.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
_Excess = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class GuardrailPolicy:
    """How much worse than the champion a version may answer before it is stopped, apart from any test of its worth."""

    error_rate: _Excess = 0.01
    """Answers that failed, less the champion's share of them."""
    latency_ratio: Annotated[float, Field(gt=1, le=1_000, allow_inf_nan=False)] = 3.0
    """95th percentile of the time to answer, over the champion's."""
    positive_share: _Excess = 0.75
    """Difference of the shares of answers that are called positive. Sound models of the sample, trained a year apart,
    come to 0.2 to 0.4 at some time of the next year in the median, and to 0.6 in one of twenty; one with its features
    mixed up to 0.9 in the median, and to 0.7 in all but one of twenty (docs/statistics.md)."""
    calibration: _Excess = 0.30
    """Mean probability less the share of positive outcomes, without its sign, less the champion's. Of the same models
    0.02 to 0.03, 0.14 in one of twenty, and 0.2 in all but one of twenty."""
    missing_features: _Excess = 0.05
    """Share of missing values among the features that the version reads, less the champion's."""
    min_answers: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    """Answers that a guardrail needs before it says anything."""


@dataclass(frozen=True, kw_only=True)
class ExperimentPolicy:
    """Defaults of a strategy's experiments, the watch over its newest champion, and who is asked before a switch."""

    alpha: Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)] = 0.05
    """Probability with which an experiment between equally good versions ever decides for either."""
    sharpe: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 3.5
    """Annual Sharpe ratio of the difference that an experiment is planned to find."""
    deadline_days: Annotated[int, Field(ge=5, le=2_520)] = 252
    """Trading days after which an experiment that has not decided ends, and the champion stays."""
    steps: tuple[_Share, ...] = (0.01, 0.05, 0.25, 1.0)
    """Shares of the keys that a canary's challenger answers, one after the other."""
    min_days_on_step: Annotated[int, Field(ge=1, le=252)] = 5
    """Scored trading days on a canary's step before the next."""
    watched_former: Annotated[int, Field(ge=0, le=5)] = 0
    """Former champions that go on predicting beside a new one, so that it can be shown to be worse than one of them.
    0: none; switch it on once every worker knows this value."""
    watch_days: Annotated[int, Field(ge=5, le=504)] = 60
    """Trading days for which they do, from each promotion."""
    rollback: Literal["off", "ask", "automatic"] = "ask"
    """What follows where the champion is shown worse than a former one, or breaks a guardrail beside it. A person is
    asked with `automatic` too where it breaks that of positive calls, error rate or latency alone."""
    rollback_cooldown_days: Annotated[int, Field(ge=1, le=504)] = 20
    """Trading days after an automatic rollback in which another one is a person's to make."""
    switch_hook: Annotated[str, Field(pattern=r"^(|https?://\S+|task:[A-Za-z0-9_.]+)$")] = ""
    """Asked before an experiment promotes its challenger and before an automatic rollback, not before a training that
    passed its test is promoted: a URL that is posted to, or `task:NAME`, a Celery task of yours. Empty: nobody."""
    switch_timeout_s: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 10.0
    """Waited for its answer."""
    switch_default: Literal["wait", "switch"] = "wait"
    """What holds without an answer: ask again at the next scoring, or go on."""

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if not self.steps or any(a >= b for a, b in pairwise(self.steps)):
            raise ValueError(f"steps are ascending shares, one at least (found {list(self.steps)})")
        return self

    @model_validator(mode="after")
    def _check_switch_hook(self) -> Self:
        try:
            _ = urlsplit(self.switch_hook).port
        except ValueError as exc:
            raise ValueError(f"switch_hook is no address: {str(exc).lower()}; give http(s)://HOST:PORT/PATH") from exc
        return self
