r"""MGCN: views purified by behavior, fused by attention."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.items import BY_ID, ItemSide, make_items
from genrec_pyg.nn.losses import bpr_loss, grouped_info_nce, squared_norm
from genrec_pyg.nn.modality.graph_encoder import GraphViews, MultimodalGraphEncoder
from genrec_pyg.nn.models.recommender import ENCODER_GRID, Recommender
from genrec_pyg.utils.validation import check_range


class MGCN(Recommender):
    r"""MGCN (Yu, Tan, Lu, Bao, "Multi-View Graph Convolutional Network for Multimedia
    Recommendation", MM 2023).

    .. math::
        \mathbf{F}_m &= \mathbf{X}_m \mathbf{W}_m + \mathbf{b}_m, \qquad
        \mathbf{Q}_m = \mathbf{S}_m^{L_s} (\mathbf{E}_i \odot
        \sigma(\mathrm{Linear}_m(\mathbf{F}_m))), \qquad
        \mathbf{Z}_m = [\hat{\mathbf{R}} \mathbf{Q}_m ; \mathbf{Q}_m] \\
        \mathbf{C} &= \mathrm{LightGCN}_L(\mathbf{E}), \qquad
        \mathrm{common} = \sum_m \alpha_m \mathbf{Z}_m, \qquad
        \alpha_m = \mathrm{softmax}_m (\mathbf{v}^{\top} \tanh(\mathbf{W} \mathbf{Z}_m
        + \mathbf{b})) \\
        \mathrm{side} &= \frac{1}{M + 1} \Bigl( \mathrm{common}
        + \sum_m \sigma(\mathrm{Linear}'_m(\mathbf{C})) \odot (\mathbf{Z}_m
        - \mathrm{common}) \Bigr), \qquad \mathbf{Z} = \mathbf{C} + \mathrm{side} \\
        \mathcal{L} &= \mathrm{BPR} + \lambda \mathrm{L2}
        + w [\mathrm{NCE}(\mathrm{side}_{i^+}, \mathbf{C}_{i^+})
        + \mathrm{NCE}(\mathrm{side}_u, \mathbf{C}_u)]

    with :math:`\mathbf{S}_m` the cosine nearest neighbors of the raw features, an item its own
    first, and :math:`\hat{\mathbf{R}}` the user-item block of the normalized graph without self
    loops. The encoder is that of GenRec without batch normalization, residual projections and
    generated graph (:class:`~genrec_pyg.nn.modality.graph_encoder.MultimodalGraphEncoder`). The
    paper has two modalities, here every sum runs over those of the graph; without any the model is
    LightGCN.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use; :obj:`None` takes all of the graph.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L`` of the collaborative view.
        num_item_layers: Layers ``L_s`` of the item-item graphs.
        num_neighbors: Neighbors per item in the item-item graphs, itself included.
        l2: :math:`\lambda` on the initial rows of a batch, see
            :func:`~genrec_pyg.nn.losses.batch_l2`.
        contrast_weight: Weight ``w``; the paper chooses among 0.001, 0.01 and 0.1.
        temperature: Temperature of the contrast.
        contrast_rows: Rows within which a batch is contrasted, see
            :func:`~genrec_pyg.nn.losses.grouped_info_nce`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import MGCN
        >>> from genrec_pyg.testing import toy_graph
        >>> MGCN(toy_graph(), num_neighbors=3)
        MGCN(users=8, items=7, modalities=[image, text])
    """

    splits_batch = True
    grid = ENCODER_GRID

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        l2: float = 1e-4,
        contrast_weight: float = 0.01,
        temperature: float = 0.2,
        contrast_rows: int = 2048,
        item_side: ItemSide = BY_ID,
    ):
        side = ItemSide.of(item_side)
        super().__init__(data, modalities, side.contents())
        for name, value, low in (
            ('hidden_channels', hidden_channels, 1),
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
            ('l2', l2, 0),
            ('contrast_weight', contrast_weight, 0),
            ('contrast_rows', contrast_rows, 1),
        ):
            check_range(name, value, low)
        check_range('temperature', temperature, 0, open_low=True)
        self.l2, self.contrast_weight, self.temperature = l2, contrast_weight, temperature
        self.contrast_rows = contrast_rows
        self.encoder = MultimodalGraphEncoder(
            self.graph,
            hidden_channels,
            num_layers,
            num_item_layers,
            num_neighbors,
            side_scale=None,
            merge=None,
            batch_norm=False,
            residual=False,
            self_loops=False,
            shared_gates=False,
            items=make_items(self.graph, hidden_channels, side) if side.has_content else None,
        )

    def reset_parameters(self) -> None:
        r"""Redraws the encoder."""
        self.encoder.reset_parameters()

    def views(self) -> GraphViews:
        r"""Content, side and final embeddings of all nodes."""
        return self.encoder()

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        return self.views().embedding.split([self.num_users, self.num_items])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, L2 and the contrast of both views on a batch of triples."""
        views = self.views()
        with self.layout.own_slice(batch) as (own, share):
            (content, side, embedding), (user, positive, negative), _ = self.encoder.batch_views(
                views, own, own.pos[:0]
            )
            terms = {
                'bpr': bpr_loss(embedding[0][user], embedding[1][positive], embedding[1][negative])
            }
            if self.contrast_weight > 0 and self.graph.modalities:
                terms['contrast'] = self.contrast_weight * sum(
                    grouped_info_nce(x[index], y[index], self.temperature, self.contrast_rows)
                    for x, y, index in zip(side, content, (user, positive))
                )
        if share != 1:
            terms = {name: share * term for name, term in terms.items()}
        user, positive, negative = self.layout.own_nodes(batch)
        rows = [self.encoder.learned_items(item) for item in (positive, negative)]
        squares = squared_norm(self.encoder.user_embedding[user], *rows)
        return {**terms, 'l2': self.l2 * squares / (2 * batch.user.numel())}
