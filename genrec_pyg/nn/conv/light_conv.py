r"""The linear convolutions of graph recommenders."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.typing import Adj

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.conv.sparse_conv import SparseConv
from genrec_pyg.ops import Adjacency, DividedAdjacency, layer_mean


class _LayeredConv(SparseConv):
    def __init__(self, num_layers: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        if num_layers < 0:
            raise ConfigError(f'num_layers: got {num_layers}, accepted are integers from 0')
        self.num_layers = num_layers

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_layers={self.num_layers})'


class LightConv(_LayeredConv):
    r"""Light graph convolution over users and items with layer mean (LightGCN: He et al., SIGIR
    2020, Eqs. 3 and 4).

    .. math::
        \mathbf{Y} = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{A}^l \mathbf{X}

    With an :class:`~genrec_pyg.ops.Adjacency` all layers and their mean are one kernel
    (:func:`genrec_pyg.ops.layer_mean`); otherwise the layers pass messages one after another.
    Weights are taken as they are: normalize once, by :func:`genrec_pyg.ops.bipartite_adjacency`,
    not in every layer of every step.

    Args:
        num_layers: Layers ``L``, from 0.
        **kwargs: Arguments of :class:`SparseConv`.

    Raises:
        ConfigError: If ``num_layers`` is negative.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.conv import LightConv
        >>> from genrec_pyg.ops import bipartite_adjacency
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> adj = bipartite_adjacency(edge_index, 2, 2, self_loops=False)
        >>> LightConv(num_layers=2)(torch.eye(4), adj).shape
        torch.Size([4, 4])
    """

    def forward(
        self, x: Tensor, edge_index: Adj | Adjacency, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Maps features of all nodes ``[N, d]`` to the mean over layers ``[N, d]``."""
        if isinstance(edge_index, DividedAdjacency):
            return layer_mean(edge_index, x, self.num_layers, self.backend)
        hooked = (
            self._observed()
            or self._message_and_aggregate_forward_pre_hooks
            or self._message_and_aggregate_forward_hooks
        )
        if isinstance(edge_index, Adjacency) and not hooked:
            matrix = edge_index if edge_weight is None else edge_index.with_value(edge_weight)
            return layer_mean(matrix, x, self.num_layers, self.backend)
        out = x
        for _ in range(self.num_layers):
            out = x + super().forward(out, edge_index, edge_weight)
        return out / (self.num_layers + 1)


class ItemGraphConv(_LayeredConv):
    r"""Smoothing over an item-item graph :math:`\mathbf{Y} = \mathbf{S}^{L} \mathbf{X}` (LATTICE:
    Zhang et al., MM 2021, Eq. 9; FREEDOM and MGCN use the same).

    Args:
        num_layers: Layers ``L``, from 0.
        **kwargs: Arguments of :class:`SparseConv`.

    Raises:
        ConfigError: If ``num_layers`` is negative.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.conv import ItemGraphConv
        >>> from genrec_pyg.ops import knn_adjacency
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> ItemGraphConv(num_layers=1)(torch.eye(3), knn_adjacency(x, 2)).shape
        torch.Size([3, 3])
    """

    def forward(
        self, x: Tensor, edge_index: Adj | Adjacency, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Maps item features ``[I, d]`` to ``[I, d]``."""
        for _ in range(self.num_layers):
            x = super().forward(x, edge_index, edge_weight)
        return x


class ModalityConv(SparseConv):
    r"""User rows of several modalities from one pass over the interactions.

    .. math::
        \mathbf{P}_m = \hat{\mathbf{R}} \mathbf{Q}_m \quad \text{for all } m

    The modalities ``[M, I, d]`` are column blocks of one product, so every edge is read once for
    all of them.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.conv import ModalityConv
        >>> from genrec_pyg.ops import bipartite_block
        >>> block = bipartite_block(torch.tensor([[0, 0, 1], [0, 1, 1]]), 2, 2, False)
        >>> ModalityConv()(torch.eye(2), block)
        tensor([[0.7071, 0.5000],
                [0.0000, 0.7071]])
    """
