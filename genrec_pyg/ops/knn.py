r"""Cosine nearest neighbors: exact in row blocks, and by an approximate index where there are very
many rows.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.topk import rows_per_block, topk_excluding

logger = logging.getLogger(__name__)

#: Rows beyond which neighbors are searched approximately: the exact search takes time that is
#: quadratic in them.
APPROXIMATE_ABOVE = 100_000
#: Points below which faiss calls a cell or a code book badly trained: 39 for each of their
#: centroids.
POINTS_PER_CENTROID = 39
#: Centroids of a code book of one byte.
CODES = 256
#: Channels that one byte of a code stands for, as long as there are at most _MOST_CODES bytes.
_CHANNELS_PER_CODE = 4
_MOST_CODES = 64
#: Candidates per neighbor, of which exact cosines choose, and the most that are fetched.
_OVERSAMPLE = 8
_MOST_CANDIDATES = 2048
#: Cells that a query visits at first and at most; doubled in between until the sample is found well
#: enough.
_PROBES = (16, 256)
#: Rows on which recall is measured, and the recall that is enough.
_SAMPLE = 256
_ENOUGH = 0.95
#: Rows that are searched between two lines of progress at least, and float64 numbers of gathered
#: candidates at a time.
_SEARCH_BLOCK = 16_384
_BLOCK_ENTRIES = 2**23
#: Seconds between two lines of progress.
_PROGRESS_EVERY = 30.0


@torch.no_grad()
def knn_graph(
    x: Tensor,
    k: int,
    include_self: bool = True,
    block_size: int = 512,
    approximate_above: int = APPROXIMATE_ABOVE,
) -> tuple[Tensor, Tensor]:
    r"""The ``k`` most similar rows of every row by cosine, without ever holding all similarities.

    Cosines are taken in float64, block by block: rows that are close to each other compared with
    their distance from the origin (years, prices) differ in digits that float32 does not have. Ties
    go to the lowest id. Only positive similarities make an edge, so that degrees are positive; the
    edge of a row to itself always has similarity 1, and a zero row has no other.

    The exact search is quadratic in the rows. Where there are more than ``approximate_above``,
    candidates come from :class:`torch_geometric.nn.pool.ApproxL2KNNIndex` (faiss, on the CPU) over
    the normalized rows, and exact cosines choose among them: similarities are exact, and only a
    neighbor that is no candidate can be missed. The log names the recall on a sample of rows.
    Without faiss the search stays exact, and the log estimates its time.

    Args:
        x: Features ``[n, d]``, normalized here.
        k: Neighbors per row, the row itself among them if ``include_self``.
        include_self: Whether a row is its own neighbor.
        block_size: Rows per block; fewer where the block would hold more than 2^22 similarities.
        approximate_above: Largest number of rows that are searched exactly.

    Returns:
        ``edge_index`` ``[2, E]`` from a row to its neighbors, sorted by row, and their similarities
        ``[E]``, of the type of ``x`` and float32 at least.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is less than 1, or ``approximate_above`` is
            negative.
    """
    for name, number, least in (
        ('k', k, 1),
        ('block_size', block_size, 1),
        ('approximate_above', approximate_above, 0),
    ):
        if number < least:
            raise ConfigError(f'{name}: got {number}, accepted are integers from {least}')
    num_neighbors = max(min(k - 1 if include_self else k, x.size(0) - 1), 0)
    node = torch.arange(x.size(0), device=x.device)
    norm = torch.cat([_norm(rows) for rows in x.split(rows_per_block(2 * x.size(0), block_size))])
    is_large = x.size(0) > approximate_above and num_neighbors > 0
    if is_large and num_neighbors < _MOST_CANDIDATES and _has_faiss():
        value, index = _approximate(x, norm, num_neighbors, block_size)
    else:
        value, index = _exact(x, norm, node, num_neighbors, block_size, progress=is_large)
    keep = value > 0
    if include_self:
        value = torch.cat([value.new_ones(x.size(0), 1), value], dim=1)
        index = torch.cat([node.unsqueeze(1), index], dim=1)
        keep = torch.cat([keep.new_ones(x.size(0), 1), keep], dim=1)
    source = node.unsqueeze(1).expand_as(index)
    return torch.stack([source[keep], index[keep]]), value[keep]


def usual_num_cells(num_points: int) -> int:
    r"""Cells of an inverted-list index, :math:`4 \sqrt{n}` or as many as the points can teach; 0
    where there are too few points to learn cells and codes at all.
    """
    if num_points < POINTS_PER_CENTROID * CODES:
        return 0
    return min(round(4 * math.sqrt(num_points)), num_points // POINTS_PER_CENTROID)


def _has_faiss() -> bool:
    return importlib.util.find_spec('faiss') is not None


def _exact(
    x: Tensor,
    norm: Tensor,
    query: Tensor,
    num_neighbors: int,
    block_size: int,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Similarities and rows ``[q, num_neighbors]`` nearest to those in ``query``, padded as
    :func:`~genrec_pyg.ops.topk_excluding` does.
    """
    if progress:
        logger.warning(
            '%d rows: their neighbors are searched exactly, in time quadratic in the rows; faiss '
            'makes it short (pip install genrec_pyg[faiss])',
            x.size(0),
        )
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    # In place: results kept one by one between the blocks would splinter the heap, and every block
    # would need new memory.
    value = x.new_empty(query.numel(), num_neighbors, dtype=dtype)
    index = query.new_empty(query.numel(), num_neighbors)
    length = rows_per_block(2 * x.size(0), block_size)  # float64 takes the memory of two
    node = torch.arange(x.size(0), device=x.device)
    # a cast block of them takes no more memory than the scores
    columns = node.split(rows_per_block(x.size(1), x.size(0)))
    begin, said = time.monotonic(), -math.inf
    for place in torch.arange(query.numel(), device=x.device).split(length):
        row = query[place]
        block = x[row].double() / norm[row]
        similarity = torch.cat(
            [block @ (x[column].double() / norm[column]).t() for column in columns], dim=1
        )
        similarity[torch.arange(row.numel(), device=x.device), row] = -torch.inf
        best, index[place] = topk_excluding(similarity, num_neighbors)
        value[place] = best.to(dtype)
        if progress and time.monotonic() - said >= _PROGRESS_EVERY:
            said, done = time.monotonic(), int(place[-1]) + 1
            logger.info(
                'neighbors of %d of %d rows, about %.0f s to go',
                done,
                x.size(0),
                (said - begin) / done * (x.size(0) - done),
            )
    return value, index


def _approximate(
    x: Tensor, norm: Tensor, num_neighbors: int, block_size: int
) -> tuple[Tensor, Tensor]:
    r"""As :func:`_exact` for all rows, from candidates of an index over the rows that are not
    zero.
    """
    import faiss  # noqa: F401  PyG needs it in the constructors below
    from torch_geometric.nn.pool import ApproxL2KNNIndex, L2KNNIndex

    begin = time.monotonic()
    node = norm.isfinite().view(-1).nonzero().view(-1)
    num_codes = min(_MOST_CODES, max(1, x.size(1) // _CHANNELS_PER_CODE))
    width = x.size(1) + -x.size(1) % num_codes  # zero channels change no distance
    cells = usual_num_cells(node.numel())
    # Distances do not change with the origin, but float32 has digits for rows around it only.
    length = max(1, _BLOCK_ENTRIES // max(x.size(1), 1))
    center = sum((x[rows].double() / norm[rows]).sum(dim=0) for rows in node.split(length)) / max(
        node.numel(), 1
    )
    vectors = torch.zeros(node.numel(), width)
    for place in torch.arange(node.numel(), device=x.device).split(length):
        unit = x[node[place]].double() / norm[node[place]]
        vectors[place.cpu(), : x.size(1)] = (unit - center).float().cpu()
    value = x.new_full(
        (x.size(0), num_neighbors),
        -torch.inf,
        dtype=x.dtype if x.dtype == torch.float64 else torch.float32,
    )
    index = node.new_full((x.size(0), num_neighbors), x.size(0))
    if node.numel() < 2:
        return value, index
    search = (
        ApproxL2KNNIndex(cells, _PROBES[0], num_codes, vectors) if cells else L2KNNIndex(vectors)
    )
    # a row finds itself
    candidates = min(_OVERSAMPLE * num_neighbors + 1, _MOST_CANDIDATES, node.numel())

    def fetch(places: Tensor) -> tuple[Tensor, Tensor]:
        found = search.search(vectors[places], candidates).index.to(x.device)
        return _rank(x, norm, node, node[places.to(x.device)], found, num_neighbors)

    sample = torch.linspace(
        0, node.numel() - 1, min(_SAMPLE, node.numel()), dtype=torch.float64
    ).long()
    expected, _ = _exact(x, norm, node[sample.to(x.device)], num_neighbors, block_size)
    probes = min(_PROBES[0], max(cells, 1))
    while True:
        if cells:
            search.index.nprobe = probes
        recall = _recall(fetch(sample)[0], expected)
        if recall >= _ENOUGH or probes >= min(_PROBES[1], cells):
            break
        probes = min(2 * probes, _PROBES[1], cells)
    for places in torch.arange(node.numel()).split(_SEARCH_BLOCK):
        rows = node[places.to(x.device)]
        value[rows], index[rows] = fetch(places)
    logger.info(
        '%d rows: approximate neighbors in %.1f s (%d of %d cells per row), recall %.3f on a '
        'sample of %d',
        x.size(0),
        time.monotonic() - begin,
        probes if cells else 0,
        cells,
        recall,
        sample.numel(),
    )
    return value, index


def _rank(
    x: Tensor, norm: Tensor, node: Tensor, row: Tensor, found: Tensor, num_neighbors: int
) -> tuple[Tensor, Tensor]:
    r"""The best ``num_neighbors`` of candidates ``found`` ``[b, c]``, places in ``node`` or -1, of
    ``row`` ``[b]``.
    """
    values, indices = [], []
    length = max(1, _BLOCK_ENTRIES // max(found.size(1) * x.size(1), 1))
    for rows, places in zip(row.split(length), found.split(length)):
        # faiss pads with -1
        candidate = torch.where(places < 0, x.size(0), node[places.clamp(min=0)])
        # ascending, so that equal similarities rank by lower id
        candidate = candidate.sort(dim=1).values
        inside = candidate.clamp(max=x.size(0) - 1)
        unit = (x[rows].double() / norm[rows]).unsqueeze(2)
        similarity = ((x[inside].double() / norm[inside]) @ unit).squeeze(2)
        similarity = similarity.masked_fill(
            (candidate == x.size(0)) | (candidate == rows.unsqueeze(1)), -torch.inf
        )
        best, place = topk_excluding(similarity, num_neighbors)
        candidate = F.pad(candidate, (0, 1), value=x.size(0))  # what padding of the top-k points to
        values.append(best.to(x.dtype if x.dtype == torch.float64 else torch.float32))
        indices.append(candidate.gather(1, place))
    return torch.cat(values), torch.cat(indices)


def _recall(found: Tensor, expected: Tensor) -> float:
    r"""Share of the positive exact neighbors that were found; of equally similar ones any
    counts.
    """
    wanted = expected > 0
    if not bool(wanted.any()):
        return 1.0
    # Similarities are exact, so that whatever reaches the least one that was wanted is right.
    least = expected.masked_fill(~wanted, torch.inf).amin(dim=1, keepdim=True)
    hits = (found >= least - 1e-6 * least.abs()).sum(dim=1).clamp(max=wanted.sum(dim=1))
    return float(hits[wanted.any(dim=1)].sum() / wanted.sum())


def _norm(x: Tensor) -> Tensor:
    r"""Norm of every row ``[n, 1]`` in float64, infinity for a zero row."""
    if x.size(1) == 0:
        return x.new_full((x.size(0), 1), torch.inf, dtype=torch.float64)
    largest = torch.linalg.vector_norm(x.double(), torch.inf, dim=1, keepdim=True)
    norm = largest * torch.linalg.vector_norm(x.double() / largest, dim=1, keepdim=True)
    return norm.masked_fill(largest == 0, torch.inf)
