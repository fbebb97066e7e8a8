r"""Trackers: where the figures of a training go besides the folder of its run.

``tensorboard``, ``mlflow`` and ``wandb`` are those of this package; others are entry points of the
group ``genrec_pyg.trackers`` or ``package.module:Class``. One is any class with the four methods of
:class:`Tracker`.
"""

from genrec_pyg.runs.trackers.base import TrackedRun, Tracker, Trackers, flat_figures
from genrec_pyg.runs.trackers.registry import TRACKERS, make_tracker, start_trackers

__all__ = [
    'TRACKERS',
    'TrackedRun',
    'Tracker',
    'Trackers',
    'flat_figures',
    'make_tracker',
    'start_trackers',
]
