r"""Candidates from an approximate index; needs faiss, not torch."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable

import numpy as np

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.serving.parts import Inner

INDEXES = ('exact', 'approximate')
#: Candidates per wanted item.
_OVERSAMPLE = 4
#: Points per cell below which faiss warns that cells are not learned well.
_POINTS_PER_CELL = 39
#: Share of the items beyond which all are ranked.
_MOST = 0.5

#: Takes an embedding, ``k`` and the number of items that are left out; returns item numbers, or
#: :obj:`None`.
Candidates = Callable[[np.ndarray, int, int], np.ndarray | None]


def make_candidates(
    inner: Inner | None, index: str, num_probes: int = 16, num_cells: int | None = None
) -> Candidates | None:
    r"""The index ``index`` over the items of ``inner``: :obj:`None` for the exact one.

    Inverted lists over the item embeddings (faiss ``IVF,Flat``).

    Args:
        inner: Embeddings, or :obj:`None` for the exact index.
        index: ``'exact'`` or ``'approximate'``.
        num_probes: Cells that a query visits.
        num_cells: Cells; by default :math:`4 \sqrt{I}` or as many as the items can teach.

    Raises:
        ConfigError: On another index, without faiss, or with more cells than items.
    """
    if index not in INDEXES:
        raise ConfigError(f'--index: got {index!r}, accepted are {", ".join(INDEXES)}')
    if index == 'exact':
        return None
    try:
        faiss = importlib.import_module('faiss')
    except ImportError as error:
        raise ConfigError(
            "--index: got 'approximate', which needs the package faiss (pip install "
            "genrec_pyg[faiss]); accepted without it is 'exact'"
        ) from error
    items = np.ascontiguousarray(inner.items)
    num_items, width = items.shape
    if num_cells is None:
        num_cells = max(1, min(round(4 * math.sqrt(num_items)), num_items // _POINTS_PER_CELL))
    if not 1 <= num_cells <= num_items:
        raise ConfigError(
            f'--num_cells: got {num_cells} for {num_items} items, accepted are 1 to the number of '
            f'items'
        )
    found = faiss.index_factory(width, f'IVF{num_cells},Flat', faiss.METRIC_INNER_PRODUCT)
    found.train(items)
    found.add(items)
    found.nprobe = min(num_probes, num_cells)

    def search(query: np.ndarray, k: int, num_left_out: int) -> np.ndarray | None:
        wanted = _OVERSAMPLE * k + num_left_out
        if wanted > _MOST * num_items:
            return None
        _, item = found.search(np.atleast_2d(query), wanted)
        item = np.unique(item)
        return item[item >= 0]

    return search
