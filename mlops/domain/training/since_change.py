"""A training on the dates since the relation of features and label changed: how many it needs, and how they are split.

Pure; called by the drift stage, which opens such a training when newly known labels say so, and by the train stage.

    change at | dates to train on | h - 1 purged | held-out dates | h dates whose label is not known yet

The purge is the label's horizon as ever. What is short is all else: there is no embargo, and the dates that are left
are shared between training and judgement until they are enough for the policy's own split.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mlops.domain.policies import TrainingPolicy

_LEAST_OF_HORIZON, _LEAST_DATES = 0.8, 10
"""Dates to train and to judge on, together: of the label's horizon, and at the least. 16 for a label of 20 dates."""
_HELD_OUT_SHARE = 0.6
"""Of those: few dates teach a new relation that replaced an old one, and each held-out date is one more to test on."""
_ROUNDS_SHARE = 0.3
"""Of the policy's boosting rounds: of a few hundred rows the rest would be learnt by heart. At a rate of .1, 30 rounds
have gone all but .9 ** 30 = 4 % of their way."""
_DEFAULT_ROUNDS = 100
"""XGBoost's own, of a policy that names none."""
_MORE = 1 / 8
"""A challenger that was refused is followed by another when so many more dates have labels."""


def least_dates(horizon_dates: int) -> int:
    """Labelled dates since a change with which a training begins: 35 for a label of 20 dates.

    >>> least_dates(20), least_dates(5), least_dates(0)
    (35, 14, 10)
    """
    return max(1, horizon_dates) - 1 + max(_LEAST_DATES, round(_LEAST_OF_HORIZON * horizon_dates))


def next_dates(n_dates: int) -> int:
    """Labelled dates since a change at which a training follows one with `n_dates` whose challenger was refused.

    >>> next_dates(35), next_dates(40)
    (40, 45)
    """
    return n_dates + max(1, math.ceil(_MORE * n_dates))


def policy_since(policy: TrainingPolicy, *, n_labelled: int) -> TrainingPolicy:
    """Return the policy of a training on `n_labelled` labelled dates since a change.

    The same where they are enough for it with as many to train on as are held out; else held-out dates, boosting rounds
    and what would need a longer history are cut, and the label's horizon is purged as ever.
    """
    if n_labelled >= 2 * policy.holdout_dates + policy.horizon_dates + policy.embargo_dates:
        return policy
    left = max(2, n_labelled - max(1, policy.horizon_dates) + 1)
    rounds = policy.params.get("n_estimators", _DEFAULT_ROUNDS if policy.trainer == "xgboost" else None)
    fewer = {} if not isinstance(rounds, int) else {"n_estimators": max(1, round(_ROUNDS_SHARE * rounds))}
    return replace(
        policy,
        params={**policy.params, **fewer},
        holdout_dates=max(1, min(policy.holdout_dates, round(_HELD_OUT_SHARE * left))),
        embargo_dates=0,
        folds=0,
        leak_check=False,
        early_stopping_rounds=None,
    )
