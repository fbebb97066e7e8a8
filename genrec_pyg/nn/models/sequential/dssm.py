r"""DSSM: two towers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.items import BY_ID, ItemSide, make_items
from genrec_pyg.nn.items.features import gelu_layers, xavier_layers
from genrec_pyg.nn.losses import logistic_loss
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.utils.validation import check_range


class DSSM(Recommender):
    r"""DSSM (Huang et al., CIKM 2013, https://doi.org/10.1145/2505515.2505665, as the two-tower
    IDRec and MoRec of Yuan et al., SIGIR 2023, https://arxiv.org/abs/2303.13835): a table of users
    and the item side, each through a perceptron of :math:`l` layers [dropout, linear, GELU], binary
    cross-entropy of their inner products. An item side with content has no perceptron, as released.
    The model reads no order; with :math:`l = 0`, which the authors found best, and ids it is matrix
    factorization.

    .. math::
        \mathcal{L} = \frac{1}{2B} \sum_k \bigl( \mathrm{softplus}(-s^+_k)
        + \mathrm{softplus}(s^-_k) \bigr)

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities of a ``frozen`` item side; :obj:`None` takes all.
        hidden_channels: Width ``d``.
        num_layers: Layers :math:`l` of either tower.
        dropout: Dropout of the towers.
        item_side: Where item rows come from, see :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.nn import DSSM
        >>> log = {'user': [0, 0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 3, 1, 0, 2], 'time': range(7)}
        >>> data = from_table(log, split='leave-one-out')
        >>> DSSM(data)
        DSSM(users=2, items=4, modalities=[none])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 0,
        dropout: float = 0.1,
        item_side: ItemSide = BY_ID,
    ):
        side = ItemSide.of(item_side)
        super().__init__(data, modalities, side.contents())
        check_range('hidden_channels', hidden_channels, 1)
        check_range('num_layers', num_layers, 0)
        check_range('dropout', dropout, 0, 0.99)
        self.user = Parameter(torch.empty(self.num_users, hidden_channels))
        self.items = make_items(self.graph, hidden_channels, side)
        widths = [hidden_channels] * (num_layers + 1)
        self.user_tower = gelu_layers(widths, dropout)
        self.item_tower = gelu_layers(widths[:1] if side.has_content else widths, dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws tables and towers, normal with variance 2 over the sum of both widths; biases
        become 0.
        """
        torch.nn.init.normal_(
            self.user, std=math.sqrt(2 / (self.num_users + 1 + self.user.size(1)))
        )
        self.items.reset_parameters()
        for tower in (self.user_tower, self.item_tower):
            xavier_layers(tower)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        return self.user_tower(self.user), self.item_tower(self.items())

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Binary cross-entropy of a batch of triples."""
        user = self.user_tower(self.user[batch.user])
        with self.items.computed(batch.pos, batch.neg):
            positive, negative = (
                self.item_tower(self.items.rows(item)) for item in (batch.pos, batch.neg)
            )
        scores = (user * positive).sum(dim=1), (user * negative).sum(dim=1, keepdim=True)
        return {'bce': logistic_loss(*scores) / 2}
