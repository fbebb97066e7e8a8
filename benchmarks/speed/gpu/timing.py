r"""How a candidate is timed on a GPU: back ends in turn, calls in batches, replays of a CUDA
graph.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping

import torch

from benchmarks.common.timing import interleaved_seconds, summary
from genrec_pyg.ops import DEFAULT_BACKENDS
from genrec_pyg.training.cuda_graph import Recorder

Calls = Mapping[str, Callable[[], object]]

logger = logging.getLogger('gpu')


@contextlib.contextmanager
def default_backend(device: torch.device, name: str) -> Iterator[None]:
    r"""Makes ``name`` the back end of ``device`` within the context."""
    before = DEFAULT_BACKENDS.get(device.type)
    DEFAULT_BACKENDS[device.type] = name
    try:
        yield
    finally:
        if before is None:
            del DEFAULT_BACKENDS[device.type]
        else:
            DEFAULT_BACKENDS[device.type] = before


def with_backend(
    device: torch.device, name: str, function: Callable[[], object]
) -> Callable[[], object]:
    r"""``function`` as it runs where ``name`` is the back end of ``device``."""

    def run() -> object:
        with default_backend(device, name):
            return function()

    return run


def wait(device: torch.device) -> None:
    r"""Waits until ``device`` has nothing left to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def record(function: Callable[[], object], device: torch.device) -> Callable[[], object]:
    r"""``function`` recorded as a CUDA graph; calling the result replays it and returns what it
    returned, with new contents.

    Raises:
        RuntimeError: If the function waits for the device, which cannot be recorded.
    """
    recorder = Recorder(device)
    for _ in range(3):  # compiles kernels and allocates what the record must not
        recorder.run(function)
    return recorder.record(function)


def timed(candidates: Calls, device: torch.device, repeats: int, calls: int) -> dict[str, dict]:
    r"""Median seconds of one call of every candidate.

    Args:
        candidates: Name to function.
        device: Device to wait for.
        repeats: Measurements.
        calls: Calls per measurement.
    """

    def batch(function: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                function()
            wait(device)

        return run

    seconds = interleaved_seconds(
        {name: batch(function) for name, function in candidates.items()}, repeats
    )
    return {name: summary([value / calls for value in values]) for name, values in seconds.items()}


def measure(
    candidates: Calls,
    device: torch.device,
    repeats: int,
    calls: int,
    waiting: Collection[str] = (),
    repeatable: bool = True,
) -> dict[str, dict]:
    r"""Times of every candidate: ``'eager'`` for all, ``'device'`` for those that can be recorded.

    Args:
        candidates: Name to function.
        device: Device to wait for.
        repeats: Measurements.
        calls: Calls per measurement.
        waiting: Candidates known to read a result back, so that there is no use in trying to record
            them.
        repeatable: Whether equal calls return equal tensors; then a replay must return them too.

    Raises:
        AssertionError: If a replay returns something else than a call.
    """
    found = {'eager': timed(candidates, device, repeats, calls), 'device': {}}
    recorded = {}
    for name in [name for name in candidates if device.type == 'cuda' and name not in waiting]:
        try:
            recorded[name] = record(candidates[name], device)
        except RuntimeError as error:
            logger.info('%s cannot be recorded: %s', name, str(error).splitlines()[0])
            # A failed record leaves torch's random generator as if it were recorded still; a whole
            # one ends that.
            record(lambda: torch.zeros((), device=device), device)
            continue
        if repeatable:
            torch.testing.assert_close(
                recorded[name](),
                candidates[name](),
                rtol=1e-4,
                atol=1e-5,
                msg=lambda text, name=name: f'{name}, replayed: {text}',
            )
    if recorded:
        found['device'] = timed(recorded, device, repeats, calls)
    return found
