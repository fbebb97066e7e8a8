r"""Exact cosine nearest neighbors in row blocks."""
from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.topk import rows_per_block, topk_excluding


@torch.no_grad()
def knn_graph(x: Tensor, k: int, include_self: bool = True, block_size: int = 512) -> tuple[Tensor, Tensor]:
    r"""The ``k`` most similar rows of every row by cosine, without ever holding all similarities.

    Cosines are taken in float64, block by block: rows that are close to each other compared with their distance from the
    origin (years, prices) differ in digits that float32 does not have. Ties go to the lowest id. Only positive similarities
    make an edge, so that degrees are positive; the edge of a row to itself always has similarity 1, and a zero row has no
    other.

    Args:
        x: Features ``[n, d]``, normalized here.
        k: Neighbors per row, the row itself among them if ``include_self``.
        include_self: Whether a row is its own neighbor.
        block_size: Rows per block; fewer where the block would hold more than 2^22 similarities.

    Returns:
        ``edge_index`` ``[2, E]`` from a row to its neighbors, sorted by row, and their similarities ``[E]``, of the type of
        ``x`` and float32 at least.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is less than 1.
    """
    for name, number in (('k', k), ('block_size', block_size)):
        if number < 1:
            raise ConfigError(f'{name}: got {number}, accepted are integers from 1')
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    num_neighbors = max(min(k - 1 if include_self else k, x.size(0) - 1), 0)
    node = torch.arange(x.size(0), device=x.device)
    # In place: results kept one by one between the blocks would splinter the heap, and every block would need new memory.
    value = x.new_empty(x.size(0), num_neighbors, dtype=dtype)
    index = node.new_empty(x.size(0), num_neighbors)
    length = rows_per_block(2 * x.size(0), block_size)  # float64 takes the memory of two
    norm = torch.cat([_norm(rows) for rows in x.split(length)])
    columns = node.split(rows_per_block(x.size(1), x.size(0)))  # a cast block of them takes no more memory than the scores
    for row in node.split(length):
        block = x[row].double() / norm[row]
        similarity = torch.cat([block @ (x[column].double() / norm[column]).t() for column in columns], dim=1)
        similarity[torch.arange(row.numel(), device=x.device), row] = -torch.inf
        best, index[row] = topk_excluding(similarity, num_neighbors)
        value[row] = best.to(dtype)
    keep = value > 0
    if include_self:
        value = torch.cat([value.new_ones(x.size(0), 1), value], dim=1)
        index = torch.cat([node.unsqueeze(1), index], dim=1)
        keep = torch.cat([keep.new_ones(x.size(0), 1), keep], dim=1)
    source = node.unsqueeze(1).expand_as(index)
    return torch.stack([source[keep], index[keep]]), value[keep]


def _norm(x: Tensor) -> Tensor:
    r"""Norm of every row ``[n, 1]`` in float64, infinity for a zero row."""
    if x.size(1) == 0:
        return x.new_full((x.size(0), 1), torch.inf, dtype=torch.float64)
    largest = torch.linalg.vector_norm(x.double(), torch.inf, dim=1, keepdim=True)
    norm = largest * torch.linalg.vector_norm(x.double() / largest, dim=1, keepdim=True)
    return norm.masked_fill(largest == 0, torch.inf)
