"""The documented pipeline script: drift check, retraining where needed, promotion, for each strategy.

    python mlops/retraining/auto_retrain.py [--strategies growth momentum] [--drift-threshold 0.3]
                                            [--min-accuracy 0.7] [--summary]

Exit code 1 where any strategy had an error, else 0 (a refusal is no error), 2 where nothing could be started.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Annotated

import typer

from cli.options import run_script
from cli.work import retrain
from mlops.bootstrap import Services, connect
from mlops.reporting.terminal import StageDisplay
from mlops.runs.launch import PipelineResult, pipeline_pass


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
        return pipeline_pass(
            self.services,
            strategy,
            self._display,
            queue=self.queue,
            batch_id=self._batch_id,
            as_of=self.as_of,
            drift_threshold=self.drift_threshold,
            min_accuracy=self.min_accuracy,
        )


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
