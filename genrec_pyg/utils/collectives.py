r"""Rank, row partition and collective operations of a distributed run.

Evaluator and losses know processes only through this module; how they start and how they share a
model is told by :mod:`genrec_pyg.training.distributed`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from genrec_pyg.utils.signals import system_signals

T = TypeVar('T')


class Processes:
    r"""This process among those of a run; without arguments the only one, where every operation is
    the identity.

    All methods but :meth:`slice` are collective: every process calls them, in the same order.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process on its machine, from 0.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0):
        self.rank = rank
        self.size = size
        self.local_rank = local_rank

    @property
    def is_main(self) -> bool:
        r"""Whether this process logs and writes files."""
        return self.rank == 0

    def slice(self, num_rows: int) -> slice:
        r"""The rows of this process: contiguous, and no process has more than one row more than
        another.
        """
        share, rest = divmod(num_rows, self.size)
        begin = self.rank * share + min(self.rank, rest)
        return slice(begin, begin + share + (self.rank < rest))

    def sum(self, x: Tensor) -> Tensor:
        r"""Sum of ``x`` over the processes, the same shape in all of them; without gradient."""
        if self.size == 1:
            return x
        x = x.detach().clone()
        dist.all_reduce(x)
        return x

    def all_rows(self, x: Tensor, num_rows: int) -> Tensor:
        r"""Rows ``[num_rows, d]`` of all processes from the rows ``x`` that :meth:`slice` gives to
        this one, with gradient.

        Every process is taken to sum its own loss over them: backward adds the gradients of all
        processes.
        """
        return x if self.size == 1 else _AllRows.apply(x, self.slice(num_rows), num_rows)

    def on_main(self, function: Callable[[], T]) -> T:
        r"""Result of ``function``, called in the main process only; an error there is raised in all
        of them.
        """
        if self.size == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = function()
            except Exception as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    @contextmanager
    def one_per_machine_first(self) -> Iterator[None]:
        r"""The block runs in one process of every machine, then in the others, which find the files
        that it made.
        """
        # a sum on the CPU: a barrier would want to know the GPU of every process
        meet = torch.zeros(())
        if self.local_rank > 0:
            with system_signals():  # it has begun nothing yet, and the first process may take long
                self.sum(meet)
        yield
        if self.local_rank == 0:
            self.sum(meet)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(rank={self.rank}, size={self.size})'


class _AllRows(torch.autograd.Function):
    r"""Concatenates the rows of all processes. A sum of zero-padded rows instead of a gather: it
    takes parts of unequal length on every back end, and its gradient is the same operation.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: slice, num_rows: int) -> Tensor:
        ctx.part = part
        rows = x.new_zeros(num_rows, *x.shape[1:])
        rows[part] = x
        dist.all_reduce(rows)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad[ctx.part], None, None


#: The only process of a run that is not distributed.
ALONE = Processes()


class _SharedBatch(NamedTuple):
    processes: Processes
    num_rows: int


_shared_batch: ContextVar[_SharedBatch | None] = ContextVar('shared_batch', default=None)


@contextmanager
def shared_batch(processes: Processes, num_rows: int) -> Iterator[None]:
    r"""Within this context losses see a slice of a batch of ``num_rows`` rows, whose other rows the
    other processes see.
    """
    token = _shared_batch.set(_SharedBatch(processes, num_rows))
    try:
        yield
    finally:
        _shared_batch.reset(token)


class _DealtRows(torch.autograd.Function):
    r"""Rows of which every process has computed some. All processes compute the same loss from all
    rows, and their gradients are averaged, so that backward needs no message: the gradient of the
    own rows is there, and counts for all processes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, place: Tensor, num_rows: int, size: int) -> Tensor:
        ctx.save_for_backward(place)
        ctx.size = size
        rows = x.new_zeros(num_rows, *x.shape[1:])
        rows[place] = x
        dist.all_reduce(rows)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (place,) = ctx.saved_tensors
        return grad[place] * ctx.size, None, None, None


_equal_work: ContextVar[Processes] = ContextVar('equal_work', default=ALONE)


@contextmanager
def equal_work(processes: Processes) -> Iterator[None]:
    r"""Within this context all processes compute the same, so that :func:`dealt_rows` may deal what
    is costly to them.
    """
    token = _equal_work.set(processes)
    try:
        yield
    finally:
        _equal_work.reset(token)


def dealt_rows(function: Callable[[int], Tensor], sizes: list[int], like: Tensor) -> Tensor:
    r"""Rows ``[sum(sizes), d]`` that ``function`` computes part by part; within :func:`equal_work`
    each part is computed in one process alone, and the gradients of the processes are taken to be
    averaged.

    Args:
        function: Gives the rows ``[sizes[n], d]`` of part ``n``.
        sizes: Rows of every part.
        like: Tensor ``[..., d]`` of the type and on the device of the rows.
    """
    processes = _equal_work.get()
    parts = range(processes.rank, len(sizes), processes.size)
    rows = torch.cat([like.new_zeros(0, like.size(-1)), *(function(part) for part in parts)])
    if processes.size == 1:
        return rows
    start = [0, *itertools.accumulate(sizes)]
    place = torch.cat(
        [
            torch.zeros(0, dtype=torch.long, device=like.device),
            *(torch.arange(start[part], start[part + 1], device=like.device) for part in parts),
        ]
    )
    return _DealtRows.apply(rows, place, start[-1], processes.size)


def batch_is_shared() -> bool:
    r"""Whether losses see only a slice of the batch, see :func:`shared_batch`."""
    return _shared_batch.get() is not None


def batch_rows(x: Tensor) -> tuple[Tensor, int]:
    r"""For losses in which the rows of a batch meet each other: rows ``[B, d]`` of the whole batch,
    with gradient, and the position in it of the first row of ``x``, the rows that this process has.
    """
    shared = _shared_batch.get()
    if shared is None:
        return x, 0
    return shared.processes.all_rows(x, shared.num_rows), shared.processes.slice(
        shared.num_rows
    ).start
