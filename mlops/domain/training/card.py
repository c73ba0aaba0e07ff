"""The model card: what a version is, how good it is, and what it must not be used for.

Pure; called by the train stage and logged beside the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from mlops.domain.training.fold_table import fold_rows
from mlops.domain.training.judged_twin import SINCE_TAG, TWIN_TAG
from mlops.domain.training.metric_names import COUNTS
from mlops.domain.training.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from mlops.domain.frame import ColumnRole
    from mlops.domain.policies import PromotionPolicy, Strategy
    from mlops.domain.training.checks import TrainingChecks
    from mlops.domain.training.metrics import Evaluation
    from mlops.domain.training.splits import Split

_WHOSE = """\
The registered model is a refit: the code, parameters, seed and rounds of a judged twin, fitted on every row whose
label was known. Nothing has scored it, since no later date has a label. Accuracy, log loss and all other scores, the
gates, and the plots of the held-out dates are the twin's, which has seen nothing of those dates. Importance, SHAP
values, the model's size, the training rows by class and the drift profile are the refit's."""
_NOT_FOR = """\
- Other strategies, universes or horizons than those above: nothing here was measured on them.
- Sizing positions or forecasting returns: the probability speaks of the label only, and costs are not counted.
- Dates inside the training window: its scores there say nothing.
- Alone, where a person's credit, work or insurance is decided: it was made for securities."""


def model_card(
    strategy: Strategy,
    *,
    split: Split,
    evaluation: Evaluation,
    checks: TrainingChecks,
    tags: Mapping[str, str],
    as_of: date,
    columns: Sequence[ColumnRole] = (),
    registered: Split | None = None,
) -> str:
    """Write the model card in markdown.

    registered : whose training part a refitted version learnt from; None: it was judged itself
    """
    policy = strategy.training
    parameters = {
        "trainer": policy.trainer,
        "XGBoost": tags.get("xgboost_version", "not known"),
        "seed": policy.seed,
        **policy.params,
    }
    dates = {
        "as of": as_of,
        "last training date": split.last_train,
        "trained on": f"{split.first_train} to {split.last_train} ({split.n_train_dates} dates)",
        "held out": f"{split.first_holdout} to {split.last_holdout} ({split.n_holdout_dates} dates)",
        "purged rows between": split.n_purged,
        "label looks ahead": f"{policy.horizon_dates} dates",
        "embargo beside it": f"{policy.embargo_dates} dates",
    }
    if registered is not None:
        dates = _dates_of_both(dates, registered)
    if SINCE_TAG in tags:
        dates["learns from dates since"] = f"{tags[SINCE_TAG]}, where the relation of features and label changed"
    if "incremental" in tags:
        dates["continues"] = (
            f"version {tags['incremental']}, which with what it continues was trained from {tags['train_start']}; "
            f"{tags['total_rounds']} rounds in all, update {tags['incremental_updates']}"
        )
    if "tuning_trials" in tags:
        dates["tuned"] = (
            f"in {tags['tuning_trials']} trials on walk-forward folds of the training dates; "
            f"the promotion test counts each as a look"
        )
    sections = [
        f"# {strategy.model_name}",
        strategy.description,
        f"Predicts, for the strategy `{strategy.name}`, whether `{policy.label}`.",
        _WHOSE if registered is not None else "",
        "## Data",
        _table(("", ""), {**dates, "fingerprint": f"`{tags.get('data_fingerprint', 'not known')}`"}.items()),
        *_columns(columns),
        f"Warning: {tags['warning']}" if "warning" in tags else "",
        f"## Metrics{' of the judged twin' if registered is not None else ''} on the held-out dates",
        _metrics(evaluation),
        "\n".join(f"- {note}" for note in dict.fromkeys((*evaluation.notes, *checks.notes))),
        *_check_sections(checks, strategy),
        "## Gates",
        _table(("gate", "required"), gates_of(strategy.promotion).items()),
        "## Parameters",
        _table(("parameter", "value"), parameters.items()),
        *([] if registered is None else ["## The refit beside its twin", _beside(tags, strategy)]),
        "## Not to be used for",
        _NOT_FOR,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _dates_of_both(dates: Mapping[str, object], registered: Split) -> dict[str, object]:
    """Dates of the judged twin under its name, after those of the registered model."""
    learnt = f"{registered.first_train} to {registered.last_train} ({registered.n_train_dates} dates)"
    renamed = {"last training date": "judged twin's last training date", "trained on": "judged twin trained on",
               "held out": "held out of the twin"}  # fmt: skip
    given = dict(dates)
    return {
        "as of": given.pop("as of"),
        "last training date": registered.last_train,
        "trained on": learnt,
        **{renamed.get(name, name): value for name, value in given.items()},
    }


def _beside(tags: Mapping[str, str], strategy: Strategy) -> str:
    rows = {
        "judged twin, SHA-256 of its file": f"`{tags[TWIN_TAG]}`",
        "distance of the refit from it, in its spread": f"{float(tags['refit_distance']):.2f}",
        "more than this blocks promotion": f"{strategy.findings.refit_distance:.2f}",
    }
    return _table(("", ""), rows.items())


def _columns(columns: Sequence[ColumnRole]) -> list[str]:
    if not columns:
        return []
    rows = [(f"`{one.name}`", f"{one.role}: {one.reason}" if one.reason else one.role) for one in columns]
    return ["## Columns of the feature view", _table(("column", "used as"), rows)]


def _check_sections(checks: TrainingChecks, strategy: Strategy) -> list[str]:
    """Sections on what was checked beside the held-out metrics; empty texts for what was not."""
    split, accepted = checks.random_split, strategy.promotion.accepted_findings
    findings = [
        f"- `{found.code}`: {found.words}" + (" (accepted)" if found.code in accepted else "")
        for found in checks.findings
    ]
    return [
        "## Stability over walk-forward folds" if checks.folds else "",
        _grid(fold_rows(checks.folds)) if checks.folds else "",
        "\n".join(f"- fold {score.fold} has no score: {score.note}" for score in checks.folds if score.note),
        "## The documented random split" if split else "",
        split.words(bound=strategy.findings.random_split_gap) if split else "",
        "## Findings",
        "\n".join(findings) or "Nothing that looks too good to be true, old or incomplete was found.",
        "A finding blocks promotion until `promotion.accepted_findings` names it." if findings else "",
    ]


def gates_of(policy: PromotionPolicy) -> dict[str, str]:
    """Describe the gates that are applied."""
    gates = {
        "accuracy": policy.min_accuracy,
        "roc_auc": policy.min_roc_auc,
        "lift_over_majority": policy.min_lift_over_majority,
        "f1_score": policy.min_f1,
    }
    applied = {
        name: f"at {'most' if name in LOWER_IS_BETTER else 'least'} {value:.4f}"
        for name, value in (gates | policy.gates).items()
        if value is not None
    }
    if policy.comparison == "gates":
        return applied
    asked = f"better by {policy.margin:g} with probability {policy.confidence:g} on the same dates"
    return applied | {f"{policy.main_metric} against the champion": asked}


def _metrics(evaluation: Evaluation) -> str:
    found = evaluation.metrics
    rows = {name: f"{value:,.0f}" if name in COUNTS else f"{value:.4f}" for name, value in found.items()}
    if {"accuracy", "majority_accuracy", "holdout_majority_accuracy"} <= found.keys():
        rows["accuracy"] += (
            f" (always the majority class: {found['majority_accuracy']:.4f},"
            f" with hindsight {found['holdout_majority_accuracy']:.4f})"
        )
    return _table(("metric", "value"), rows.items())


def _grid(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _table(header: tuple[str, str], rows: Iterable[tuple[str, object]]) -> str:
    lines = [f"| {header[0]} | {header[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)])
