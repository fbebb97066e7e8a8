r"""Linear propagation over several graphs or with separate layers; see
:class:`~genrec_pyg.nn.conv.LightConv` for the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from genrec_pyg.ops import Adjacency, spmm


def layer_outputs(x: Tensor, graphs: Iterable[Adjacency]) -> list[Tensor]:
    r"""All layers
    :math:`\mathbf{x}, \mathbf{A}_1 \mathbf{x}, \mathbf{A}_2 \mathbf{A}_1 \mathbf{x}, \dots`, one
    per graph and the input.
    """
    layers = [x]
    for graph in graphs:
        layers.append(spmm(graph, layers[-1]))
    return layers


def spmm_blocks(graph: Adjacency, blocks: Sequence[Tensor]) -> Sequence[Tensor]:
    r"""Product of ``graph`` ``[R, N]`` with every one of ``blocks`` ``[N, d_k]``, in one pass over
    its entries.
    """
    return spmm(graph, torch.cat(list(blocks), dim=1)).split(
        [block.size(1) for block in blocks], dim=1
    )


def half_mean(block: Adjacency, x: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
    r"""Share of one node type in the layer mean over a bipartite graph.

    A walk of even length ends on the type where it started, one of odd length on the other, so

    .. math::
        \frac{1}{L+1} \sum_{l=0}^{L} \mathbf{A}^l \begin{bmatrix} \mathbf{x}_U \\ \mathbf{x}_I
        \end{bmatrix}

    is the sum of two chains of ``L`` half products each. A chain is needed once however many inputs
    it is combined with, and stacked inputs are columns of one product.

    Args:
        block: Normalized block from the type of ``x`` (columns) to the other (rows): ``R`` for
            items, its transpose for users.
        x: Rows of one type ``[n, d]``.
        num_layers: Layers ``L``.

    Returns:
        The shares of the same type ``[n, d]`` and of the other type.
    """
    same, other, current = x, x.new_zeros(block.size[0], x.size(1)), x
    for layer in range(1, num_layers + 1):
        if layer % 2:
            current = spmm(block, current)
            other = other + current
        else:
            current = spmm(block.t(), current)
            same = same + current
    return same / (num_layers + 1), other / (num_layers + 1)


def stream_means(
    block: Adjacency, users: Tensor, items: Sequence[Tensor], num_layers: int
) -> tuple[Tensor, Tensor]:
    r"""Layer means of several streams that share the rows of users: ``L (S + 1)`` half products
    instead of ``2 L S``.

    Args:
        block: Normalized block ``[U, I]`` of the bipartite graph.
        users: Rows of users ``[U, d]``, the same in every stream.
        items: Rows of items ``[I, d]`` of each of the ``S`` streams.
        num_layers: Layers ``L``.

    Returns:
        Users ``[U, S, d]`` and items ``[I, S, d]``.
    """
    same_users, to_items = half_mean(block.t(), users, num_layers)
    same_items, to_users = half_mean(block, torch.cat(list(items), dim=1), num_layers)
    shape = len(items), users.size(1)
    return (
        to_users.view(users.size(0), *shape) + same_users.unsqueeze(1),
        same_items.view(items[0].size(0), *shape) + to_items.unsqueeze(1),
    )


def propagate_once(
    block: Adjacency, x: Tensor, mask: Tensor, num_layers: int
) -> tuple[Tensor, Tensor]:
    r"""Factors with which a linear projection of frozen features needs no further propagation.

    Because
    :math:`\mathcal{P}(\mathbf{X} \mathbf{W} + \mathbf{s} \mathbf{b}^{\top}) =
    \mathcal{P}(\mathbf{X}) \mathbf{W} + \mathcal{P}(\mathbf{s}) \mathbf{b}^{\top}`,
    the propagated ``[X | s]`` times ``[W; b]`` is the propagated projection.

    Args:
        block: As in :func:`half_mean`.
        x: Features ``[n, d_m]``.
        mask: Rows that receive the bias ``[n, 1]``.
        num_layers: Layers ``L``.

    Returns:
        Propagated ``[X | s]`` on the same type ``[n, d_m + 1]`` and on the other type.
    """
    with torch.no_grad():
        return half_mean(block, torch.cat([x, mask.to(x.dtype)], dim=1), num_layers)
