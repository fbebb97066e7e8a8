r"""Graph encoder over user-item interactions and item-item modality graphs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.distributed import WHOLE
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph, name_list
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import ItemGraphConv, LightConv, ModalityConv
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.nn.modality.attention import ModalityAttention
from genrec_pyg.nn.modality.encoder import Gate, ModalityEncoder, ProjectionBlock
from genrec_pyg.ops import (
    Adjacency,
    bipartite_adjacency,
    bipartite_block,
    knn_adjacency,
    singular_value_threshold,
)
from genrec_pyg.utils.validation import check_choice, check_range

if TYPE_CHECKING:
    from genrec_pyg.nn.items import ItemRows


@dataclass(frozen=True)
class GraphEncoderConfig:
    r"""Settings of a :class:`MultimodalGraphEncoder`.

    Args:
        num_layers: Layers of the collaborative view.
        num_item_layers: Layers of the item-item graphs.
        num_neighbors: Neighbors per item in the item-item graphs, itself included.
        dropout: Dropout of the modality encoders.
        svt: Singular value soft-thresholding of raw features as a fraction of the largest singular
            value; 0 for none.
        side_in_score: Whether the score uses content + side or content alone.
        specific: Modalities whose specific part enters the side view; :obj:`None` takes all.
        merge: How observed and generated graph combine, ``'softmax'`` (two learned weights) or
            ``'sum'``.
    """

    num_layers: int = 1
    num_item_layers: int = 1
    num_neighbors: int = 5
    dropout: float = 0.1
    svt: float = 0.0
    side_in_score: bool = True
    specific: Sequence[str] | None = None
    merge: str = 'softmax'

    def __post_init__(self) -> None:
        check_range('num_layers', self.num_layers, 0)
        check_range('num_item_layers', self.num_item_layers, 0)
        check_range('num_neighbors', self.num_neighbors, 1)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f'dropout: got {self.dropout}, accepted are numbers in [0, 1)')
        check_range('svt', self.svt, 0, 1)
        check_choice('merge', self.merge, ('softmax', 'sum'))


class GraphViews(NamedTuple):
    r"""Node embeddings over the joint index: user ``u`` is row ``u``, item ``i`` is row ``U + i``.

    Args:
        content: Collaborative view ``[N, d]``.
        side: Modality view ``[N, d]``.
        embedding: Final embedding ``[N, d]`` from which scores are computed.
    """

    content: Tensor
    side: Tensor
    embedding: Tensor


class MultimodalGraphEncoder(GraphModule):
    r"""Collaborative and modality views of a user-item-modality graph
    (`GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_;
    `MGCN, ACM MM 2023 <https://arxiv.org/abs/2308.03588>`_).

    .. math::
        \mathbf{C} &= a \, \mathcal{C}(\mathbf{A}) + b \, \mathcal{C}(\mathbf{A}_{gen}), \quad
        \mathcal{C}(\mathbf{A}) = \tfrac{1}{L+1} \sum_{l=0}^{L} \mathbf{A}^l [\mathbf{E}_u ;
        \mathbf{E}_i] \\
        \mathbf{Q}_m &= \mathbf{S}_m^{L_s} (\mathbf{E}_i \odot g_m(\mathbf{F}_m)), \quad
        \mathbf{Z}_m = [\hat{\mathbf{R}} \mathbf{Q}_m ; \mathbf{Q}_m] \\
        \mathrm{side} &= s \left( \mathrm{common}
        + \sum_{m \in P} g_m(\mathbf{C}) \odot (\mathbf{Z}_m - \mathrm{common}) \right)

    with :math:`\mathrm{common}` the attention over modalities of
    :class:`~genrec_pyg.nn.modality.attention.ModalityAttention`. Without a generated graph
    :math:`\mathbf{C} = \mathcal{C}(\mathbf{A})`; without modalities the side view is zero.

    GenRec-V1 is the default. MGCN is the same encoder with
    ``batch_norm=False, residual=False, self_loops=False, shared_gates=False, side_scale=None,
    merge=None``.

    Args:
        graph: Training graph.
        hidden_channels: Embedding width ``d``.
        num_layers: Layers ``L`` of the collaborative view.
        num_item_layers: Layers ``L_s`` of the item-item graphs.
        num_neighbors: Neighbors ``k`` per item in the item-item graphs, the item itself included.
        dropout: Dropout of the modality encoders.
        negative_slope: Slope of their leaky ReLU.
        side_in_score: Whether the final embedding is content + side or content alone.
        side_scale: Factor ``s`` of the side view (1/4 in GenRec-V1, its M + 1 for three
            modalities); :obj:`None` is :math:`1 / (M + 1)`.
        specific: Modalities ``P`` whose specific part enters the side view; :obj:`None` takes all.
        merge: ``'softmax'`` weighs the two collaborative views by two learned scalars, ``'sum'``
            propagates once over the sum of both graphs (released GenRec-V1 on baby), :obj:`None` is
            for models without a generated graph.
        svt: Fraction of the largest singular value by which singular values of raw features are
            soft-thresholded (0 leaves them as they are).
        batch_norm: Whether projections, gates and attention have batch normalization.
        joint_norm: Whether that of the attention has the statistics of all modalities together.
        residual: Whether features pass a residual projection
        (:class:`~genrec_pyg.nn.modality.encoder.ModalityEncoder`) or one linear
            map.
        self_loops: Whether the interaction graph has self loops.
        shared_gates: Whether one gate per modality serves both purposes, :math:`g_m(\mathbf{F}_m)`
            and :math:`g_m(\mathbf{C})`; otherwise the latter has gates of its own.
        items: What gives the rows :math:`\mathbf{E}_i` in the place of a table.

    Raises:
        ConfigError: On an unknown ``merge`` or a modality in ``specific`` that the graph lacks.
    """

    def __init__(
        self,
        graph: TrainingGraph,
        hidden_channels: int = 64,
        num_layers: int = 1,
        num_item_layers: int = 1,
        num_neighbors: int = 5,
        dropout: float = 0.1,
        negative_slope: float = 0.2,
        side_in_score: bool = True,
        side_scale: float | None = 0.25,
        specific: Sequence[str] | None = None,
        merge: str | None = 'softmax',
        svt: float = 0.0,
        batch_norm: bool = True,
        residual: bool = True,
        self_loops: bool = True,
        shared_gates: bool = True,
        joint_norm: bool = True,
        items: ItemRows | None = None,
    ):
        super().__init__()
        if merge not in ('softmax', 'sum', None):
            raise ConfigError(f"merge: got {merge!r}, accepted are 'softmax', 'sum' and None")
        names = list(graph.modalities)
        specific = name_list(specific)
        for name in specific or ():
            if name not in names:
                raise ConfigError(
                    f'specific: the graph has no modality {name!r}, accepted are '
                    f'{", ".join(names) or "none"}'
                )
        self.graph = graph
        self.conv = LightConv(num_layers)
        self.item_conv = ItemGraphConv(num_item_layers)
        self.user_conv = ModalityConv()
        self.side_in_score = side_in_score
        self.side_scale = 1 / (len(names) + 1) if side_scale is None else side_scale
        self.specific = [names.index(name) for name in (names if specific is None else specific)]
        self.merge = merge

        self.adjacency = bipartite_adjacency(
            graph.edge_index, graph.num_users, graph.num_items, self_loops
        )
        self.block = bipartite_block(graph.edge_index, graph.num_users, graph.num_items, self_loops)
        features = {name: modality.x for name, modality in graph.modalities.items()}
        if svt > 0:
            features = {name: singular_value_threshold(x, svt) for name, x in features.items()}
        self.features = features
        self.item_graphs: dict[str, Adjacency] = {
            name: knn_adjacency(modality.item_features(), num_neighbors)
            for name, modality in graph.modalities.items()
        }

        # both graphs and their sum
        self._merged: tuple[Adjacency, Adjacency, Adjacency] | None = None
        self.user_embedding = Parameter(torch.empty(graph.num_users, hidden_channels))
        self.item_embedding = (
            Parameter(torch.empty(graph.num_items, hidden_channels)) if items is None else None
        )
        self.items = items
        self.view_logits = None if merge is None else Parameter(torch.empty(2))
        self.rho = Parameter(torch.empty(())) if residual else None
        self.encoders = ModuleDict(
            {
                name: ModalityEncoder(x.size(1), hidden_channels, dropout, negative_slope)
                if residual
                else ProjectionBlock(
                    x.size(1),
                    hidden_channels,
                    dropout=0.0,
                    negative_slope=1.0,
                    batch_norm=batch_norm,
                )
                for name, x in features.items()
            }
        )
        self.gates = ModuleDict({name: Gate(hidden_channels, batch_norm) for name in names})
        self.specific_gates: ModuleDict | None = None
        if not shared_gates:
            self.specific_gates = ModuleDict(
                {name: Gate(hidden_channels, batch_norm) for name in names}
            )
        self.attention = ModalityAttention(hidden_channels, batch_norm, joint_norm)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Tables Xavier uniform, view logits and the residual weight 1, modules by their own
        rules.
        """
        torch.nn.init.xavier_uniform_(self.user_embedding)
        if self.items is None:
            torch.nn.init.xavier_uniform_(self.item_embedding)
        else:
            self.items.reset_parameters()
        for parameter in (self.view_logits, self.rho):
            if parameter is not None:
                torch.nn.init.ones_(parameter)
        specific = [] if self.specific_gates is None else self.specific_gates.values()
        for module in [*self.encoders.values(), *self.gates.values(), *specific, self.attention]:
            module.reset_parameters()

    def item_rows(self) -> Tensor:
        r"""First rows of items :math:`\mathbf{E}_i` ``[I, d]``."""
        return self.item_embedding if self.items is None else self.items()

    def computed(self) -> AbstractContextManager[None]:
        r"""Within this context the first rows of items are computed once, however often they are
        read.
        """
        return nullcontext() if self.items is None else self.items.computed()

    def learned_items(self, item: Tensor | None = None) -> Tensor:
        r"""Rows ``[n, d]`` of the table of items that belong to the items ``[n]``, or all, for
        penalties; none where there is no table.
        """
        if self.items is None:
            return self.item_embedding if item is None else self.item_embedding[item]
        if item is None:
            item = torch.arange(self.graph.num_items, device=self.user_embedding.device)
        return self.items.id_rows(item)

    def encode_modalities(self) -> dict[str, Tensor]:
        r"""Encoded features per item ``[I, d]``, zero where an item lacks the modality."""
        return {
            name: self._encode(name, modality) for name, modality in self.graph.modalities.items()
        }

    def _encode(self, name: str, modality: Modality) -> Tensor:
        weight = () if self.rho is None else (self.rho,)
        items = self.layout.item
        features = self.features[name]
        if modality.edge_index is None:
            rows = items.own_rows(features).to(self.user_embedding.dtype)
            return self.encoders[name](rows, *weight, first_row=items.first_row)
        part = self.layout.part(features.size(0))
        encoded = self.encoders[name](
            features[part].to(self.user_embedding.dtype), *weight, first_row=part.start
        )
        return items.own_rows(modality.pool(self.layout.all_rows(encoded, features.size(0))))

    def item_views(self) -> tuple[Tensor, int]:
        r"""Item embeddings times encoded features per modality, side by side ``[I, M * d]``,
        without dropout and detached, and their number ``M``; the plain embeddings as one view if
        there is no modality.
        """
        was_training = self.training
        torch.nn.Module.train(self, False)  # also a subclass that is else always in training mode
        with torch.no_grad():
            encoded = self.encode_modalities()
            rows = self.item_rows()
            views = [rows * features for features in encoded.values()] or [rows]
            joint = torch.cat(views, dim=1).detach()
        self.train(was_training)
        return joint, len(views)

    def collaborative_view(self, generated: Adjacency | None = None) -> Tensor:
        r"""Collaborative view ``[N, d]`` over the training graph and, if given, the generated
        one.
        """
        x = torch.cat([self.user_embedding, self.item_rows()])
        local = self.layout.local
        if generated is None:
            return self.conv(x, local(self.adjacency))
        if self.merge == 'sum':
            return self.conv(x, local(self._sum(generated)))
        observed_weight, generated_weight = self.view_logits.softmax(dim=0)
        return observed_weight * self.conv(x, local(self.adjacency)) + generated_weight * self.conv(
            x, local(generated)
        )

    def _sum(self, generated: Adjacency) -> Adjacency:
        # Sorting all entries again in every step would cost more than the propagation, and would
        # wait for a GPU.
        if (
            self._merged is None
            or self._merged[0] is not self.adjacency
            or self._merged[1] is not generated
        ):
            self._merged = self.adjacency, generated, self.adjacency + generated
        return self._merged[2]

    def modality_views(self, encoded: dict[str, Tensor]) -> Tensor:
        r"""Views ``[M, N, d]`` of the modalities: item graphs first, then users as the normalized
        sum of their items.
        """
        layout, items = self.layout, []
        gates = layout.item.side_by_side(
            [self.gates[name](features) for name, features in encoded.items()]
        )
        rows = self.item_rows()
        for name, gate in zip(encoded, gates):
            # Of all items, in every block of nodes: the rows that users collect from.
            items.append(self.item_conv(layout.all_items(rows * gate), self.item_graphs[name]))
        items = torch.stack(items)
        users = self.user_conv(items, layout.user_rows(self.block))
        return torch.cat([users, layout.item.own_block(items)], dim=1)

    def forward(self, generated: Adjacency | None = None) -> GraphViews:
        r"""All views, given the normalized adjacency of the generated graph or none."""
        width = self.attention.key.in_features
        with self.computed():
            content = self.collaborative_view(generated)
            if not self.encoders:
                content = self.layout.views_to_rows([content.unsqueeze(0)], width)[0][0]
                return GraphViews(content, torch.zeros_like(content), content)
            views = self.modality_views(self.encode_modalities())
        views, content = self.layout.views_to_rows([views, content.unsqueeze(0)], width)
        return self.fuse(content[0], views)

    def fuse(self, content: Tensor, views: Tensor) -> GraphViews:
        r"""All views, given the collaborative one ``[n, d]`` and those of the modalities
        ``[M, n, d]``, at least one.
        """
        fused = self.attention(views)
        side = fused.common
        if len(self.encoders) > 1:  # one modality has no part that the others lack
            gates = list(
                (self.gates if self.specific_gates is None else self.specific_gates).values()
            )
            for index in self.specific:
                side = torch.addcmul(side, gates[index](content), fused.specific(index))
        side = self.side_scale * side
        return GraphViews(content, side, content + side if self.side_in_score else content)

    def batch_views(
        self, views: GraphViews, batch: Triples, further: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], Triples, Tensor]:
        r"""Rows of ``views`` that a batch reads, which other processes may have.

        Args:
            views: What :meth:`forward` returned.
            batch: Triples.
            further: Further items.

        Returns:
            Rows of users and of items in each of the three views, and ``batch`` and ``further`` by
            their places there.
        """
        if self.layout is WHOLE:
            return self.layout.tables(views, self.graph.num_users, batch, further)
        # The embedding is made again from the other two: a third less is sent.
        ((content, _), (side, _)), batch, further = self.layout.tables(
            views[:2], self.graph.num_users, batch, further
        )
        embedding = content + side if self.side_in_score else content
        return [(content, content), (side, side), (embedding, embedding)], batch, further
