"""The documented pipeline script: drift check, retraining where needed, promotion, for each strategy.

    python mlops/retraining/auto_retrain.py [--strategies growth momentum] [--drift-threshold 0.3]
                                            [--min-accuracy 0.7] [--summary]

Exit code 1 where any strategy had an error, else 0 (a refusal is no error), 2 where nothing could be started.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import (
    AsJson,
    AsOf,
    DriftThreshold,
    MinAccuracy,
    OnWorkers,
    Tags,
    command,
    run_script,
)

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.domain.records import RunView
    from mlops.reporting.terminal import StageDisplay


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """Result of one strategy's pass."""

    strategy: str
    run: RunView | None
    """None where no run could be opened."""
    error: str
    """Empty where there was none."""


class AutoRetrainingPipeline:
    """One pass of the loop over some strategies; thresholds left out mean each policy's.

    >>> results = AutoRetrainingPipeline(["momentum"], drift_threshold=1.0).run()
    >>> [(result.strategy, result.error) for result in results]
    [('momentum', '')]
    """

    def __init__(
        self,
        strategies: Sequence[str] | None = None,
        drift_threshold: float | None = None,
        min_accuracy: float | None = None,
        *,
        as_of: date | None = None,
        queue: bool = False,
        services: Services | None = None,
        display: StageDisplay | None = None,
    ) -> None:
        from mlops.reporting.terminal import StageDisplay
        from tasks.services import connect

        self.services = services or connect()
        self.strategies = tuple(strategies or self.services.strategies)
        self.drift_threshold = drift_threshold
        self.min_accuracy = min_accuracy
        self.as_of = as_of
        self.queue = queue
        self._batch_id = uuid.uuid4().hex if len(self.strategies) > 1 else None
        self._display = display or StageDisplay(quiet=True)

    def run(self) -> list[PipelineResult]:
        """All strategies; one that fails does not keep the others from their pass.

        Raises UnknownStrategy before anything starts, NothingConfigured, LedgerUnavailable.
        """
        return list(self.passes())

    def passes(self) -> Iterator[PipelineResult]:
        """Yield the passes one by one as they end."""
        for name in self.strategies:
            self.services.strategies[name]
        for name in self.strategies:
            yield self.process_strategy(name)

    def process_strategy(self, strategy: str) -> PipelineResult:
        """One strategy's pass. Raises what the next strategy would meet, too."""
        from mlops.domain.errors import AcisError, ConfigurationError, InvalidPolicyEdit, LedgerUnavailable
        from mlops.domain.records import Kind
        from mlops.reporting.narrative import error_of, is_error
        from mlops.runs.launch import command_run

        try:
            view = command_run(
                self.services,
                strategy,
                Kind.PIPELINE,
                self._display,
                queue=self.queue,
                batch_id=self._batch_id,
                as_of=self.as_of,
                drift_threshold=self.drift_threshold,
                min_accuracy=self.min_accuracy,
            )
        except AcisError as exc:
            if isinstance(exc, LedgerUnavailable | ConfigurationError) and not isinstance(exc, InvalidPolicyEdit):
                raise
            return PipelineResult(strategy=strategy, run=None, error=str(exc))
        return PipelineResult(strategy=strategy, run=view, error=error_of(view) if is_error(view) else "")


@command
def retrain(
    strategies: Annotated[list[str] | None, typer.Argument(help="Default: all strategies.")] = None,
    tag: Tags = None,
    drift_threshold: DriftThreshold = None,
    min_accuracy: MinAccuracy = None,
    as_of: AsOf = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print the summary alone.")] = False,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """The whole loop: drift check, retraining where needed, promotion. Exit code 1 where any had an error."""
    from mlops.reporting.narrative import summary_lines
    from mlops.reporting.terminal import FINDING, OK, StageDisplay, err, out, print_json
    from tasks.services import connect

    quiet = json or summary
    display = StageDisplay(quiet=quiet)
    services = connect()
    names = services.strategies.chosen(strategies or (), tag) if tag else strategies
    pipeline = AutoRetrainingPipeline(
        names, drift_threshold, min_accuracy, as_of=as_of, queue=queue, services=services, display=display
    )
    results: list[PipelineResult] = []
    with display.live():
        for name in pipeline.strategies:
            services.strategies[name]
        for name in pipeline.strategies:
            if not quiet:
                out.print(f"Processing strategy: {name}\nChecking data drift for {name}...")
            results.append(pipeline.process_strategy(name))
            if results[-1].error:
                err.print(f"Error: {name}: {results[-1].error}", style="red", markup=False)
            if not quiet:
                out.print()
    numbers = _summary(results)
    if json:
        print_json({"summary": numbers, "runs": results})
    else:
        out.print("\n".join(summary_lines(numbers)))
    return FINDING if numbers["errors"] else OK


def _summary(results: Sequence[PipelineResult]) -> dict[str, int]:
    from mlops.reporting.narrative import counts

    numbers = counts(result.run for result in results if result.run is not None)
    return {**numbers, "total_strategies": len(results), "errors": sum(bool(result.error) for result in results)}


def main(arguments: list[str] | None = None) -> int:
    """The script."""
    return run_script(
        retrain,
        arguments,
        several=("--strategies", "--tags"),
        strategies=Annotated[
            list[str] | None, typer.Option(metavar="NAME...", help="Default: all of the strategies file.")
        ],
        tag=Annotated[
            list[str] | None, typer.Option("--tags", metavar="TAG...", help="Those with any of these tags, too.")
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
