r"""The protocol of a tracker, and several of them as one that no training depends on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from genrec_pyg.exceptions import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    r"""What a tracker is told of a run.

    Args:
        name: Name of the run, that of its folder.
        folder: Folder of the run, or of the trial of a search, made when somebody writes there.
        settings: Plain settings by dotted name.
        group: Name of the search that the run is a trial of.
        epochs_done: Finished epochs of a run that goes on; later ones are to be forgotten.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    group: str | None = None
    epochs_done: int = 0


@runtime_checkable
class Tracker(Protocol):
    r"""Where the figures of a training go; its class is called without arguments."""

    def start(self, run: TrackedRun) -> None:
        r"""Begins a run, or goes on with one."""

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        r"""Takes the figures of an epoch, such as ``'val/recall@20'``."""

    def summarize(self, figures: Mapping[str, float]) -> None:
        r"""Takes the figures of the finished training, such as ``'test/recall@20'``."""

    def close(self, failed: bool) -> None:
        r"""Ends the run; ``failed`` if an error or an interruption did."""


class Trackers:
    r"""Several trackers as one. A tracker that fails is named in the log and gets nothing more: no
    training depends on it.

    Args:
        trackers: Trackers by name.
    """

    def __init__(self, trackers: Mapping[str, Tracker]):
        self._trackers = dict(trackers)

    def start(self, run: TrackedRun) -> None:
        r"""Begins the run everywhere.

        Raises:
            ConfigError: If the package of a tracker is not installed.
        """
        self._each(lambda tracker: tracker.start(run))

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        r"""Hands on the figures of an epoch."""
        self._each(lambda tracker: tracker.log(figures, epoch))

    def summarize(self, figures: Mapping[str, float]) -> None:
        r"""Hands on the figures of the finished training."""
        self._each(lambda tracker: tracker.summarize(figures))

    def close(self, failed: bool = False) -> None:
        r"""Ends the run everywhere."""
        self._each(lambda tracker: tracker.close(failed))
        self._trackers.clear()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except ConfigError:
                raise
            except Exception as error:  # packages that do not fit together fail in any way
                del self._trackers[name]
                reason = str(error).splitlines()[0] if str(error) else 'no message'
                logger.warning(
                    'the tracker %s does not work (%s: %s): figures go to metrics.jsonl and to '
                    'what else there is',
                    name,
                    type(error).__name__,
                    reason,
                )


def flat_figures(record: Mapping[str, Any], skip: Sequence[str] = ('epoch',)) -> dict[str, float]:
    r"""The numbers of a record by path, such as ``'val/recall@20'``."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found.update({f'{name}/{key}': entry for key, entry in flat_figures(value, ()).items()})
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and name not in skip:
            found[name] = float(value)
    return found
