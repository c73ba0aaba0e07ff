"""Labels: `<column> <op> <number or column>`, parsed, never evaluated as code; pure.

A column whose name is no word stands in double quotes, as in SQL: `"ret.5d" > 0`, a quote in it doubled.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import InvalidStrategyFile, MissingColumn
from mlops.domain.policies import TARGET_PREFIX

if TYPE_CHECKING:
    import pyarrow as pa

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_NAME = r'(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"]|"")+")'
_LABEL = re.compile(
    rf"\s*(?P<column>{_NAME})\s*(?P<op>>=|<=|==|!=|>|<)\s*(?P<operand>{_NAME}|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)\s*"
)
#: How the names of Arrow's numeric types begin.
_NUMERIC = ("double", "float", "halffloat", "int", "uint", "decimal", "bool")


@dataclass(frozen=True, kw_only=True)
class Label:
    """A yes-or-no question about a row."""

    column: str
    op: str
    operand: float | str
    """A number, or the name of a column."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads."""
        return (self.column, self.operand) if isinstance(self.operand, str) else (self.column,)

    def evaluate(self, table: pa.Table) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
        """(n,) labels and (n,) whether each is known; an unknown one has no finite operand, and label 0.

        Raises MissingColumn, for a column that holds no numbers too.
        """
        left = label_numbers(table, self.column)
        right = label_numbers(table, self.operand) if isinstance(self.operand, str) else np.float64(self.operand)
        known = np.isfinite(left) & np.isfinite(right)
        y = np.asarray(_OPERATORS[self.op](left, right), dtype=bool) & known
        return y.astype(np.int8), known


def parse_label(text: str) -> Label:
    """The label of a text. Raises InvalidStrategyFile.

    >>> parse_label("target_return > 0.01").operand
    0.01
    >>> parse_label("target_volatility_20d > volatility_20d").operand
    'volatility_20d'
    >>> parse_label('"target_return.5d" > 0').column
    'target_return.5d'
    """
    match = _LABEL.fullmatch(text)
    if match is None:
        raise InvalidStrategyFile(
            f"label {text!r} is not understood; write <column> <op> <number or column>, with op one of "
            f"{' '.join(_OPERATORS)}, for example 'target_return > 0'; a name with other signs than a to z, "
            "digits and _ stands in double quotes: '\"ret.5d\" > 0'"
        )
    operand = match["operand"]
    return Label(
        column=_unquoted(match["column"]),
        op=match["op"],
        operand=_unquoted(operand) if re.fullmatch(_NAME, operand) else float(operand),
    )


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def is_return(column: str) -> bool:
    """Whether a column is named as a return that is to be predicted: `target_return`, `target_return_5d`."""
    return column.startswith(TARGET_PREFIX) and "return" in column


def impossible(column: str, values: npt.NDArray[np.float64], *, bounds: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """(n,) values that are no label: infinite ones, and returns outside the bounds. nan is only not known."""
    found = np.isinf(values)
    if is_return(column):
        found |= (values < bounds[0]) | (values > bounds[1])
    return np.asarray(found, dtype=np.bool_)


def label_numbers(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """(n,) the column's values, nan where there is none. Raises MissingColumn, where it holds no numbers too."""
    if column not in table.column_names:
        raise MissingColumn(f"the label needs column {column!r}; found {', '.join(table.column_names)}")
    values = table.column(column)
    if not str(values.type).startswith(_NUMERIC):
        raise MissingColumn(f"the label needs numbers in column {column!r}; found {values.type}")
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
