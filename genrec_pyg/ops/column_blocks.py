r"""Sparse products on some columns at a time, so that the rows that they gather stay in the
cache.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from genrec_pyg.exceptions import ConfigError

#: Widths that are tried, widest first; below 8 columns a gathered row is a fraction of a cache
#: line.
_WIDTHS = (64, 32, 16, 8)
#: Bytes of a cache that cannot be read off the system.
_UNKNOWN_CACHE = 8 * 2**20

_chosen: int | None = None


def use_column_blocks(width: int | None) -> None:
    r"""Sets the columns that products on the CPU take at a time.

    Args:
        width: Columns, 0 for all at once, or :obj:`None` for the widest of 8 to 64 whose part of
            the gathered table fits the cache (all at once where none does). Results have the same
            bits with each.

    Raises:
        ConfigError: If ``width`` is negative.
    """
    global _chosen
    if width is not None and width < 0:
        raise ConfigError(f'column_block: got {width}, accepted are None and integers from 0')
    _chosen = width


def column_block(num_rows: int, channels: int, itemsize: int = 4) -> int:
    r"""Columns to take at a time of a table ``[num_rows, channels]`` that a product gathers rows
    of.
    """
    if _chosen is not None:
        return min(_chosen, channels) or channels
    budget = cache_bytes() // processes_of_machine() * 2 // 3
    if num_rows * channels * itemsize <= budget:
        return channels
    return next(
        (width for width in _WIDTHS if width < channels and num_rows * width * itemsize <= budget),
        channels,
    )


def in_column_blocks(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r"""``product(x)``, a function of columns ``[N, d]`` that treats each by itself, on the CPU in
    blocks of them.
    """
    width = (
        column_block(x.size(0), x.size(1), x.element_size())
        if x.device.type == 'cpu'
        else x.size(1)
    )
    if width >= x.size(1):
        return product(x)
    first = product(x[:, :width].contiguous())
    out = first.new_empty(first.size(0), x.size(1))
    out[:, :width] = first
    for begin in range(width, x.size(1), width):
        out[:, begin : begin + width] = product(x[:, begin : begin + width].contiguous())
    return out


@functools.lru_cache(maxsize=1)
def cache_bytes() -> int:
    r"""Bytes of the largest cache of a core, shared or its own; 8 MiB where the system does not
    tell.
    """
    found = [_UNKNOWN_CACHE]
    for path in Path('/sys/devices/system/cpu/cpu0/cache').glob('index*/size'):
        try:
            text = path.read_text().strip()
            found.append(int(text.rstrip('KM')) * {'K': 2**10, 'M': 2**20}.get(text[-1:], 1))
        except (OSError, ValueError):
            continue
    return max(found)


def processes_of_machine() -> int:
    r"""Processes that share the caches of this machine, as a launcher tells."""
    text = os.environ.get('LOCAL_WORLD_SIZE', '1')
    return int(text) if text.isdecimal() and int(text) > 0 else 1
