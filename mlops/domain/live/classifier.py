"""XGBClassifier that prepares its rows as training does: infinities are missing.

What the registry loads is one. The file is shipped beside each logged model with `rows`, as package `acis_model`, and
MLflow's own loaders use it, where this project is not installed: so it imports numpy, XGBoost and `rows` alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost as xgb

from .rows import prepare_rows


class XGBClassifier(xgb.XGBClassifier):  # type: ignore[misc]  # the library's base is untyped
    """A classifier whose predictions take an infinity, or a number too large for a float32, as missing."""

    def predict(self, X: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N803 -- the library's signature
        """Return the class of each row; arguments of XGBoost's own method."""
        return super().predict(_prepared(X), *args, **kwargs)

    def predict_proba(self, X: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N803 -- the library's signature
        """Return (n, 2) probabilities; arguments of XGBoost's own method."""
        return super().predict_proba(_prepared(X), *args, **kwargs)

    def apply(self, X: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N803 -- the library's signature
        """Return the leaf of each row in each tree; arguments of XGBoost's own method."""
        return super().apply(_prepared(X), *args, **kwargs)


def _prepared(x: Any) -> Any:  # noqa: ANN401 -- whatever XGBoost takes
    """Prepare arrays, lists and frames; anything else, a sparse matrix say, goes to XGBoost as it is."""
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):  # pandas
        return type(x)(prepare_rows(x.to_numpy(dtype=np.float64)), columns=x.columns, index=x.index)
    return prepare_rows(x) if isinstance(x, np.ndarray | list | tuple) else x
