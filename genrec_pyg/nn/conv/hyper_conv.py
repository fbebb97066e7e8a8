r"""Propagation through learned hyperedges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.validation import check_dropout

#: How hyperedges are dropped in training.
HYPER_DROPOUT = ('element', 'edge')
#: Noise on the logits of soft memberships.
HYPER_NOISE = ('gumbel', 'logistic')


class HyperConv(torch.nn.Module):
    r"""Nodes of one type exchange messages through ``K`` hyperedges with learned memberships
    :math:`\mathbf{H} = \mathbf{E} \mathbf{W}` (HCCF: Xia et al., SIGIR 2022, Eqs. 4 to 6).

    .. math::
        \mathbf{q} = \varphi(\mathbf{H}^{\top} \mathbf{x}), \qquad
        \mathbf{q} \leftarrow \varphi(\mathbf{V}_c \mathbf{q}) + \mathbf{q}, \qquad
        \mathbf{y} = \varphi(\mathbf{H} \mathbf{q})

    :math:`\mathbf{H}^{\top} \mathbf{x} = \mathbf{W}^{\top} (\mathbf{E}^{\top} \mathbf{x})`, so
    unless single memberships are dropped nothing of size nodes x ``K`` is made. With identity
    activations the ``K`` hyperedges act as one matrix of rank ``d`` at most.

    Args:
        channels: Width ``d``.
        num_hyperedges: Hyperedges ``K``.
        num_layers: Layers that have maps of their own.
        num_maps: Maps :math:`\mathbf{V}_c` per layer.
        slope: Slope of the leaky ReLU :math:`\varphi`; 1 is the identity.
        edge_dropout: Share of memberships that a training step leaves out, the others being scaled
            up.
        dropout: ``'element'`` drops single memberships, ``'edge'`` whole hyperedges.
        scale: Factor on the memberships.
    """

    def __init__(
        self,
        channels: int,
        num_hyperedges: int,
        num_layers: int = 1,
        num_maps: int = 0,
        slope: float = 1.0,
        edge_dropout: float = 0.0,
        dropout: str = 'element',
        scale: float = 1.0,
    ):
        super().__init__()
        self.slope = slope
        self.edge_dropout = edge_dropout
        self.dropout = dropout
        self.scale = scale
        self.weight = Parameter(torch.empty(channels, num_hyperedges))
        self.maps = torch.nn.ParameterList(
            Parameter(torch.empty(num_maps, num_hyperedges, num_hyperedges))
            for _ in range(num_layers if num_maps else 0)
        )
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
        drops = self.training and self.edge_dropout > 0
        if drops and self.dropout == 'element':
            members = F.dropout(table @ weight, self.edge_dropout)
            return self._activate(members @ self._map(self._activate(members.t() @ x), layer))
        if drops:
            weight = weight * F.dropout(weight.new_ones(weight.size(1)), self.edge_dropout)
        features = self._activate(weight.t() @ (table.t() @ x))
        return self._activate(table @ (weight @ self._map(features, layer)))

    def _map(self, features: Tensor, layer: int) -> Tensor:
        for matrix in self.maps[layer] if self.maps else ():
            features = self._activate(matrix @ features) + features
        return features

    def _activate(self, x: Tensor) -> Tensor:
        return x if self.slope == 1 else F.leaky_relu(x, self.slope)


class SoftHyperConv(torch.nn.Module):
    r"""Items send messages through ``K`` hyperedges to users and to items, with soft memberships
    that are given (LGMRec: Guo et al., AAAI 2024, https://arxiv.org/abs/2312.16400).

    Memberships are a softmax over hyperedges of logits with noise :math:`\mathbf{g}`; noise and
    dropout act in training alone, drawn once for all layers.

    .. math::
        \mathbf{H} = \mathrm{dropout}(\mathrm{softmax}((\mathbf{A} + \mathbf{g}) / \tau)), \qquad
        \mathbf{q}^h = \mathbf{H}_i^{\top} \mathbf{r}^{h-1}, \qquad
        \mathbf{r}^h = \mathbf{H}_i \mathbf{q}^h, \qquad \mathbf{y}^h = \mathbf{H}_u \mathbf{q}^h

    Nothing is larger than nodes x ``K`` and nodes x ``d``. Users receive and send nothing, so only
    the last layer of theirs is computed.

    Args:
        num_layers: Layers, from 1.
        temperature: :math:`\tau`.
        edge_dropout: Share of memberships that a training step leaves out, the others being scaled
            up.
        noise: ``'gumbel'``, as the authors' program, or ``'logistic'``, as the paper.

    Raises:
        ConfigError: On an argument outside its accepted values.
    """

    def __init__(
        self,
        num_layers: int = 1,
        temperature: float = 0.2,
        edge_dropout: float = 0.0,
        noise: str = 'gumbel',
    ):
        super().__init__()
        if num_layers < 1:
            raise ConfigError(f'num_hyper_layers: got {num_layers}, accepted are integers from 1')
        if not temperature > 0:
            raise ConfigError(f'temperature: got {temperature}, accepted are positive numbers')
        check_dropout('edge_dropout', edge_dropout)
        if noise not in HYPER_NOISE:
            raise ConfigError(
                f'noise: got {noise!r}, accepted are {", ".join(map(repr, HYPER_NOISE))}'
            )
        self.num_layers = num_layers
        self.temperature = temperature
        self.edge_dropout = edge_dropout
        self.noise = noise

    def memberships(self, logits: Tensor) -> Tensor:
        r"""Memberships ``[n, K]`` from ``logits`` ``[n, K]``."""
        if self.training:
            logits = logits + self._draw(logits)
        return F.dropout(
            (logits / self.temperature).softmax(dim=1), self.edge_dropout, self.training
        )

    def forward(self, user_logits: Tensor, item_logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Propagates rows of items ``x`` ``[I, d]``; returns those of users ``[U, d]`` and of
        items ``[I, d]``.
        """
        users, items = self.memberships(user_logits), self.memberships(item_logits)
        for _ in range(self.num_layers):
            hyperedges = items.t() @ x
            x = items @ hyperedges
        return users @ hyperedges, x

    def _draw(self, like: Tensor) -> Tensor:
        first = torch.empty_like(like).exponential_()
        gumbel = -first.clamp(min=torch.finfo(like.dtype).tiny).log()
        if self.noise == 'gumbel':
            return gumbel
        # a difference of two Gumbel variables is logistic
        second = torch.empty_like(like).exponential_()
        return gumbel + second.clamp(min=torch.finfo(like.dtype).tiny).log()
