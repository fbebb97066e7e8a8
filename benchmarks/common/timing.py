r"""Seconds of functions and of the phases of a run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


class AnnouncedLoader:
    r"""A loader that calls ``announce`` whenever it is iterated; everything else is the loader's
    own.

    Args:
        loader: Any iterable loader.
        announce: Function without arguments.
    """

    def __init__(self, loader: Any, announce: Callable[[], None]):
        self._loader, self._announce = loader, announce

    def __iter__(self) -> Iterator:
        self._announce()
        return iter(self._loader)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class PhaseClock:
    r"""Wall and processor seconds of named phases; starting a phase ends the one before, and a
    phase may come again.

    Processor time is kept beside wall time because it does not move when other programs use the
    machine.
    """

    def __init__(self):
        self.wall: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._running: tuple[str, float, float] | None = None

    def start(self, phase: str) -> None:
        r"""Ends the running phase and begins ``phase``."""
        self.stop()
        self._running = (phase, time.perf_counter(), time.process_time())

    def stop(self) -> None:
        r"""Ends the running phase, if any."""
        if self._running is None:
            return
        phase, wall, processor = self._running
        self.add(phase, time.perf_counter() - wall, time.process_time() - processor)
        self._running = None

    def add(self, phase: str, wall: float, processor: float) -> None:
        r"""Adds seconds measured elsewhere to ``phase``."""
        self.wall[phase] = self.wall.get(phase, 0.0) + wall
        self.processor[phase] = self.processor.get(phase, 0.0) + processor


def interleaved_seconds(
    candidates: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 2
) -> dict[str, list[float]]:
    r"""Wall seconds of every candidate, measured in turn, so that a slow moment of the machine
    meets all of them.

    Args:
        candidates: Name to function; called ``warmup + repeats`` times, the first ``warmup`` are
            not counted.
        repeats: Measured calls of each candidate.
        warmup: Calls before the measurement.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for repeat in range(-warmup, repeats):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            candidates[name]()
            elapsed = time.perf_counter() - start
            if repeat >= 0:
                seconds[name].append(elapsed)
    return seconds


def summary(values: Sequence[float]) -> dict[str, float]:
    r"""Median, extremes and number of ``values``."""
    return {
        'median': statistics.median(values),
        'min': min(values),
        'max': max(values),
        'count': len(values),
    }


def condense(seconds: Mapping[str, Sequence[float]]) -> dict[str, dict]:
    r"""Medians, and how many times faster the first candidate is than each other."""
    found = {name: summary(values) for name, values in seconds.items()}
    reference = next(iter(found.values()))['median']
    for values in found.values():
        values['times_ours'] = values['median'] / reference
    return found
