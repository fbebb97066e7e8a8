r"""Graph filters and nearest items: sparse rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.closed_form.kernel import ItemKernel, dense_rows
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, cooccurrence, rows_per_block, spmm, topk_excluding


def graph_filter(
    interactions: Adjacency,
    user_power: float = 0.8,
    power: float = 0.7,
    k: int = 200,
    block_size: int = 1024,
) -> ItemKernel | LinearFilter:
    r"""Low-pass filter of the item graph (Turbo-CF,
    `Park et al., SIGIR 2024 <https://arxiv.org/abs/2404.14243>`_; for :math:`a = 0.5, s = 1` the
    linear filter of GF-CF, `Shen et al., CIKM 2021 <https://arxiv.org/abs/2108.07567>`_), without
    its diagonal.

    .. math::
        \tilde{\mathbf{R}} = \mathbf{D}_u^{-a} \mathbf{R} \mathbf{D}_i^{a - 1}, \qquad
        \mathbf{Q} = (\tilde{\mathbf{R}}^{\top} \tilde{\mathbf{R}})^{\circ s}

    Args:
        interactions: Matrix :math:`\mathbf{R}` ``[U, I]`` without values.
        user_power: Power :math:`a` of the user degree; :math:`1 - a` is that of the item degree.
        power: Power :math:`s` of every entry, positive.
        k: Largest entries kept per item where :math:`s \ne 1`.
        block_size: Items per block; fewer where the block would hold more than 2^23 entries.

    Returns:
        Sparse rows, or for :math:`s = 1` the exact filter as products with the interactions.

    Raises:
        ConfigError: If ``power`` is not positive, or ``k`` or ``block_size`` is below 1.
    """
    if not power > 0:
        raise ConfigError(f'power: got {power}, accepted are positive numbers')
    if power == 1:
        return LinearFilter(interactions, user_power)
    user_weight = (
        interactions.row_degree().clamp(min=1).to(torch.get_default_dtype()).pow(-2 * user_power)
    )
    item_scale = (
        interactions.t().row_degree().clamp(min=1).to(torch.get_default_dtype()).pow(user_power - 1)
    )

    def similarity(item: Tensor) -> Tensor:
        entries = (
            cooccurrence(interactions, item, user_weight)
            * item_scale
            * item_scale[item].unsqueeze(1)
        )
        return entries.pow_(power)

    num_items = interactions.size[1]
    neighbors = nearest_items(similarity, num_items, k, block_size, device=interactions.device)
    return ItemKernel(num_items, neighbors=neighbors)


class LinearFilter(GraphModule):
    r"""The filter of :func:`graph_filter` for :math:`s = 1`, exact and without a matrix of items x
    items.

    Args:
        interactions: Matrix :math:`\mathbf{R}` ``[U, I]`` without values.
        user_power: Power :math:`a` of the user degree.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.closed_form import LinearFilter
        >>> from genrec_pyg.ops import Adjacency
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> interactions = Adjacency.from_edge_index(edge_index, size=(2, 2))
        >>> LinearFilter(interactions)(interactions).shape
        torch.Size([2, 2])
    """

    def __init__(self, interactions: Adjacency, user_power: float = 0.8):
        super().__init__()
        self.num_items = interactions.size[1]
        user_scale = (
            interactions.row_degree().clamp(min=1).to(torch.get_default_dtype()).pow(-user_power)
        )
        item_scale = (
            interactions.t()
            .row_degree()
            .clamp(min=1)
            .to(torch.get_default_dtype())
            .pow(user_power - 1)
        )
        self.scaled = interactions.with_value(
            user_scale[interactions.row()] * item_scale[interactions.col.long()]
        )
        square = self.scaled.t().with_value(self.scaled.t().value.square())
        self.register_buffer(
            'diagonal',
            spmm(square, user_scale.new_ones(square.size[1], 1)).squeeze(1),
            persistent=False,
        )

    def forward(self, rows: Adjacency) -> Tensor:
        r"""Scores ``[B, I]`` of histories ``rows`` ``[B, I]``."""
        return self.propagate(dense_rows(rows, self.diagonal))

    def propagate(self, x: Tensor) -> Tensor:
        r"""Product ``[B, I]`` of dense rows ``x`` ``[B, I]`` and the filter."""
        return spmm(self.scaled.t(), spmm(self.scaled, x.t())).t() - x * self.diagonal


def nearest_items(
    similarity: Callable[[Tensor], Tensor],
    num_items: int,
    k: int,
    block_size: int = 1024,
    include_self: bool = False,
    positive: bool = True,
    device: torch.device | None = None,
) -> Adjacency:
    r"""The ``k`` largest similarities of every item ``[I, I]``, found block by block; equal ones
    rank by lower id.

    Args:
        similarity: Maps items ``[b]`` to their similarities ``[b, I]`` to all items.
        num_items: Number of items ``I``.
        k: Neighbors per item.
        block_size: Items per block; fewer where the block would hold more than 2^23 similarities.
        include_self: Whether an item may be its own neighbor.
        positive: Whether only positive similarities are kept, or all but zero.
        device: Device of the items.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is below 1.
    """
    for name, value in (('k', k), ('block_size', block_size)):
        if value < 1:
            raise ConfigError(f'{name}: got {value}, accepted are integers from 1')
    parts = []
    for item in torch.arange(num_items, device=device).split(rows_per_block(num_items, block_size)):
        own = () if include_self else (torch.arange(item.numel() + 1, device=device), item)
        value, neighbor = topk_excluding(similarity(item), min(k, num_items), *own)
        keep = value > 0 if positive else (value != 0) & (neighbor < num_items)
        parts.append((item.unsqueeze(1).expand_as(neighbor)[keep], neighbor[keep], value[keep]))
    row, neighbor, value = (torch.cat(column) for column in zip(*parts))
    return Adjacency.from_edge_index(torch.stack([row, neighbor]), value, (num_items, num_items))
