r"""NCL: contrast of a node with its even-hop neighborhood and with its cluster prototype."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.cluster.torch_kmeans import fit_prototypes
from genrec_pyg.nn.conv.functional import layer_outputs
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import bank_contrast
from genrec_pyg.nn.models.collaborative.light_gcn import LightGCN
from genrec_pyg.nn.models.pairwise import rows_once
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import info_nce
from genrec_pyg.utils.validation import check_range

#: Fewest nodes per cluster on average.
_NODES_PER_CLUSTER = 20


class NCL(LightGCN):
    r"""NCL (Lin, Tian, Hou, Zhao, "Improving Graph Collaborative Filtering with
    Neighborhood-enriched Contrastive Learning", WWW 2022, Eqs. 7 to 14).

    With layers :math:`\mathbf{h}^l = \mathbf{A}^l \mathbf{E}`, context
    :math:`\mathbf{c} = \mathbf{h}^{2h}` and cluster centroids :math:`\mathbf{C}`,

    .. math::
        \mathcal{L} = \mathcal{L}_{\mathrm{LightGCN}}
        + w_s [\mathrm{NCE}(\mathbf{c}_{u_k}, \mathbf{h}^0_u)
        + \alpha \, \mathrm{NCE}(\mathbf{c}_{i^+_k}, \mathbf{h}^0_i)]
        + w_p [\mathrm{NCE}(\mathbf{h}^0_{u_k}, \mathbf{C}_u)
        + \mathrm{NCE}(\mathbf{h}^0_{i^+_k}, \mathbf{C}_i)]

    Banks are all nodes of the type and all centroids of the type; centroids carry no gradient and
    are recomputed every ``m_step`` epochs once ``warmup`` epochs have passed. All terms are means.
    The release averages BPR but sums the contrasts over ``B = 4096``: multiply its weights by
    ``B``. With both weights 0 the model is LightGCN.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Rows that the penalty counts, ``'batch'`` or ``'table'``.
        hops: Half the hops ``h`` of the context.
        temperature: Temperature :math:`\tau`.
        contrast_weight: :math:`w_s`, of the contrast with the context.
        item_weight: :math:`\alpha`.
        prototype_weight: :math:`w_p`, of that with prototypes.
        num_clusters: Clusters per type; no more than a twentieth of the nodes (but two) are made.
        m_step: Epochs between two clusterings.
        warmup: Epochs without prototypes.
        spherical: Whether unit rows are clustered.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import NCL
        >>> from genrec_pyg.testing import toy_graph
        >>> NCL(toy_graph(), num_clusters=2)
        NCL(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {
        'reg': renamed('penalty_rows'),
        'structure_weight': renamed('contrast_weight'),
    }

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 3,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        hops: int = 1,
        temperature: float = 0.1,
        contrast_weight: float = 4e-4,
        item_weight: float = 1.0,
        prototype_weight: float = 3e-4,
        num_clusters: int = 1000,
        m_step: int = 1,
        warmup: int = 20,
        spherical: bool = True,
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data,
            modalities,
            hidden_channels,
            num_layers,
            l2,
            init,
            penalty_rows,
            item_side=item_side,
        )
        for name, value, low in (
            ('hops', hops, 1),
            ('num_clusters', num_clusters, 1),
            ('m_step', m_step, 1),
            ('warmup', warmup, 0),
            ('contrast_weight', contrast_weight, 0),
            ('item_weight', item_weight, 0),
            ('prototype_weight', prototype_weight, 0),
        ):
            check_range(name, value, low)
        if not temperature > 0:
            raise ConfigError(f'temperature: got {temperature}, accepted are positive numbers')
        self.hops, self.temperature, self.item_weight = hops, temperature, item_weight
        self.contrast_weight, self.prototype_weight = contrast_weight, prototype_weight
        self.m_step, self.warmup, self.spherical = m_step, warmup, spherical
        self.uses_prototypes = False
        for name, size in (('user', self.num_users), ('item', self.num_items)):
            count = min(num_clusters, max(2, size // _NODES_PER_CLUSTER), size)
            self.register_buffer(f'{name}_centroids', torch.zeros(count, hidden_channels))
            self.register_buffer(f'{name}_label', torch.full((size,), -1, dtype=torch.long))

    def reset_parameters(self) -> None:
        r"""Redraws the tables and forgets the clusters."""
        super().reset_parameters()
        self.uses_prototypes = False
        for name in ('user', 'item'):
            getattr(self, f'{name}_centroids').zero_()
            getattr(self, f'{name}_label').fill_(-1)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Clusters users and items (expectation step) once the warm-up is over."""
        self.uses_prototypes = self.prototype_weight > 0 and epoch >= self.warmup
        if not self.uses_prototypes:
            return {}
        if (epoch - self.warmup) % self.m_step == 0 or bool((self.user_label < 0).any()):
            self.cluster()
        return {
            'user_clusters': float(self.user_label.unique().numel()),
            'item_clusters': float(self.item_label.unique().numel()),
        }

    def cluster(self) -> None:
        r"""Finds the prototypes of the layer-0 tables, from the previous ones where there are
        any.
        """
        for name, table in (('user', self.embedding.user), ('item', self.embedding.item)):
            centroids, label = getattr(self, f'{name}_centroids'), getattr(self, f'{name}_label')
            start = None if bool((label < 0).any()) else centroids
            found, assigned = fit_prototypes(table, centroids.size(0), start, self.spherical)
            centroids.copy_(found)
            label.copy_(assigned)

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, L2 and the contrasts with neighborhood and prototypes."""
        if self.contrast_weight > 0:
            layers = layer_outputs(
                self.embedding.joint(),
                [self.interactions.adjacency] * max(self.num_layers, 2 * self.hops),
            )
            mean = torch.stack(layers[: self.num_layers + 1]).mean(dim=0)
            terms = self.rank_terms(*self.split(mean), batch)
            users, items = self.split(layers[2 * self.hops])
            terms['contrast_structure'] = self.contrast_weight * (
                bank_contrast(users, self.embedding.user, batch.user, self.temperature)
                + self.item_weight
                * bank_contrast(items, self.embedding.item, batch.pos, self.temperature)
            )
        else:
            terms = super().loss(batch)
        if self.uses_prototypes:
            terms['contrast_prototypes'] = self.prototype_weight * (
                info_nce(
                    self.embedding.user[batch.user],
                    None,
                    self.temperature,
                    self.user_centroids,
                    self.user_label[batch.user],
                )
                + info_nce(
                    self.embedding.item[batch.pos],
                    None,
                    self.temperature,
                    self.item_centroids,
                    self.item_label[batch.pos],
                )
            )
        return terms
