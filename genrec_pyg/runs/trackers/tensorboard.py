r"""TensorBoard events in the folder of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from genrec_pyg.runs.trackers.base import TrackedRun

logger = logging.getLogger(__name__)


class TensorBoardTracker:
    r"""Writes ``RUN/tensorboard``. It is on by default, so where the package is missing it only
    says so.
    """

    def __init__(self) -> None:
        self._writer: Any | None = None

    def start(self, run: TrackedRun) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info('TensorBoard is not installed: figures go to metrics.jsonl only')
            return
        self._writer = SummaryWriter(str(run.folder / 'tensorboard'), purge_step=run.epochs_done)

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        for name, value in figures.items() if self._writer is not None else ():
            self._writer.add_scalar(name, value, epoch)

    def summarize(self, figures: Mapping[str, float]) -> None:
        r"""Nothing: the curves are all that TensorBoard shows."""

    def close(self, failed: bool) -> None:
        if self._writer is not None:
            self._writer.close()
