r"""Long computations in parts, each kept in a file, so that a kill costs no more than one."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from genrec_pyg.exceptions import OutputError
from genrec_pyg.utils.files import write_atomically, write_json
from genrec_pyg.utils.locks import release, take

logger = logging.getLogger(__name__)

#: Seconds between two lines of progress.
_INTERVAL = 10.0

#: Rows of some items and, for those that have none, the reason: ``(x [n, d], {place: reason})``.
Part = tuple[np.ndarray, dict[int, str]]


class Progress:
    r"""Says how far a computation is, how fast, and how long it still takes.

    Args:
        name: What is made.
        items: Number of items.
        cost: Their cost together, of any unit, which the time left follows.
    """

    def __init__(self, name: str, items: int, cost: float):
        self.name, self.items, self.cost = name, items, cost
        self.done = self.spent = self.measured = self.measured_cost = 0.0
        self.started = self.said = time.monotonic()

    def add(self, items: int, cost: float, computed: bool = True) -> None:
        r"""Counts items as done; what was not computed now has no part in the rate."""
        self.done += items
        self.spent += cost
        if not computed:
            self.started = time.monotonic()
            return
        self.measured += items
        self.measured_cost += cost
        now = time.monotonic()
        if now - self.said >= _INTERVAL and self.done < self.items:
            self.said = now
            logger.info(
                '%s: %d of %d items, %.3g a second, %s left',
                self.name,
                self.done,
                self.items,
                self.rate(),
                clock(self.left()),
            )

    def rate(self) -> float:
        r"""Items per second, of those that were computed now."""
        return self.measured / max(1e-9, time.monotonic() - self.started)

    def left(self) -> float:
        r"""Seconds that the rest takes at the rate so far."""
        seconds = time.monotonic() - self.started
        return (self.cost - self.spent) * seconds / max(1e-9, self.measured_cost)


def clock(seconds: float) -> str:
    r"""Seconds as people say them: ``'40 s'``, ``'2 min 5 s'``, ``'3 h 7 min'``."""
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    minutes, rest = divmod(whole, 60)
    return f'{minutes} min {rest} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'


def compute_parts(
    folder: Path | None,
    identity: dict[str, Any],
    parts: Sequence[np.ndarray],
    costs: np.ndarray,
    compute: Callable[[np.ndarray], Part],
    name: str,
) -> Part:
    r"""Computes rows in parts and puts them together.

    Args:
        folder: Where finished parts are kept until :func:`remove_parts`; :obj:`None` keeps none.
        identity: What decides the result. Parts of another identity are removed.
        parts: Places of the items of each part; together all of ``0 .. n - 1``.
        costs: Cost of each item ``[n]``.
        compute: From places to their rows.
        name: What is made, for messages.

    Returns:
        Rows ``[n, d]`` float32 and reasons by place; rows with a reason are zero.

    Raises:
        ConfigError: If another process works in the folder.
        OutputError: If the system refuses.
    """
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(_hold(folder))
            _start(folder, identity)
        progress = Progress(name, len(costs), float(costs.sum()))
        x, reasons = None, {}
        for number, places in enumerate(parts):
            file = None if folder is None else folder / f'{number:06d}.npz'
            part = None if file is None else _read(file, len(places))
            cost = float(costs[places].sum())
            if part is None:
                part = compute(places)
                if file is not None:
                    _write(file, part)
                progress.add(len(places), cost)
            else:
                progress.add(len(places), cost, computed=False)
            if x is None:
                x = np.zeros((len(costs), part[0].shape[1]), dtype=np.float32)
            x[places] = part[0]
            reasons.update({int(places[place]): reason for place, reason in part[1].items()})
        if progress.measured < progress.done:
            logger.info(
                '%s: %d items were there from an earlier start',
                name,
                progress.done - progress.measured,
            )
        logger.info(
            '%s: %d items in %s, %.3g a second',
            name,
            progress.measured,
            clock(time.monotonic() - progress.started),
            progress.rate(),
        )
        return (np.zeros((0, 0), dtype=np.float32) if x is None else x), reasons


def remove_parts(folder: Path) -> None:
    r"""Removes the folder of finished parts."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    r"""Keeps other processes out of the folder, which is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'{folder}: cannot be made ({error.strerror})') from error
    lock = take(folder, folder, 'encoding')
    try:
        yield
    finally:
        release(folder, lock)


def _start(folder: Path, identity: dict[str, Any]) -> None:
    r"""Empties the folder where it holds parts of something else."""
    file = folder / 'identity.json'
    before = None
    with suppress(OSError, ValueError):
        before = json.loads(file.read_text(encoding='utf-8'))
    if before == json.loads(json.dumps(identity)):
        return
    if before is not None:
        logger.info(
            '%s: what was begun is of another encoder, content or setting and is made again', folder
        )
    for old in folder.glob('*.npz'):
        old.unlink()
    write_json(file, identity)


def _write(file: Path, part: Part) -> None:
    x, reasons = part
    places = np.array(sorted(reasons), dtype=np.int64)
    texts = np.array([reasons[place] for place in places.tolist()], dtype=np.str_)
    write_atomically(file, lambda out: np.savez(out, x=x, places=places, reasons=texts))


def _read(file: Path, rows: int) -> Part | None:
    r"""A part that was finished before; :obj:`None` where it is not there or damaged."""
    try:
        with np.load(file, allow_pickle=False) as found:
            x, places, texts = found['x'], found['places'], found['reasons']
    except Exception:  # made again, whatever is wrong with it
        return None
    if x.ndim != 2 or len(x) != rows:
        return None
    return x.astype(np.float32), dict(zip(places.tolist(), texts.tolist()))
