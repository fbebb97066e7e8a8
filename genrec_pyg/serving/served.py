r"""A bundle in use: ids to numbers, lists to what a client reads; and its replacement while
requests go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genrec_pyg.exceptions import GenRecError
from genrec_pyg.serving.bundle import manifest_state, read_bundle
from genrec_pyg.serving.engine import Engine
from genrec_pyg.serving.ranking import Query, Ranked

logger = logging.getLogger(__name__)

Id = int | str


class RequestError(Exception):
    r"""A request that cannot be answered.

    Args:
        status: HTTP status.
        code: One word for programs.
        message: A sentence for people.
    """

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Served:
    r"""A bundle that is ready.

    Args:
        folder: Its folder.
        index: See :class:`~genrec_pyg.serving.engine.Engine`.
        num_probes: See :class:`~genrec_pyg.serving.engine.Engine`.
        num_cells: See :class:`~genrec_pyg.serving.engine.Engine`.

    Raises:
        DataError: If the bundle is none.
        ConfigError: If there is no such index here.
    """

    def __init__(
        self,
        folder: Path,
        index: str = 'exact',
        num_probes: int = 16,
        num_cells: int | None = None,
    ):
        bundle = read_bundle(folder)
        self.engine = Engine(bundle, index, num_probes, num_cells)
        self.name = bundle.name[:16]
        self.manifest = bundle.manifest
        self.users, self.items, self.titles = bundle.users, bundle.items, bundle.titles
        self._user = {str(raw): number for number, raw in enumerate(self.users)}
        self._item = {str(raw): number for number, raw in enumerate(self.items)}
        self._warm_up()

    def user(self, raw: Id) -> int:
        r"""Number of a user.

        Raises:
            RequestError: If there is none (404).
        """
        number = self._user.get(str(raw))
        if number is None:
            raise RequestError(
                404,
                'unknown_user',
                f'users: no user {_short(raw)}; /fold-in takes a history instead',
            )
        return number

    def item(self, raw: Id, field: str = 'items') -> int:
        r"""Number of an item.

        Raises:
            RequestError: If there is none (404).
        """
        number = self._item.get(str(raw))
        if number is None:
            raise RequestError(404, 'unknown_item', f'{field}: no item {_short(raw)}')
        return number

    def numbers(self, raws: Iterable[Id], field: str) -> np.ndarray:
        r"""Numbers of items, each once, ascending.

        Raises:
            RequestError: If one is unknown (404).
        """
        return np.unique(np.array([self.item(raw, field) for raw in raws], dtype=np.int64))

    def history(self, raws: Sequence[Id]) -> tuple[np.ndarray, list[Id]]:
        r"""Numbers of the items of a history, as given where the model reads their order, else each
        once, and the ids that are unknown.
        """
        found = [self._item.get(str(raw), -1) for raw in raws]
        unknown = [raw for raw, number in zip(raws, found) if number < 0]
        numbers = np.array([number for number in found if number >= 0], dtype=np.int64)
        return numbers if self.engine.reads_order else np.unique(numbers), unknown

    def require(self, ability: str) -> None:
        r"""Refuses what the model cannot do.

        Raises:
            RequestError: With the reason (409).
        """
        if ability in self.engine.unable:
            raise RequestError(
                409, 'unsupported', f'{ability.replace("_", "-")}: {self.engine.unable[ability]}'
            )

    def entries(self, ranked: Ranked) -> list[dict[str, Any]]:
        r"""A list as a client reads it."""
        pairs = zip(ranked.item.tolist(), ranked.score.tolist())
        if self.titles is None:
            return [{'item': self.items[item], 'score': score} for item, score in pairs]
        return [
            {'item': self.items[item], 'score': score, 'title': self.titles[item]}
            for item, score in pairs
        ]

    def _warm_up(self) -> None:
        r"""Pays for first calls before the first request does."""
        if self.users:
            self.engine.lists([Query(10, self.engine.known.row(0), user=0)] * 2)
        if self.items and 'similar' not in self.engine.unable:
            self.engine.similar(0, 10)
        if self.items and self.engine.reads_order:
            only = np.zeros(1, dtype=np.int64)
            self.engine.lists([Query(10, only, history=only)])


class Current:
    r"""The bundle that answers now, and whoever looks for the next one.

    Args:
        folder: Folder of the bundle.
        load: Makes a :class:`Served` of it.
        observe: Called with whether a reload went well.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path], Served],
        observe: Callable[[bool], None] = lambda good: None,
    ):
        self._folder, self._load, self._observe = folder, load, observe
        self._state = manifest_state(folder)
        self.served = load(folder)
        _settle()
        self.error: str | None = None

    async def watch(self, seconds: float, asked: asyncio.Event) -> None:
        r"""Takes a new bundle whenever the manifest changes, looked at every ``seconds``, or when
        ``asked``. Requests that
        are answered meanwhile keep the one that they began with. A bundle that cannot be used is
        named in the log, and the one before stays.
        """
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asked.wait(), seconds)
            state = manifest_state(self._folder)
            if asked.is_set() or (state is not None and state != self._state):
                asked.clear()
                self._state = state
                await self.reload()

    async def reload(self) -> None:
        r"""Reads the folder in a thread and then changes over in one step."""
        try:
            served = await asyncio.to_thread(self._load, self._folder)
        except GenRecError as error:
            self.error = str(error)
            logger.error('the bundle before is kept: %s', error)
        except Exception as error:  # whatever a file does, the service goes on
            self.error = f'{type(error).__name__}: {error}'
            logger.exception('the bundle before is kept')
        else:
            self.served, self.error = served, None
            _settle()
            logger.info('serves bundle %s', served.name)
        self._observe(self.error is None)


def _settle() -> None:
    r"""Keeps the collector from looking through what stays, which would delay answers."""
    gc.unfreeze()  # what the bundle before has left
    gc.collect()
    gc.freeze()


def _short(raw: Id) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else f'{text[:77]}...'
