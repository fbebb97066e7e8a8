r"""A system under measurement in its own process, driven epoch by epoch.

The child answers every line on its standard input by one JSON line on its original standard output;
whatever the system itself prints goes to standard error. So several systems stay ready side by
side, take turns, and have their own peak memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.common.machine import memory_bytes, thread_environment
from benchmarks.common.timing import PhaseClock

#: Phases of an epoch, in the order in which they are reported.
PHASES = ('denoiser', 'rebuild', 'recommender', 'evaluation')


class System(Protocol):
    r"""What a worker measures: construction is the set-up, every call one epoch."""

    def run_epoch(self, epoch: int, clock: PhaseClock) -> dict[str, float]:
        r"""Runs epoch ``epoch`` (from 0) under ``clock``, whose phases are :data:`PHASES`; returns
        figures such as Recall.
        """

    def describe(self) -> dict[str, object]:
        r"""What was built: settings that differ from the defaults, sizes."""


class WorkerError(RuntimeError):
    r"""A system under measurement ended early; the message carries the end of its output."""


def serve(build: Callable[[], System], threads: int) -> None:
    r"""Runs in the child: builds the system, then measures an epoch per line of standard input
    until it closes.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w', buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import torch

    torch.set_num_threads(threads)
    start, imported = time.perf_counter(), memory_bytes()
    begun = time.process_time()
    system = build()
    ready = {
        'seconds': time.perf_counter() - start,
        'processor': time.process_time() - begun,
        'memory_import': imported['peak'],
        'memory': memory_bytes(),
        'description': system.describe(),
    }
    answers.write(json.dumps(ready) + '\n')
    for epoch, _ in enumerate(sys.stdin):
        clock = PhaseClock()
        figures = system.run_epoch(epoch, clock)
        clock.stop()
        if set(clock.wall) != set(PHASES):
            raise ValueError(
                f'phases: got {sorted(clock.wall)}, accepted are exactly {sorted(PHASES)}'
            )
        answers.write(
            json.dumps(
                {
                    'wall': clock.wall,
                    'processor': clock.processor,
                    'memory': memory_bytes(),
                    'figures': figures,
                }
            )
            + '\n'
        )


class Worker:
    r"""The parent's end: starts ``python -m MODULE ARGUMENTS`` and asks it for epochs.

    Args:
        module: Module that calls :func:`serve`.
        arguments: Its arguments.
        threads: Limit for every numerical library.
        folder: Working folder of the process.
        path: Folders to put on its module search path.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        threads: int,
        folder: Path | None = None,
        path: Sequence[Path] = (),
    ):
        environment = thread_environment(threads)
        environment['PYTHONPATH'] = os.pathsep.join(
            [*map(str, path), *filter(None, [environment.get('PYTHONPATH')])]
        )
        self._output = tempfile.TemporaryFile(mode='w+', errors='replace')
        self._process = subprocess.Popen(
            [sys.executable, '-m', module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
            cwd=folder,
            env=environment,
        )
        try:
            self.ready = self._answer()
        except BaseException:
            self.close()
            raise

    def epoch(self) -> Mapping[str, object]:
        r"""Measures one epoch."""
        # A child that is gone says so by the missing answer, with its output.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write('epoch\n')
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        r"""Ends the process."""
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._output):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _answer(self) -> dict[str, object]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._output.seek(0)
        raise WorkerError(
            f'{self._process.args[2]} ended with code {code}:\n{self._output.read()[-4000:]}'
        )
