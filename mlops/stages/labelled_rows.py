"""A strategy's rows with labels, as they were known on a date.

Read by the train stage, and again by promotion to score both models on the same held-out dates.
"""

from __future__ import annotations

import ctypes
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mlops.domain.columns import mark_row_numbers
from mlops.domain.errors import EmptyWindow, InsufficientData, MissingColumn, UnusableFeatures
from mlops.domain.frame import ColumnRole, column_roles, equal_values, repeated_keys, select_features
from mlops.domain.labels import impossible, is_return, label_numbers, parse_label
from mlops.domain.panel import counted_dates
from mlops.domain.sampling import RowMarks
from mlops.domain.training.matrix import FeatureMatrix
from mlops.domain.training.splits import known_labels, newest_training_days, split_by_date
from mlops.domain.windows import training_window

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlops.domain.labels import Label
    from mlops.domain.panel import Panel
    from mlops.domain.policies import Strategy, TrainingPolicy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.training.splits import Split

#: Examples in a message.
_SHOWN = 3
_NO_LABELS, _NO_DATES, _NO_RETURNS = np.empty(0, dtype=np.int8), np.empty(0, dtype="datetime64[D]"), np.empty(0)


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """A strategy's rows with labels, as of a date: one per ticker and date, of the dates that count."""

    x: FeatureMatrix
    """(n, f) float32, infinities and nulls are nan; `x[mask]` is an array of those rows"""
    y: npt.NDArray[np.int8]
    """(n,); 0 where `known` is False"""
    known: npt.NDArray[np.bool_]
    """(n,) the label was known on the as-of date"""
    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    marks: npt.NDArray[np.uint32]
    """(n,) of ticker and date (`features.sampling`): whoever looks at some of the rows takes those with the smallest"""
    target_return: npt.NDArray[np.float64] | None
    """(n,) nan where not known or impossible"""
    features: tuple[str, ...]
    columns: tuple[ColumnRole, ...] = ()
    """What each column of the view is used for"""
    label_target: npt.NDArray[np.float64] | None = None
    """(n,) the label's own column, nan where not known; None where it is a feature, which is found otherwise"""
    panel: Panel
    """Dates that count, and those that were left out"""
    notes: tuple[str, ...] = ()
    """What a person should know of the rows"""


def read_labelled(
    source: FeatureSource, strategy: Strategy, *, as_of: date, features: tuple[str, ...] | None = None
) -> LabelledRows:
    """Rows of the training window.

    Raises EmptyWindow, MissingColumn, SourceUnavailable; UnusableFeatures where a ticker and date repeat, or too many
    returns are impossible.
    """
    label = parse_label(strategy.training.label)
    columns = source.columns()
    if features is None:
        columns = mark_row_numbers(source, strategy.name, columns, strategy.data, as_of=as_of)
    names = {column.name for column in columns}
    chosen = features or select_features(columns, strategy.data)
    missing = sorted({*label.columns, *chosen} - names)
    if missing:
        message = f"the feature view lacks {', '.join(missing)}; it is needed by {strategy.training.label!r} or a model"
        raise MissingColumn(message)
    texts = [
        f"{column.name} ({column.kind})" for column in columns if column.name in chosen and column.kind != "number"
    ]
    if texts:
        message = (
            f"{', '.join(texts)} cannot be trained on; make a number of it in the view, or leave it out of data.include"
        )
        raise UnusableFeatures(message)
    window = training_window(as_of, strategy.training)
    counted = counted_dates(source, strategy.name, window, min_share=strategy.data.min_date_share)
    extra = sorted({*label.columns, *({"target_return"} & names)} - set(chosen))
    columns_read = ["ticker", "date", *chosen, *extra]
    reader = _Reader(strategy, label, chosen, has_return="target_return" in names)
    with closing(counted.read_batches(strategy.name, window, columns_read)) as batches:
        for batch in batches:
            reader.take(batch)
    rows = reader.rows(counted.panel)
    if not len(rows.x):
        message = (
            f"strategy {strategy.name!r} has no rows after {window.start} up to {window.end}; "
            f"load its features, or give another --as-of"
        )
        raise EmptyWindow(message)
    if not rows.x.is_in_memory:
        del reader, batch  # each column once more, in pieces
        _release_freed()
    in_time = known_labels(rows.dates, rows.dates, as_of=as_of, horizon_dates=strategy.training.horizon_dates)
    return replace(rows, known=rows.known & in_time, columns=column_roles(columns, strategy.data))


def _release_freed() -> None:
    """Return to the system what reading has freed: a third of the matrix, which the fits would stand beside."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library alone
    if trim is not None:
        trim(0)


class _Reader:
    """Gathers rows batch by batch, in the order of date and ticker."""

    def __init__(self, strategy: Strategy, label: Label, features: tuple[str, ...], *, has_return: bool) -> None:
        self._strategy, self._label, self._features, self._has_return = strategy, label, features, has_return
        self._x = FeatureMatrix(len(features))
        self._y, self._known, self._dates = [_NO_LABELS], [_NO_LABELS.astype(bool)], [_NO_DATES]
        self._marks, self._returns, self._targets = [np.empty(0, dtype=np.uint32)], [_NO_RETURNS], [_NO_RETURNS]
        self._hash = RowMarks()
        self._last: pa.Table | None = None
        self._n_dropped = 0
        judged = [*label.columns, *(["target_return"] if has_return else [])]
        self._impossible = {name: _Impossible(name, strategy.data.return_bounds) for name in dict.fromkeys(judged)}

    def take(self, batch: pa.RecordBatch) -> None:
        """The next rows. Raises UnusableFeatures where a ticker and date repeat."""
        table = self._once(pa.Table.from_batches([batch]))
        if not table.num_rows:
            return
        dates = table.column("date").to_numpy().astype("datetime64[D]")
        gone = {name: found.in_rows(table) for name, found in self._impossible.items()}
        y, has_value = self._label.evaluate(table)
        for name in self._label.columns:
            has_value &= ~gone[name]
        self._x.append(_matrix(table, self._features))
        self._y.append(np.where(has_value, y, np.int8(0)))
        self._known.append(has_value)
        self._dates.append(dates)
        self._marks.append(self._hash.of(table.column("ticker").combine_chunks(), dates).astype(np.uint32))
        if self._label.column not in (*self._features, "target_return"):
            self._targets.append(np.where(gone[self._label.column], np.nan, _column(table, self._label.column)))
        if self._has_return:
            self._returns.append(np.where(gone["target_return"], np.nan, _column(table, "target_return")))

    def rows(self, panel: Panel) -> LabelledRows:
        """All of them; `known` says where the label has a value. Raises UnusableFeatures."""
        most = self._strategy.data.max_bad_returns
        notes = [found.words(most) for found in self._impossible.values()]
        if self._n_dropped:
            notes.append(f"{self._n_dropped} rows that repeat another one of their ticker and date count once")
        returns = np.concatenate(self._returns) if self._has_return else None
        target = returns if self._label.column == "target_return" else np.concatenate(self._targets)
        return LabelledRows(
            x=self._x,
            y=np.concatenate(self._y),
            known=np.concatenate(self._known),
            dates=np.concatenate(self._dates),
            marks=np.concatenate(self._marks),
            target_return=returns,
            features=self._features,
            label_target=None if self._label.column in self._features else target,
            panel=panel,
            notes=tuple(note for note in notes if note),
        )

    def _once(self, table: pa.Table) -> pa.Table:
        """The rows whose ticker and date are new; the others are dropped where the policy allows it."""
        if not table.num_rows:
            return table
        n_before = 0
        if self._last is not None:
            n_before, table = 1, pa.concat_tables([self._last, table])
        # The slice alone would keep the batch, and taking from all of it would copy it.
        self._last = table.slice(table.num_rows - 1).take(pa.array([0]))
        repeats = _repeats(table, self._strategy)
        if not len(repeats):
            return table.slice(n_before)
        kept = np.ones(table.num_rows, dtype=np.bool_)
        kept[repeats] = False
        kept[:n_before] = False
        self._n_dropped += len(repeats)
        return table.filter(pa.array(kept))


def rows_once(table: pa.Table, strategy: Strategy) -> pa.Table:
    """Rows ordered by date and ticker, one of each. Raises UnusableFeatures where the policy allows no repetition."""
    if not table.num_rows:
        return table
    kept = np.ones(table.num_rows, dtype=np.bool_)
    kept[_repeats(table, strategy)] = False
    return table if kept.all() else table.filter(pa.array(kept))


def _repeats(table: pa.Table, strategy: Strategy) -> npt.NDArray[np.intp]:
    """Places of rows whose ticker and date are those of the row before, and that may be dropped."""
    repeats = np.flatnonzero(repeated_keys(table).to_numpy(zero_copy_only=False)) + 1
    if len(repeats):
        now, before = table.take(pa.array(repeats)), table.take(pa.array(repeats - 1))
        same = [equal_values(now.column(name), before.column(name)).to_numpy() for name in table.column_names]
        if strategy.data.duplicate_rows == "refuse" or not np.logical_and.reduce(same).all():
            raise UnusableFeatures(_repeated(strategy, now))
    return repeats


class _Impossible:
    """Values of a label's column that are no label."""

    def __init__(self, column: str, bounds: tuple[float, float]) -> None:
        self._column, self._bounds = column, bounds
        self._n_there = self._n = 0
        self._shown: list[str] = []

    def in_rows(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """(n,) which rows have one."""
        values = label_numbers(table, self._column)
        found = impossible(self._column, values, bounds=self._bounds)
        self._n_there += int(np.count_nonzero(~np.isnan(values)))
        self._n += int(np.count_nonzero(found))
        for place in np.flatnonzero(found)[: _SHOWN - len(self._shown)].tolist():
            ticker, day = (table.column(name)[place].as_py() for name in ("ticker", "date"))
            self._shown.append(f"{ticker} {day} {values[place]:g}")
        return found

    def words(self, most: float) -> str:
        """Empty where there is none. Raises UnusableFeatures where more than the share `most` is impossible."""
        if not self._n:
            return ""
        low, high = self._bounds
        limits = f"infinite or outside {low:g} to {high:g}" if is_return(self._column) else "infinite"
        found = (
            f"{self._n} of {self._n_there} values of {self._column} are {limits} and no labels: "
            f"{', '.join(self._shown)}{', …' if self._n > len(self._shown) else ''}"
        )
        if self._n > most * self._n_there:
            raise UnusableFeatures(
                f"{found}; more than the {most:.1%} of them that data.max_bad_returns allows: correct the prices that "
                f"they were computed from, or set data.return_bounds where the returns are no simple ones"
            )
        return found


def _repeated(strategy: Strategy, rows: pa.Table) -> str:
    keys = [f"{ticker} {day}" for ticker, day in zip(*(rows.column(name).to_pylist() for name in ("ticker", "date")),
                                                     strict=True)]  # fmt: skip
    shown = ", ".join(list(dict.fromkeys(keys))[:_SHOWN])
    advice = "one row per ticker, date and strategy in the view"
    if strategy.data.duplicate_rows == "refuse":
        advice += ', or data.duplicate_rows = "drop_equal" where the rows are equal'
    else:
        advice += "; these rows differ, so none can be dropped"
    return f"several rows of strategy {strategy.name!r} have the same ticker and date, such as {shown}: {advice}"


def _matrix(table: pa.Table, features: tuple[str, ...]) -> npt.NDArray[np.float32]:
    x = np.empty((table.num_rows, len(features)), dtype=np.float32)
    for index, name in enumerate(features):
        x[:, index] = _column(table, name)
    return x


def _column(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


# ---- The split of a training's rows, and for an incremental one the newest of them, read without those before
#
# Called by the train stage. An incremental training is judged on the dates on which a full one would be.


def split_rows(rows: LabelledRows, policy: TrainingPolicy) -> Split:
    """Split the rows by the policy's dates. Raises InsufficientData."""
    return split_by_date(
        rows.dates,
        rows.known,
        horizon_dates=policy.horizon_dates,
        holdout_dates=policy.holdout_dates,
        embargo_dates=policy.embargo_dates,
    )


def read_recent(
    source: FeatureSource, strategy: Strategy, *, as_of: date, features: tuple[str, ...]
) -> tuple[LabelledRows, Split]:
    """Held-out dates, what is purged before them, and `incremental_days` to train on. Raises what reading raises."""
    policy = strategy.training
    days = _days_back(source, strategy, as_of)
    try:
        rows, split = _read(source, strategy, as_of=as_of, features=features, days=days)
    except (EmptyWindow, InsufficientData):
        if days == policy.training_days:
            raise
        split = None
    # Labels may come later than the panel's dates say: then the whole window may hold enough.
    if split is None or split.last_train - timedelta(days=policy.incremental_days) < as_of - timedelta(days=days):
        rows, split = _read(source, strategy, as_of=as_of, features=features, days=policy.training_days)
    return rows, newest_training_days(split, rows.dates, days=policy.incremental_days)


def _read(
    source: FeatureSource, strategy: Strategy, *, as_of: date, features: tuple[str, ...], days: int
) -> tuple[LabelledRows, Split]:
    policy = replace(strategy.training, training_days=days)
    rows = read_labelled(source, replace(strategy, training=policy), as_of=as_of, features=features)
    return rows, split_rows(rows, policy)


def _days_back(source: FeatureSource, strategy: Strategy, as_of: date) -> int:
    """Calendar days that hold what an incremental training needs, as the panel's dates say."""
    policy = strategy.training
    window = training_window(as_of, policy)
    counted = counted_dates(source, strategy.name, window, min_share=strategy.data.min_date_share)
    dates = counted.dates(strategy.name, window)
    gap = max(1, policy.horizon_dates + policy.embargo_dates)
    not_trained = policy.horizon_dates + policy.holdout_dates + gap
    if len(dates) <= not_trained:
        return policy.training_days
    last_trained = dates[-not_trained - 1]
    return min(policy.training_days, (as_of - last_trained).days + policy.incremental_days)
