r"""What every benchmark script shares: time, memory, the description of the machine, and reports on disk.

Scripts run as ``python benchmarks/NAME.py`` from an environment in which ``genrec_pyg`` is installed.
"""
from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

PACKAGES = (
    'torch', 'torch_geometric', 'torch_scatter', 'torch_sparse', 'triton', 'numpy', 'scipy', 'scikit-learn', 'faiss-cpu',
)
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMEXPR_NUM_THREADS')
#: Settings of memory, of glibc and of torch; none holds a path.
ALLOCATOR_VARIABLES = ('MALLOC_MMAP_MAX_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'MALLOC_TOP_PAD_',
                       'THP_MEM_ALLOC_ENABLE')


class AnnouncedLoader:
    r"""A loader that calls ``announce`` whenever it is iterated; everything else is the loader's own.

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
    r"""Wall and processor seconds of named phases; starting a phase ends the one before, and a phase may come again.

    Processor time is kept beside wall time because it does not move when other programs use the machine.
    """

    def __init__(self):
        self.wall: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._running: Optional[tuple[str, float, float]] = None

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


def interleaved_seconds(candidates: Mapping[str, Callable[[], object]], repeats: int,
                        warmup: int = 2) -> dict[str, list[float]]:
    r"""Wall seconds of every candidate, measured in turn, so that a slow moment of the machine meets all of them.

    Args:
        candidates: Name to function; called ``warmup + repeats`` times, the first ``warmup`` are not counted.
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
    return {'median': statistics.median(values), 'min': min(values), 'max': max(values), 'count': len(values)}


def condense(seconds: Mapping[str, Sequence[float]]) -> dict[str, dict]:
    r"""Medians, and how many times faster the first candidate is than each other."""
    found = {name: summary(values) for name, values in seconds.items()}
    reference = next(iter(found.values()))['median']
    for values in found.values():
        values['times_ours'] = values['median'] / reference
    return found


def memory_bytes() -> dict[str, int]:
    r"""Resident memory of this process in bytes: ``peak`` since it began and ``now``.

    Read from ``/proc/self/status``: unlike ``ru_maxrss``, its high-water mark is not inherited from the parent process.
    """
    try:
        status = Path('/proc/self/status').read_text()
        found = {key: int(re.search(rf'^{field}:\s+(\d+) kB', status, re.MULTILINE).group(1)) * 1024
                 for key, field in (('peak', 'VmHWM'), ('now', 'VmRSS'))}
    except (OSError, AttributeError):
        import resource
        unit = 1 if platform.system() == 'Darwin' else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        found = {'peak': peak, 'now': peak}
    # The kernel updates the high-water mark lazily: it may lag behind what is resident now.
    return {'peak': max(found.values()), 'now': found['now']}


def thread_environment(threads: int) -> dict[str, str]:
    r"""The process environment with every numerical library limited to ``threads`` threads."""
    return {**os.environ, **{name: str(threads) for name in THREAD_VARIABLES}}


def machine(threads: int) -> dict[str, object]:
    r"""The machine in words, without paths or names of hosts: processor, cores, memory, load, threads, versions, commit."""
    versions = {'python': platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {'processor': _processor(), 'architecture': platform.machine(), 'system': platform.system(),
            'logical_cores': os.cpu_count(), 'memory_gib': _memory_gib(), 'load_average': round(os.getloadavg()[0], 2),
            'threads': threads, 'versions': versions, 'commit': _commit(),
            'allocator': {name: os.environ[name] for name in ALLOCATOR_VARIABLES if name in os.environ}}


def prepare(threads: int) -> dict[str, object]:
    r"""Makes this process ready to be measured in: messages alone on standard error, memory as the command lines have it,
    ``threads`` threads, seed 0. Returns the :func:`machine` as it is before anything is measured."""
    import torch  # here: what only steers other processes has no need of it

    from genrec_pyg.utils.memory import keep_freed_memory
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return machine(threads)


def machine_line(description: Mapping[str, object]) -> str:
    r"""One Markdown paragraph from :func:`machine`."""
    versions = ', '.join(f'{name} {version}' for name, version in description['versions'].items())
    allocator = ' '.join(f'{name}={value}' for name, value in description['allocator'].items())
    return (f"{description['processor']} ({description['architecture']}), {description['logical_cores']} logical cores, "
            f"{description['memory_gib']} GiB memory, {description['threads']} thread(s), load average at the start "
            f"{description['load_average']}. {versions}. Commit {description['commit']}."
            + (f' Environment: {allocator}.' if allocator else ''))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    r"""A Markdown table: the first column to the left, all others to the right."""
    lines = [header, [':--'] + ['--:'] * (len(header) - 1), *rows]
    return '\n'.join('| ' + ' | '.join(str(cell) for cell in line) + ' |' for line in lines)


@contextlib.contextmanager
def figure(path: Path, rows: int, columns: int, width: float, height: float) -> Iterator[Any]:
    r"""Gives axes ``[rows, columns]``, each ``width`` x ``height`` inches, and saves them under ``path`` at the end of the
    block; the same content gives the same file."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    with matplotlib.rc_context({'svg.hashsalt': 'genrec_pyg'}):
        canvas, axes = pyplot.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
        try:
            yield axes
            canvas.tight_layout()
            canvas.savefig(path, metadata={'Date': None})
        finally:
            pyplot.close(canvas)


def write_report(stem: Path, document: Mapping[str, object], markdown: str) -> None:
    r"""Writes ``stem.json`` and ``stem.md``, each whole or not at all."""
    # Imported here: processes under measurement use this module too and are not to carry the package in their memory.
    from genrec_pyg.utils.files import write_atomically, write_json

    # Appending instead of with_suffix(): a stem may hold a dot.
    write_json(stem.with_name(stem.name + '.json'), document)
    write_atomically(stem.with_name(stem.name + '.md'), lambda file: file.write((markdown.rstrip('\n') + '\n').encode()))


def positive(text: str) -> int:
    r"""Type of flags that take an integer from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'got {text}, accepted are integers from 1')
    return value


def check_models(names: Sequence[str], parser: argparse.ArgumentParser) -> None:
    r"""Ends with a usage error unless all are models that train by gradient."""
    from genrec_pyg.nn.models import MODELS, get_model  # here, for the reason above
    unknown = [name for name in names if name not in MODELS or not get_model(name).trainable]
    if unknown:
        trained = [name for name in MODELS if get_model(name).trainable]
        parser.error(f"--models: got {', '.join(unknown)}, accepted are models trained by gradient: {', '.join(trained)}")


def folder_digest(folder: Path, pattern: str) -> str:
    r"""Short digest of the files ``pattern`` under ``folder``: names a version where there is no commit to name."""
    digest = hashlib.sha256()
    for path in _sorted_files(folder, pattern):
        digest.update(path.relative_to(folder).as_posix().encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()[:12]


def _sorted_files(folder: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(path for path in folder.rglob(pattern) if path.is_file()))


def _processor() -> str:
    with contextlib.suppress(OSError):
        match = re.search(r'^model name\s*:\s*(.+)$', Path('/proc/cpuinfo').read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1)


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    try:
        command = ['git', '-C', str(folder)]
        commit = subprocess.run([*command, 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, check=True)
        changed = subprocess.run([*command, 'status', '--porcelain', '--untracked-files=no'], capture_output=True, text=True,
                                 check=True)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return commit.stdout.strip() + (' with local changes' if changed.stdout.strip() else '')
