r"""Exact cosine nearest neighbours in row blocks."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec_pyg.ops.topk import topk_excluding


@torch.no_grad()
def knn_graph(x: Tensor, k: int, include_self: bool = True, block_size: int = 1024) -> tuple[Tensor, Tensor]:
    r"""The ``k`` most similar rows of every row by cosine, without ever holding all similarities.

    Ties go to the lowest id. Only positive similarities make an edge, so that degrees are positive; the edge of a row to
    itself always has similarity 1, and a zero row has no other.

    Args:
        x: Features ``[n, d]``, normalised here in float32.
        k: Neighbours per row, the row itself among them if ``include_self``.
        include_self: Whether a row is its own neighbour.
        block_size: Rows per block.

    Returns:
        ``edge_index`` ``[2, E]`` from a row to its neighbours, sorted by row, and their similarities ``[E]``.
    """
    x = F.normalize(x.float(), dim=1)
    num_neighbors = min(k - 1 if include_self else k, x.size(0) - 1)
    edges, similarities = [], []
    for row in torch.arange(x.size(0), device=x.device).split(block_size):
        rowptr = torch.arange(row.numel() + 1, device=x.device)
        value, index = topk_excluding(x[row] @ x.t(), num_neighbors, rowptr, row)
        source = row.unsqueeze(1).expand_as(index)
        keep = value > 0
        source, index, value = source[keep], index[keep], value[keep]
        if include_self:
            source, index = torch.cat([row, source]), torch.cat([row, index])
            value = torch.cat([value.new_ones(row.numel()), value])
            order = torch.argsort(source, stable=True)
            source, index, value = source[order], index[order], value[order]
        edges.append(torch.stack([source, index]))
        similarities.append(value)
    return torch.cat(edges, dim=1), torch.cat(similarities)
