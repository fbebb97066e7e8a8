r"""LightGCN: linear propagation with layer mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import LayerNeighborSampler, Triples
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.conv.functional import layer_outputs
from genrec_pyg.nn.embedding import NodeEmbedding
from genrec_pyg.nn.interaction_graph import InteractionGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.models.pairwise import PAIRWISE_GRID, PairwiseRecommender
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import Adjacency
from genrec_pyg.utils.validation import check_dropout, check_range


class LightGCN(PairwiseRecommender):
    r"""LightGCN (He, Deng, Wang, Li, Zhang, Wang, SIGIR 2020, Eqs. 3 to 5).

    .. math::
        [\mathbf{Z}_u ; \mathbf{Z}_i] = \sum_{l=0}^{L} \alpha_l \mathbf{A}^l [\mathbf{E}_u ;
        \mathbf{E}_i], \qquad \alpha_l = \frac{1}{L + 1}

    with :math:`\mathbf{A}` the symmetric normalized graph without self loops. Equal to
    :class:`torch_geometric.nn.models.LightGCN` given equal tables and **both** directions of every
    edge; with one direction that class silently returns :math:`\alpha_0 \mathbf{E}`, and it counts
    repeated edges in the degrees, penalizes without the factor 1/2 and normalizes again in every
    layer.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities of a ``frozen`` item side; :obj:`None` takes all.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table` (the authors use
            ``'normal'``).
        penalty_rows: Rows that the penalty counts, ``'batch'`` or ``'table'``.
        edge_dropout: Probability with which an interaction is left out of a training step, the
            others scaled up.
        layer_weights: Weights :math:`\alpha_0, \dots, \alpha_L`; equal ones by default.
        learn_layer_weights: Whether these weights are learned.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`. With content, items without interactions have
            rows too; an encoder encodes all items in every step, since messages come from all.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import LightGCN
        >>> from genrec_pyg.testing import toy_graph
        >>> LightGCN(toy_graph(), num_layers=3)
        LightGCN(users=8, items=7, modalities=[image, text])
    """

    grid = PAIRWISE_GRID
    FORMER_SETTINGS = {'reg': renamed('penalty_rows')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 3,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        edge_dropout: float = 0.0,
        layer_weights: Sequence[float] | None = None,
        learn_layer_weights: bool = False,
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data, modalities, hidden_channels, l2, init, penalty_rows, item_side=item_side
        )
        check_dropout('edge_dropout', edge_dropout)
        check_range('num_layers', num_layers, 0)
        if layer_weights is not None and len(layer_weights) != num_layers + 1:
            raise ConfigError(
                f'layer_weights: got {len(layer_weights)} weights, accepted are num_layers + 1 = '
                f'{num_layers + 1}'
            )
        self.num_layers, self.edge_dropout = num_layers, edge_dropout
        self.interactions = InteractionGraph(self.graph)
        self.conv = LightConv(num_layers)
        self.layer_weights: Tensor | None = None
        if layer_weights is not None or learn_layer_weights:
            self._first_weights = (
                [1 / (num_layers + 1)] * (num_layers + 1)
                if layer_weights is None
                else list(layer_weights)
            )
            weights = torch.tensor(self._first_weights)
            self.layer_weights = Parameter(weights) if learn_layer_weights else weights

    def reset_parameters(self) -> None:
        r"""Redraws the tables and sets layer weights to where they started."""
        super().reset_parameters()
        if self.layer_weights is not None:
            with torch.no_grad():
                self.layer_weights.copy_(torch.tensor(self._first_weights))

    def sample_neighbors(self, fan: int | None) -> None:
        if fan is None or type(self) is not LightGCN:  # subclasses have losses over all nodes
            super().sample_neighbors(fan)
            return
        if self.edge_dropout:
            raise ConfigError(
                f"edge_dropout: got {self.edge_dropout} with neighborhood 'sampled', accepted is 0"
            )
        if not isinstance(self.embedding, NodeEmbedding):
            raise ConfigError(
                "item_side: got one with content with neighborhood 'sampled', accepted is kind 'id'"
            )
        self.fan = fan

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and L2 on a batch of triples, over the whole graph or sampled neighborhoods."""
        if self.fan is None:
            return super().loss(batch)
        return self.pair_terms(*self.sampled_rows(batch), batch)

    def sampled_rows(self, batch: Triples) -> tuple[Tensor, Tensor, Tensor]:
        r"""Rows ``[B, d]`` of users, positives and negatives, propagated over a sampled
        neighborhood: each an unbiased estimate of that of :meth:`embed`.
        """
        wanted = torch.cat([batch.user, batch.pos + self.num_users, batch.neg + self.num_users])
        node, place = wanted.unique(return_inverse=True)
        graph = self.interactions.adjacency
        found = LayerNeighborSampler(graph, self.num_layers, self.fan).sample(node)
        is_user = found.node < self.num_users
        order = torch.cat([is_user.nonzero().view(-1), (~is_user).nonzero().view(-1)])
        users = self.embedding.user[found.node[is_user]]
        items = self.embedding.item[found.node[~is_user] - self.num_users]
        x = users.new_zeros(found.node.numel(), users.size(1)).index_copy(
            0, order, torch.cat([users, items])
        )
        weights = self.layer_weights
        if weights is None:
            weights = [1 / (self.num_layers + 1)] * (self.num_layers + 1)
        return found.weighted_sum(x, weights)[place].chunk(3)

    def propagate(self, x: Tensor, graph: Adjacency) -> Tensor:
        r"""Weighted mean over the layers ``[N, d]`` of ``x`` ``[N, d]``."""
        if self.layer_weights is None:
            return self.conv(x, graph)
        return sum(
            weight * layer
            for weight, layer in zip(
                self.layer_weights, layer_outputs(x, [graph] * self.num_layers)
            )
        )

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Propagated users ``[U, d]`` and items ``[I, d]``; the whole graph carries messages in
        evaluation mode.
        """
        return self.split(self.propagated())

    def propagated(self) -> Tensor:
        r"""Propagated rows of users and items ``[N, d]``."""
        graph = self.interactions.adjacency
        if self.training and self.edge_dropout > 0:
            graph = self.interactions.scaled_drop(self.edge_dropout)
        return self.propagate(self.embedding.joint(), self.layout.local(graph))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""User and item rows of ``x`` ``[N, d]``."""
        num_users = self.layout.user.size(self.num_users)
        return x.split([num_users, x.size(0) - num_users])
