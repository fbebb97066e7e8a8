r"""MMGCL: contrast of two multimodal views, one with a masked modality, one with dropped edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.conv.functional import half_mean, propagate_once, stream_means
from genrec_pyg.nn.embedding import init_table
from genrec_pyg.nn.interaction_graph import InteractionGraph
from genrec_pyg.nn.losses import bpr_loss, challenged_contrast
from genrec_pyg.nn.modality.features import (
    FeatureProjection,
    item_features,
    modality_shares,
    require_modalities,
)
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.nn.models.recommender import Replaced
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import Adjacency, bipartite_block, info_nce
from genrec_pyg.utils.validation import check_choice, check_dropout, check_range


class Streams(NamedTuple):
    r"""Propagated rows per stream, the item table first: users ``[U, M + 1, d]``, items
    ``[I, M + 1, d]``.
    """

    users: Tensor
    items: Tensor


class MMGCL(PairwiseRecommender):
    r"""MMGCL (Yi, Wang, Ounis, Macdonald, "Multi-modal Graph Contrastive Learning for Micro-video
    Recommendation", SIGIR 2022), rebuilt from the abstract, summaries of its equations and the
    released program.

    Streams are the item table and every projected modality
    :math:`\mathbf{T}_m = \mathrm{norm}(\mathbf{X}_m) \mathbf{W}_m + \mathbf{b}_m`. All share the
    user table, each is propagated as LightGCN, and a linear readout of the concatenation gives
    :math:`\mathbf{f}`; the score is :math:`\mathbf{f}_u \cdot \mathbf{f}_i`.

    .. math::
        \mathcal{L} = \mathrm{BPR} + w [\mathrm{NCE}(\mathbf{f}^A_u, \mathbf{f}^B_u)
        + \mathrm{NCE}(\mathbf{f}^A_i, \mathbf{f}^B_i)] + \lambda \, \mathrm{L2}

    over the distinct users and positive items of a batch. View A replaces the items of one
    modality, drawn per batch, by fresh random rows; view B drops edges, apart in every stream. A
    challenging negative is a row of view B whose share of one modality comes from another node of
    the batch.

    The readout is linear, so a stream's share is exchanged without a second pass. The part of a
    propagation that starts from the user table is the same in all streams: ``L (M + 2)`` half
    products, not ``2 L (M + 1)``; view A costs ``L``.

    ``variant='released'`` contrasts the observed pairs of users and items in view B, with twice the
    weight and without challenging negatives, as the loss of the released program amounts to.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        variant: ``'principled'`` or ``'released'``.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: :math:`\lambda` on the rows of the two tables.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        edge_dropout: Share of edges dropped in view B.
        shared_mask: Whether all streams of view B have the same graph.
        resample: ``'batch'`` or ``'epoch'``, when these graphs are drawn.
        temperature: Temperature :math:`\tau`.
        contrast_weight: :math:`w`.
        challenge: Challenging negatives: ``'tuple'``, the changed rows of all other nodes,
            ``'own'``, that of the anchor, or ``'none'``.
        mask_probability: Probability of each modality of being masked or exchanged, up to a common
            factor; equal ones by default. Modalities that the graph lacks are passed over.
        precompute: Whether features are propagated once and projected afterwards. It saves
            ``2 L M`` half products and costs products with ``(U + I) x d_m`` in every step: worth
            it for narrow features on dense graphs.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import MMGCL
        >>> from genrec_pyg.testing import toy_graph
        >>> MMGCL(toy_graph())
        MMGCL(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'ratio': renamed('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        variant: str = 'principled',
        hidden_channels: int = 64,
        num_layers: int = 3,
        l2: float = 1e-4,
        init: str = 'xavier',
        edge_dropout: float = 0.05,
        shared_mask: bool = False,
        resample: str = 'batch',
        temperature: float = 0.2,
        contrast_weight: float = 0.4,
        challenge: str = 'tuple',
        mask_probability: dict[str, float] | None = None,
        precompute: bool = False,
    ):
        super().__init__(data, modalities, hidden_channels, l2, init)
        MMGCL.check_options(locals())
        require_modalities(self.graph, 'MMGCL')
        check_choice('variant', variant, ('principled', 'released'))
        check_choice('resample', resample, ('epoch', 'batch'))
        check_choice('challenge', challenge, ('tuple', 'own', 'none'))
        check_range('num_layers', num_layers, 0)
        check_range('contrast_weight', contrast_weight, 0)
        check_range('temperature', temperature, 0, open_low=True)
        check_dropout('edge_dropout', edge_dropout)
        self.variant, self.num_layers, self.edge_dropout = variant, num_layers, edge_dropout
        self.shared_mask, self.resample, self.challenge = shared_mask, resample, challenge
        self.temperature, self.contrast_weight = temperature, contrast_weight
        self.names = list(self.graph.modalities)
        self.mask_share = modality_shares('mask_probability', mask_probability, self.names)

        self.features = item_features(self.graph)
        self.block = bipartite_block(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        self.interactions = InteractionGraph(self.graph)
        self.conv = LightConv(num_layers)
        self.view_graphs: dict[int, Adjacency] = {}
        self.factors: dict[str, dict[str, Tensor]] = {}
        if precompute:
            for name, (x, present) in self.features.items():
                items, users = propagate_once(self.block, x, present, num_layers)
                self.factors[name] = {'items': items, 'users': users}
        self.projections = ModuleDict(
            {
                name: FeatureProjection(features.x.size(1), hidden_channels)
                for name, features in self.features.items()
            }
        )
        width = (len(self.names) + 1) * hidden_channels
        self.user_readout = Linear(width, hidden_channels)
        self.item_readout = Linear(width, hidden_channels)
        self.reset_parameters()

    @classmethod
    def replaced_options(cls, options: Mapping[str, Any]) -> dict[str, Replaced]:
        r"""The released variant has no challenging negatives and masks nothing."""
        if options['variant'] != 'released':
            return {}
        return {
            name: Replaced(value, "variant='released'")
            for name, value in (('challenge', 'none'), ('mask_probability', None))
        }

    def reset_parameters(self) -> None:
        r"""Weights and tables Xavier, biases zero."""
        super().reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()
        for readout in (self.user_readout, self.item_readout):
            torch.nn.init.xavier_uniform_(readout.weight)
            torch.nn.init.zeros_(readout.bias)

    def inputs(self) -> list[Tensor]:
        r"""Item rows ``[I, d]`` of every stream before propagation."""
        return [
            self.embedding.item,
            *(self.projections[name](features) for name, features in self.features.items()),
        ]

    def main_view(self, inputs: list[Tensor]) -> Streams:
        r"""All streams on the whole graph."""
        if not self.factors:
            return Streams(*stream_means(self.block, self.embedding.user, inputs, self.num_layers))
        same_users, to_items = half_mean(self.block.t(), self.embedding.user, self.num_layers)
        found = [
            half_mean(self.block, inputs[0], self.num_layers),
            *(self._projected(name) for name in self.names),
        ]
        items, users = (torch.stack(parts, dim=1) for parts in zip(*found))
        return Streams(users + same_users.unsqueeze(1), items + to_items.unsqueeze(1))

    def _stack(self, columns: Tensor) -> Tensor:
        return columns.view(columns.size(0), -1, self.embedding.item.size(1))

    def _projected(self, name: str) -> tuple[Tensor, Tensor]:
        linear, factors = self.projections[name].linear, self.factors[name]
        weight = torch.cat([linear.weight.t(), linear.bias.unsqueeze(0)])
        return factors['items'] @ weight, factors['users'] @ weight

    def masked_change(self, rows: Tensor, item_rows: Tensor) -> tuple[Tensor, Tensor]:
        r"""What replacing the input ``item_rows`` ``[I, d]`` of one stream by ``rows`` adds to its
        users and items.
        """
        items, users = half_mean(self.block, rows - item_rows, self.num_layers)
        return users, items

    def draw_graphs(self) -> None:
        r"""Draws the graphs of view B."""
        count = 1 if self.shared_mask else len(self.names) + 1
        self.view_graphs = {
            stream: self.interactions.subgraph(self.interactions.edge_drop(self.edge_dropout))
            for stream in range(count)
        }

    def dropped_view(self, inputs: list[Tensor]) -> Streams:
        r"""All streams on the graphs of view B."""
        if not self.view_graphs or self.resample == 'batch':
            self.draw_graphs()
        users = self.embedding.user
        if self.shared_mask:
            out = self._stack(
                self.conv(
                    torch.cat([users.repeat(1, len(inputs)), torch.cat(inputs, dim=1)]),
                    self.view_graphs[0],
                )
            )
        else:
            out = torch.stack(
                [
                    self.conv(torch.cat([users, rows]), self.view_graphs[stream])
                    for stream, rows in enumerate(inputs)
                ],
                dim=1,
            )
        return Streams(*out.split([self.num_users, self.num_items]))

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Draws the graphs of view B, where they last an epoch."""
        if self.resample == 'epoch' and self.contrast_weight > 0:
            self.draw_graphs()
        return {}

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        streams = self.main_view(self.inputs())
        return self.user_readout(streams.users.flatten(1)), self.item_readout(
            streams.items.flatten(1)
        )

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, L2 and the contrast of the views."""
        inputs = self.inputs()
        streams = self.main_view(inputs)
        user, user_row = batch.user.unique(return_inverse=True)
        item, item_row = batch.pos.unique(return_inverse=True)
        users = self.user_readout(streams.users[user].flatten(1))
        items = self.item_readout(streams.items[item].flatten(1))
        negatives = self.item_readout(streams.items[batch.neg].flatten(1))
        terms = {
            'bpr': bpr_loss(users[user_row], items[item_row], negatives),
            'l2': self.l2 * self.embedding.penalty(batch),
        }
        if self.contrast_weight == 0:
            return terms
        dropped = self.dropped_view(inputs)
        if self.variant == 'released':
            pair = (
                self.user_readout(dropped.users[batch.user].flatten(1)),
                self.item_readout(dropped.items[batch.pos].flatten(1)),
            )
            terms['contrast'] = 2 * self.contrast_weight * info_nce(*pair, self.temperature)
            return terms
        masked, exchanged = self._draw_stream(), self._draw_stream()
        rows = torch.empty_like(inputs[masked], requires_grad=False)
        init_table(rows, self.embedding.init)
        user_change, item_change = self.masked_change(rows, inputs[masked])
        for name, readout, f, change, view, index in (
            ('contrast_users', self.user_readout, users, user_change, dropped.users, user),
            ('contrast_items', self.item_readout, items, item_change, dropped.items, item),
        ):
            first = f + change[index] @ self._slice(readout, masked).t()
            terms[name] = self.contrast_weight * self._contrast(
                first, view[index], readout, exchanged
            )
        return terms

    def _draw_stream(self) -> int:
        return 1 + int(torch.multinomial(self.mask_share, 1))

    def _slice(self, readout: Linear, stream: int) -> Tensor:
        width = self.embedding.item.size(1)
        return readout.weight[:, stream * width : (stream + 1) * width]

    def _contrast(self, first: Tensor, streams: Tensor, readout: Linear, exchanged: int) -> Tensor:
        second = readout(streams.flatten(1))
        # a lone node has nobody to exchange a modality with
        if self.challenge == 'none' or first.size(0) == 1:
            return info_nce(first, second, self.temperature)
        share = streams[:, exchanged] @ self._slice(readout, exchanged).t()
        disturbed = second - share + share[other_row(first.size(0), first.device)]
        return challenged_contrast(
            first, second, disturbed, self.temperature, own=self.challenge == 'own'
        )


def other_row(size: int, device: torch.device | None = None) -> Tensor:
    r"""A random permutation of ``size`` (from 2) rows that leaves none in its place."""
    order = torch.randperm(size, device=device)
    return torch.empty_like(order).scatter_(0, order, order.roll(1))
