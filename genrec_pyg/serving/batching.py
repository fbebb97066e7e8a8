r"""Lists of concurrent requests, made together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from genrec_pyg.serving.engine import Engine
from genrec_pyg.serving.limits import Limits
from genrec_pyg.serving.ranking import Query, Ranked


class OverloadedError(Exception):
    r"""More lists wait than are accepted."""


class _Waiting(NamedTuple):
    engine: Engine
    queries: Sequence[Query]
    done: asyncio.Future


class Batcher:
    r"""Collects what requests ask for while others are read, and makes it in one product.

    Nothing waits for a timer: whatever has arrived when the event loop comes round is a batch, so
    an idle service answers one request at once and a busy one many together. Requests for many
    lists take turns with the others, a batch each.

    Args:
        limits: Lists per batch and lists that may wait.
        observe: Called with the number of lists of every batch.
    """

    def __init__(self, limits: Limits, observe: Callable[[int], None] = lambda size: None):
        self._limits = limits
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self.waiting = 0

    async def lists(self, engine: Engine, queries: Sequence[Query]) -> list[Ranked]:
        r"""Lists of ``queries``, made by ``engine``.

        Raises:
            OverloadedError: If too many wait already.
        """
        if self.waiting + len(queries) > self._limits.waiting:
            raise OverloadedError
        out: list[Ranked] = []
        self.waiting += len(queries)
        try:
            for begin in range(0, len(queries), self._limits.batch):
                part = queries[begin : begin + self._limits.batch]
                loop = asyncio.get_running_loop()
                waiting = _Waiting(engine, part, loop.create_future())
                if not self._queue:
                    loop.call_soon(self._make)
                self._queue.append(waiting)
                out += await waiting.done
        finally:
            self.waiting -= len(queries)
        return out

    def _make(self) -> None:
        r"""Makes the next batch: whatever waits first, as long as it fits and is for the same
        bundle.
        """
        batch, size = [], 0
        while self._queue and (
            not batch
            or (
                size + len(self._queue[0].queries) <= self._limits.batch
                and self._queue[0].engine is batch[0].engine
            )
        ):
            waiting = self._queue.popleft()
            if not waiting.done.cancelled():  # the client has gone
                batch.append(waiting)
                size += len(waiting.queries)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._make)
        if not batch:
            return
        self._observe(size)
        try:
            found = batch[0].engine.lists([query for waiting in batch for query in waiting.queries])
        except Exception as error:
            for waiting in batch:
                waiting.done.set_exception(error)
            return
        place = 0
        for waiting in batch:
            waiting.done.set_result(found[place : place + len(waiting.queries)])
            place += len(waiting.queries)
