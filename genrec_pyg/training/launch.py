r"""Joining the processes that a launcher started."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.constants import default_pg_timeout

from genrec_pyg.distributed import parse_grid
from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.training.distributed import MODES, Distributed
from genrec_pyg.training.grid import GridDistributed
from genrec_pyg.utils.collectives import Processes
from genrec_pyg.utils.signals import system_signals

logger = logging.getLogger(__name__)

#: What a launcher tells each of its processes.
_LAUNCHER_VARIABLES = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')

#: Most seconds that a process waits for others to start.
_LONGEST_WAIT = 7 * 86_400


@contextmanager
def launch(
    mode: str | None = None,
    timeout: float | None = None,
    grid: str = 'auto',
    checkpoint: str = 'auto',
) -> Iterator[Distributed]:
    r"""Joins the other processes where a launcher such as ``torchrun`` started this one, and leaves
    them at the end.

    Only the main process logs below a warning. A process that fails leaves the group, so that the
    others fail as well. While a process waits for the others to start, SIGINT and SIGTERM end it at
    once.

    Args:
        mode: ``'ddp'``, ``'sharded'`` or ``'grid'``; :obj:`None` takes ``'ddp'`` under a launcher
            and one process otherwise.
        timeout: Seconds to wait for the other processes to start; :obj:`None` leaves it at those of
            torch, half an hour.
        grid: With ``'grid'``, see :class:`~genrec_pyg.training.grid.GridDistributed`; so is
            ``checkpoint``.
        checkpoint: Form of checkpoints.

    Raises:
        ConfigError: On an unknown mode, one without a launcher, or a timeout that is not positive.
        GenRecError: If another process does not start in time, or fails.
    """
    if timeout is not None and not 0 < timeout <= _LONGEST_WAIT:
        raise ConfigError(
            f'--distributed_timeout: got {timeout}, accepted are seconds above 0, up to '
            f'{_LONGEST_WAIT}'
        )
    for name, value in (('--grid', grid), ('--checkpoint', checkpoint)):
        if value != 'auto' and mode != 'grid':
            raise ConfigError(
                f'{name}: got {value!r} with --distributed {mode}, accepted is it with '
                f'--distributed grid'
            )
    if grid != 'auto':
        parse_grid(grid)
    if mode is not None and mode not in MODES:
        raise ConfigError(
            f'--distributed: got {mode!r}, accepted are {", ".join(map(repr, MODES))}'
        )
    if not all(name in os.environ for name in _LAUNCHER_VARIABLES):
        if mode is not None:
            raise ConfigError(
                f'--distributed: got {mode!r} in a single process, accepted is a start by '
                f'torchrun: torchrun --nproc_per_node N -m genrec_pyg.train --distributed {mode}'
            )
        yield Distributed()
        return
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    with system_signals():
        _join('cpu:gloo,cuda:nccl' if gpus else 'gloo', timeout)
    processes = Processes(
        dist.get_rank(), dist.get_world_size(), int(os.environ.get('LOCAL_RANK', dist.get_rank()))
    )
    if gpus and processes.local_rank < torch.cuda.device_count():
        # before anything is put on the first GPU, which all processes see
        torch.cuda.set_device(processes.local_rank)
    package = logging.getLogger('genrec_pyg')
    level = package.level
    if not processes.is_main:
        package.setLevel(logging.WARNING)
    try:
        yield (
            GridDistributed(processes, grid, checkpoint)
            if mode == 'grid'
            else Distributed(mode or 'ddp', processes)
        )
    except RuntimeError as error:
        if isinstance(error, GenRecError) or not any(
            name in str(error) for name in ('gloo', 'NCCL')
        ):
            raise
        raise GenRecError(
            f'process {processes.rank}: another process has ended, see its own message '
            f'({str(error).splitlines()[0]})'
        ) from error
    finally:
        package.setLevel(level)
        dist.destroy_process_group()


def _join(backend: str, timeout: float | None) -> None:
    r"""Waits for all processes and makes the group; ``timeout`` is for this wait, not for what the
    group does later.
    """
    rank, size, address, port = (os.environ[name] for name in _LAUNCHER_VARIABLES)
    for name, value in (('RANK', rank), ('WORLD_SIZE', size), ('MASTER_PORT', port)):
        if not value.isdecimal():
            raise ConfigError(
                f'{name}: got {value!r} in the environment, accepted is a number; without {name} '
                f'this process runs alone'
            )
    logger.info('process %s: waiting for %s processes at %s:%s', rank, size, address, port)
    wait = default_pg_timeout if timeout is None else timedelta(seconds=timeout)
    try:
        store, number, count = next(dist.rendezvous('env://', timeout=wait))
        start = meet(store, number, count, wait)
        store.set_timeout(default_pg_timeout)
        dist.init_process_group(
            backend, store=dist.PrefixStore(start, store), rank=number, world_size=count
        )
    except (RuntimeError, ValueError) as error:
        raise GenRecError(
            f'process {rank} of {size}: the others did not meet it at {address}:{port} '
            f'({str(error).splitlines()[0]}); to run alone, unset {", ".join(_LAUNCHER_VARIABLES)}'
        ) from error


def meet(store: dist.Store, rank: int, size: int, wait: timedelta) -> str:
    r"""Waits until all processes of this start are there.

    The store of ``torchrun`` is still there when it starts processes again, with the addresses of
    those that have ended (https://github.com/pytorch/pytorch/issues/135712), and its count of
    restarts differs between machines. So each process brings a random word, and only the answer of
    the main one to all of these words ends the wait.

    Args:
        store: Store that all processes reach.
        rank: Number of this process.
        size: Number of processes.
        wait: Longest wait.

    Returns:
        A name that no other start has.

    Raises:
        RuntimeError: If another process does not come in time.
    """
    word, deadline = secrets.token_hex(8), time.monotonic() + wait.total_seconds()
    if rank == 0:
        store.set('start', word)
        others = [f'{word}/{other}' for other in range(1, size)]
        store.wait(others, wait)
        store.set(f'{word}/all', ' '.join(store.get(other).decode() for other in others))
        return word
    store.wait(['start'], wait)
    start = ''
    while time.monotonic() < deadline:
        found = store.get('start').decode()  # of an earlier start until the main process has come
        if found != start:
            start = found
            store.set(f'{start}/{rank}', word)
        if store.check([f'{start}/all']) and word in store.get(f'{start}/all').decode().split():
            return start
        time.sleep(0.1)
    raise RuntimeError(f'not all came within {wait.total_seconds():.0f} s')
