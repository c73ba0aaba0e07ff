"""The documented pipeline script: drift check, retraining where needed, promotion, for each strategy.

    python mlops/retraining/auto_retrain.py [--strategies growth momentum] [--drift-threshold 0.3]
                                            [--min-accuracy 0.7] [--summary]

Exit code 1 where any strategy had an error, else 0 (a refusal is no error), 2 where nothing could be started.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from mlops.bootstrap import Services, connect
from mlops.domain.errors import AcisError, ConfigurationError, InvalidPolicyEdit, LedgerUnavailable
from mlops.domain.records import Kind, RunView
from mlops.invocation import command_line_actor, command_log
from mlops.reporting.narrative import counts, error_of, is_error, summary_lines
from mlops.reporting.terminal import FINDING, OK, StageDisplay, as_json, err, guarded, out, print_json
from mlops.runs.launch import launch
from mlops.runs.request import run_request


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """How one strategy's pass ended."""

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
        """The same, one by one as they end."""
        for name in self.strategies:
            self.services.strategies[name]
        for name in self.strategies:
            yield self.process_strategy(name)

    def process_strategy(self, strategy: str) -> PipelineResult:
        """One strategy's pass."""
        try:
            request = run_request(
                self.services.policies,
                strategy,
                Kind.PIPELINE,
                reason="asked for on the command line",
                requested_by=command_line_actor(),
                as_of=self.as_of,
                drift_threshold=self.drift_threshold,
                min_accuracy=self.min_accuracy,
            )
        except InvalidPolicyEdit as exc:  # this strategy's own
            return PipelineResult(strategy=strategy, run=None, error=str(exc))
        try:
            view = launch(
                self.services,
                replace(request, batch_id=self._batch_id),
                queue=self.queue,
                on_accept=self._display.accepted,
                on_stage=self._display.stage,
            )
        except (LedgerUnavailable, ConfigurationError):
            raise  # the next strategy would meet the same
        except AcisError as exc:
            return PipelineResult(strategy=strategy, run=None, error=str(exc))
        return PipelineResult(strategy=strategy, run=view, error=error_of(view) if is_error(view) else "")


def summary(results: Sequence[PipelineResult]) -> dict[str, int]:
    """The numbers of the guide's pipeline summary."""
    numbers = counts(result.run for result in results if result.run is not None)
    return {**numbers, "total_strategies": len(results), "errors": sum(bool(result.error) for result in results)}


def main(arguments: list[str] | None = None) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description="Check drift, retrain where needed, promote what is better.")
    parser.add_argument("--strategies", nargs="+", metavar="NAME", help="default: all of the strategies file")
    parser.add_argument("--tags", nargs="+", metavar="TAG", help="those with any of these tags, too")
    parser.add_argument("--drift-threshold", type=float, help="alert share in place of the policies'")
    parser.add_argument("--min-accuracy", type=float, help="gate in place of the policies'")
    parser.add_argument("--summary", action="store_true", help="print the summary alone")
    parser.add_argument("--as-of", type=date.fromisoformat, metavar="DATE", help="decide as of this day")
    parser.add_argument("--queue", action="store_true", help="let the workers do it, and follow")
    parser.add_argument("--json", action="store_true", help="print runs and summary as JSON")
    options = parser.parse_args(arguments)
    command_log()

    def body() -> int:
        quiet = options.json or options.summary
        display = StageDisplay(quiet=quiet)
        services = connect()
        names = options.strategies
        if options.tags:
            names = services.strategies.chosen(options.strategies or (), options.tags)
        pipeline = AutoRetrainingPipeline(
            names,
            options.drift_threshold,
            options.min_accuracy,
            as_of=options.as_of,
            queue=options.queue,
            services=services,
            display=display,
        )
        results: list[PipelineResult] = []
        with display.live():
            for name in pipeline.strategies:
                pipeline.services.strategies[name]
            for name in pipeline.strategies:
                if not quiet:
                    out.print(f"Processing strategy: {name}\nChecking data drift for {name}...")
                results.append(pipeline.process_strategy(name))
                if results[-1].error:
                    err.print(f"Error: {name}: {results[-1].error}", style="red", markup=False)
                if not quiet:
                    out.print()
        numbers = summary(results)
        if options.json:
            print_json({"summary": numbers, "runs": [as_json(result) for result in results]})
        else:
            out.print("\n".join(summary_lines(numbers)))
        return FINDING if numbers["errors"] else OK

    return guarded(body)


if __name__ == "__main__":
    sys.exit(main())
