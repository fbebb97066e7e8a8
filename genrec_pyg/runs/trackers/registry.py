r"""Trackers by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.runs.trackers.base import TrackedRun, Tracker, Trackers
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


def start_trackers(
    names: Iterable[str],
    settings: Mapping[str, Any],
    epochs_done: int,
    output: Path | None,
    trial: Path | None = None,
) -> Trackers:
    r"""Begins a run with trackers, or goes on with one.

    Args:
        names: Trackers, as :func:`make_tracker` takes them.
        settings: Plain settings, in groups or not; trackers see them as text by dotted name.
        epochs_done: Finished epochs of a run that goes on.
        output: Folder of the run, which names it.
        trial: Folder ``STUDY/trials/NUMBER`` of a trial, which names study and run in its place.

    Raises:
        ConfigError: If a name is unknown, or the package of a tracker is not installed.
    """
    folder = output if trial is None else trial
    group = None if trial is None else folder.parent.parent.name
    name = folder.name if group is None else f'{group}-{folder.name}'
    flat = {}
    for part, entry in settings.items():
        flat |= (
            {f'{part}.{key}': value for key, value in entry.items()}
            if isinstance(entry, dict)
            else {part: entry}
        )
    trackers = Trackers({tracker: make_tracker(tracker) for tracker in names})
    trackers.start(
        TrackedRun(
            name, folder, {key: str(value) for key, value in flat.items()}, group, epochs_done
        )
    )
    return trackers
