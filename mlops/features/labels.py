"""Labels: `<column> <op> <number or column>`, parsed, never evaluated as code; pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops.errors import InvalidStrategyFile, MissingColumn

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
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
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
        """(n,) labels and (n,) whether each is known; an unknown one has a null or nan operand and label 0.

        Raises MissingColumn, for a column that holds no numbers too.
        """
        left = _numbers(table, self.column)
        right = _numbers(table, self.operand) if isinstance(self.operand, str) else np.float64(self.operand)
        known = ~(np.isnan(left) | np.isnan(right))
        y = np.asarray(_OPERATORS[self.op](left, right), dtype=bool) & known
        return y.astype(np.int8), known


def parse_label(text: str) -> Label:
    """The label of a text. Raises InvalidStrategyFile."""
    match = _LABEL.fullmatch(text)
    if match is None:
        raise InvalidStrategyFile(
            f"label {text!r} is not understood; write <column> <op> <number or column>, with op one of "
            f"{' '.join(_OPERATORS)}, for example 'target_return > 0'"
        )
    operand = match["operand"]
    return Label(
        column=match["column"],
        op=match["op"],
        operand=operand if re.fullmatch(_NAME, operand) else float(operand),
    )


def _numbers(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    if column not in table.column_names:
        raise MissingColumn(f"the label needs column {column!r}; found {', '.join(table.column_names)}")
    values = table.column(column)
    if not str(values.type).startswith(_NUMERIC):
        raise MissingColumn(f"the label needs numbers in column {column!r}; found {values.type}")
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
