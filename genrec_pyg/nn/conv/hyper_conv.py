r"""Propagation through learned hyperedges."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

#: How hyperedges are dropped in training.
HYPER_DROPOUT = ('element', 'edge')


class HyperConv(torch.nn.Module):
    r"""Nodes of one type exchange messages through ``K`` hyperedges with learned memberships :math:`\mathbf{H} = \mathbf{E}
    \mathbf{W}` (HCCF: Xia et al., SIGIR 2022, Eqs. 4 to 6).

    .. math::
        \mathbf{q} = \varphi(\mathbf{H}^{\top} \mathbf{x}), \qquad \mathbf{q} \leftarrow \varphi(\mathbf{V}_c \mathbf{q}) +
        \mathbf{q}, \qquad \mathbf{y} = \varphi(\mathbf{H} \mathbf{q})

    :math:`\mathbf{H}^{\top} \mathbf{x} = \mathbf{W}^{\top} (\mathbf{E}^{\top} \mathbf{x})`, so unless single memberships are
    dropped nothing of size nodes x ``K`` is made. With identity activations the ``K`` hyperedges act as one matrix of rank
    ``d`` at most.

    Args:
        channels: Width ``d``.
        num_hyperedges: Hyperedges ``K``.
        num_layers: Layers that have maps of their own.
        num_maps: Maps :math:`\mathbf{V}_c` per layer.
        slope: Slope of the leaky ReLU :math:`\varphi`; 1 is the identity.
        keep: Share of memberships that survives a training step, the others being scaled up.
        dropout: ``'element'`` drops single memberships, ``'edge'`` whole hyperedges.
        scale: Factor on the memberships.
    """

    def __init__(self, channels: int, num_hyperedges: int, num_layers: int = 1, num_maps: int = 0, slope: float = 1.0,
                 keep: float = 1.0, dropout: str = 'element', scale: float = 1.0):
        super().__init__()
        self.slope, self.keep, self.dropout, self.scale = slope, keep, dropout, scale
        self.weight = Parameter(torch.empty(channels, num_hyperedges))
        self.maps = torch.nn.ParameterList(
            Parameter(torch.empty(num_maps, num_hyperedges, num_hyperedges)) for _ in range(num_layers if num_maps else 0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""All weights Xavier uniform."""
        torch.nn.init.xavier_uniform_(self.weight)
        for maps in self.maps:
            for matrix in maps:
                torch.nn.init.xavier_uniform_(matrix)

    def forward(self, table: Tensor, x: Tensor, layer: int = 0) -> Tensor:
        r"""Propagates ``x`` ``[n, d]`` with the memberships of ``table`` ``[n, d]``."""
        weight = self.scale * self.weight
        drops = self.training and self.keep < 1
        if drops and self.dropout == 'element':
            members = F.dropout(table @ weight, 1 - self.keep)
            return self._activate(members @ self._map(self._activate(members.t() @ x), layer))
        if drops:
            weight = weight * F.dropout(weight.new_ones(weight.size(1)), 1 - self.keep)
        features = self._activate(weight.t() @ (table.t() @ x))
        return self._activate(table @ (weight @ self._map(features, layer)))

    def _map(self, features: Tensor, layer: int) -> Tensor:
        for matrix in self.maps[layer] if self.maps else ():
            features = self._activate(matrix @ features) + features
        return features

    def _activate(self, x: Tensor) -> Tensor:
        return x if self.slope == 1 else F.leaky_relu(x, self.slope)
