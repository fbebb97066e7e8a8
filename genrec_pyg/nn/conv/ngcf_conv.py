r"""The convolution of NGCF."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.typing import Adj

from genrec_pyg.nn.conv.sparse_conv import SparseConv
from genrec_pyg.ops import Adjacency


class NGCFConv(SparseConv):
    r"""Propagation with an affinity term (NGCF: Wang et al., SIGIR 2019, Eqs. 3 to 7).

    .. math::
        \mathbf{a} = \mathbf{A} \mathbf{h}, \qquad
        \mathbf{h}' = \mathrm{LeakyReLU} \left( (\mathbf{a} + \mathbf{h}) \mathbf{W}_1
        + (\mathbf{a} \odot \mathbf{h}) \mathbf{W}_2 + \mathbf{b} \right)

    No message is multiplied with :math:`\mathbf{W}_2`:
    :math:`\sum_j a_{ij} (\mathbf{h}_j \odot \mathbf{h}_i) = (\mathbf{A} \mathbf{h})_i \odot
    \mathbf{h}_i`,
    so a layer has one sparse product. Of two biases only the sum would be seen; there is one.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        bias: Whether :math:`\mathbf{b}` is learned (not in the paper).
        add_self: Whether :math:`\mathbf{h}` joins :math:`\mathbf{a}` in the first term; not where
            the graph has self loops.
        negative_slope: Slope of the leaky ReLU.
        **kwargs: Arguments of :class:`SparseConv`.

    Shapes:
        ``[N, in_channels]`` to ``[N, out_channels]``.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.conv import NGCFConv
        >>> from genrec_pyg.ops import bipartite_adjacency
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> adj = bipartite_adjacency(edge_index, 2, 2, self_loops=False)
        >>> NGCFConv(4, 8)(torch.eye(4), adj).shape
        torch.Size([4, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        add_self: bool = True,
        negative_slope: float = 0.2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.add_self, self.negative_slope = add_self, negative_slope
        self.weight1 = Parameter(torch.empty(in_channels, out_channels))
        self.weight2 = Parameter(torch.empty(in_channels, out_channels))
        self.bias = Parameter(torch.empty(1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights and bias Xavier uniform."""
        super().reset_parameters()
        for parameter in self.parameters():
            torch.nn.init.xavier_uniform_(parameter)

    def forward(
        self, x: Tensor, edge_index: Adj | Adjacency, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Maps ``[N, in_channels]`` to ``[N, out_channels]``."""
        neighbors = super().forward(x, edge_index, edge_weight)
        first = neighbors + x if self.add_self else neighbors
        out = (
            first @ self.weight1
            if self.bias is None
            else torch.addmm(self.bias, first, self.weight1)
        )
        return F.leaky_relu(torch.addmm(out, neighbors * x, self.weight2), self.negative_slope)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.weight1.size(0)}, {self.weight1.size(1)})'
