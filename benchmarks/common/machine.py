r"""The machine that is measured on: its description, threads, memory, and the version of what is
measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

#: Put first on the module search path of every process that a benchmark starts: where
#: ``benchmarks`` lies.
ROOT = Path(__file__).resolve().parents[2]
#: Files whose changes count as local ones: all but reports, which benchmarks write themselves.
MEASURED = (':(top)', ':(top,exclude)benchmarks/results')
PACKAGES = (
    'torch',
    'torch_geometric',
    'torch_scatter',
    'torch_sparse',
    'triton',
    'numpy',
    'scipy',
    'scikit-learn',
    'faiss-cpu',
)
THREAD_VARIABLES = (
    'OMP_NUM_THREADS',
    'MKL_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'NUMEXPR_NUM_THREADS',
)
#: Settings of memory, of glibc and of torch; none holds a path.
ALLOCATOR_VARIABLES = (
    'MALLOC_MMAP_MAX_',
    'MALLOC_MMAP_THRESHOLD_',
    'MALLOC_TRIM_THRESHOLD_',
    'MALLOC_TOP_PAD_',
    'THP_MEM_ALLOC_ENABLE',
)


def memory_bytes() -> dict[str, int]:
    r"""Resident memory of this process in bytes: ``peak`` since it began and ``now``.

    Read from ``/proc/self/status``: unlike ``ru_maxrss``, its high-water mark is not inherited from
    the parent process.
    """
    try:
        status = Path('/proc/self/status').read_text()
        found = {
            key: int(re.search(rf'^{field}:\s+(\d+) kB', status, re.MULTILINE).group(1)) * 1024
            for key, field in (('peak', 'VmHWM'), ('now', 'VmRSS'))
        }
    except (OSError, AttributeError):
        import resource

        unit = 1 if platform.system() == 'Darwin' else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        found = {'peak': peak, 'now': peak}
    # The kernel updates the high-water mark lazily: it may lag behind what is resident now.
    return {'peak': max(found.values()), 'now': found['now']}


def thread_environment(threads: int) -> dict[str, str]:
    r"""The process environment with every numerical library limited to ``threads`` threads, in
    which ``python -m benchmarks.…`` works from any folder.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    return {**os.environ, **{name: str(threads) for name in THREAD_VARIABLES}, 'PYTHONPATH': path}


def machine(threads: int) -> dict[str, object]:
    r"""The machine in words, without paths or names of hosts: processor, cores, memory, load,
    threads, versions, commit.
    """
    versions = {'python': platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        'processor': _processor(),
        'architecture': platform.machine(),
        'system': platform.system(),
        'logical_cores': os.cpu_count(),
        'memory_gib': _memory_gib(),
        'load_average': round(os.getloadavg()[0], 2),
        'threads': threads,
        'versions': versions,
        'commit': _commit(),
        'allocator': {name: os.environ[name] for name in ALLOCATOR_VARIABLES if name in os.environ},
    }


def prepare(threads: int) -> dict[str, object]:
    r"""Makes this process ready to be measured in: messages alone on standard error, memory as the
    command lines have it, ``threads`` threads, seed 0. Returns the :func:`machine` as it is before
    anything is measured.
    """
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
    return (
        f'{description["processor"]} ({description["architecture"]}), '
        f'{description["logical_cores"]} logical cores, {description["memory_gib"]} GiB memory, '
        f'{description["threads"]} thread(s), load average at the start '
        f'{description["load_average"]}. {versions}. Commit {description["commit"]}.'
        + (f' Environment: {allocator}.' if allocator else '')
    )


def folder_digest(folder: Path, pattern: str) -> str:
    r"""Short digest of the files ``pattern`` under ``folder``: names a version where there is no
    commit to name.
    """
    digest = hashlib.sha256()
    for path in _sorted_files(folder, pattern):
        digest.update(path.relative_to(folder).as_posix().encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()[:12]


def _sorted_files(folder: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(path for path in folder.rglob(pattern) if path.is_file()))


def _processor() -> str:
    with contextlib.suppress(OSError):
        match = re.search(
            r'^model name\s*:\s*(.+)$', Path('/proc/cpuinfo').read_text(), re.MULTILINE
        )
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1)


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    try:
        command = ['git', '-C', str(folder)]
        commit = subprocess.run(
            [*command, 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*command, 'status', '--porcelain', '--untracked-files=no', '--', *MEASURED],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return commit.stdout.strip() + (' with local changes' if changed.stdout.strip() else '')
