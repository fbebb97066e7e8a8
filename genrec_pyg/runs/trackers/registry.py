r"""Trackers by name."""

from __future__ import annotations

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.runs.trackers.base import Tracker
from genrec_pyg.utils.plugins import installed, is_place, load_place

#: Trackers of this package by name, with the places of their classes: they import their packages
#: when a run starts.
TRACKERS = {
    'tensorboard': 'genrec_pyg.runs.trackers.tensorboard:TensorBoardTracker',
    'mlflow': 'genrec_pyg.runs.trackers.mlflow:MLflowTracker',
    'wandb': 'genrec_pyg.runs.trackers.wandb:WandbTracker',
}
#: Group of the entry points by which an installed package adds trackers.
ENTRY_POINTS = 'genrec_pyg.trackers'


def make_tracker(name: str) -> Tracker:
    r"""Makes the tracker called ``name``.

    Raises:
        ConfigError: If there is none, which lists the names, or it lacks a method of
            :class:`~genrec_pyg.runs.trackers.base.Tracker`.
    """
    places = {**installed(ENTRY_POINTS), **TRACKERS}
    place = places.get(name, name)
    if not is_place(place):
        raise ConfigError(
            f'trackers: got {name!r}, accepted are {", ".join(sorted(places))} or '
            'package.module:Class'
        )
    tracker = load_place('trackers', place, name)
    tracker = tracker() if isinstance(tracker, type) else tracker
    if not isinstance(tracker, Tracker):
        raise ConfigError(
            f'trackers: got {name!r}, accepted is a class with the methods start, log, summarize '
            'and close'
        )
    return tracker
