r"""CLCRec: collaborative embeddings tied to content, for items without interactions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import LeakyReLU, Linear, Parameter, Sequential
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ParameterDict
from genrec_pyg.nn.losses import first_of_list
from genrec_pyg.nn.modality.features import item_features, require_modalities
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.ops import Adjacency, NegativeSampler, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range


class Candidates(NamedTuple):
    r"""Negatives of a batch: items ``[B, n]``, or ``[n]`` where all triples share them, and the
    entries ``[B, n]`` that are no negatives.
    """

    item: Tensor
    mask: Tensor


class CLCRec(PairwiseRecommender):
    r"""CLCRec (Wei, Wang, Li, Nie, Li, Li, Chua, "Contrastive Learning for Cold-Start
    Recommendation", ACM MM 2021, Eqs. 9 to 14). No graph is propagated; an item without training
    edge is cold.

    With content :math:`\mathbf{z} = \mathrm{Enc}([\mathrm{norm}(\mathbf{X}_m)]_m)`, a list of the
    positive and ``n`` warm items outside the user's training items, and
    :math:`\mathbf{x}_j = \mathbf{z}_j` with probability :math:`\rho`, else the item's row,

    .. math::
        \mathcal{L} = \lambda_c \, \mathrm{softmax}\left( \frac{\cos(\mathbf{e}_{i^+},
        \mathbf{z}_j)}{\tau} \right) + (1 - \lambda_c) \, \mathrm{softmax} \left( \frac{\mathbf{e}_u
        \cdot \mathbf{x}_j}{\tau} \right) + \frac{\eta}{2} \left( \overline{\Vert \mathbf{e}_u
        \Vert} + \overline{\Vert \mathbf{e}_j \Vert} \right)

    (cross-entropies of the positive, norms not squared). Warm items score with their row, cold ones
    with their content. Items that lack a modality have a learned vector in its place, so every item
    has content; the negatives of the batch itself are not used.

    At the published :math:`\tau = 2` with ``n = 128`` the first term lies between 3.87 and 5.86: it
    can fall by a fifth only.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        encoder_channels: Width of the encoder's hidden layer.
        l2: :math:`\eta`.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        num_negatives: Negatives ``n`` per triple.
        negatives: ``'own'``, drawn per triple, or ``'shared'``, one draw per batch from which a
            user's items are masked.
        temperature: Temperature :math:`\tau`.
        content_weight: :math:`\lambda_c`.
        replace: :math:`\rho`.
        score: ``'mixed'``, content for cold items only, or ``'content'`` for all.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import CLCRec
        >>> from genrec_pyg.testing import toy_graph
        >>> CLCRec(toy_graph())
        CLCRec(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        encoder_channels: int = 256,
        l2: float = 0.1,
        init: str = 'xavier_normal',
        num_negatives: int = 128,
        negatives: str = 'own',
        temperature: float = 2.0,
        content_weight: float = 0.5,
        replace: float = 0.5,
        score: str = 'mixed',
    ):
        super().__init__(data, modalities, hidden_channels, l2, init)
        require_modalities(self.graph, 'CLCRec')
        check_range('encoder_channels', encoder_channels, 1)
        check_range('num_negatives', num_negatives, 1)
        check_range('content_weight', content_weight, 0, 1)
        check_range('replace', replace, 0, 1)
        if not temperature > 0:
            raise ConfigError(f'temperature: got {temperature}, accepted are positive numbers')
        check_choice('negatives', negatives, ('own', 'shared'))
        check_choice('score', score, ('mixed', 'content'))
        self.num_negatives, self.negatives, self.temperature = num_negatives, negatives, temperature
        self.content_weight = content_weight
        self.replace = replace
        self.content_only = score == 'content'
        self.features = item_features(self.graph)
        widths = {name: features.x.size(1) for name, features in self.features.items()}
        self.missing = ParameterDict(
            {
                name: Parameter(torch.zeros(width))
                for name, width in widths.items()
                if not bool(self.features[name].present.all())
            }
        )
        self.encoder = Sequential(
            Linear(sum(widths.values()), encoder_channels),
            LeakyReLU(0.01),
            Linear(encoder_channels, hidden_channels),
        )
        degree = self.graph.item_degree()
        self.warm = degree > 0
        self.warm_items = self.warm.nonzero().view(-1)
        # Training items in the numbering of warm items, in which negatives are drawn.
        edges = torch.stack(
            [self.graph.edge_index[0], (self.warm.cumsum(0) - 1)[self.graph.edge_index[1]]]
        )
        self.owned = Adjacency.from_edge_index(
            edges, size=(self.num_users, self.warm_items.numel())
        )
        self._sampler: NegativeSampler | None = None

    def reset_parameters(self) -> None:
        r"""Redraws tables and encoder; the vectors of missing modalities become zero."""
        super().reset_parameters()
        for layer in (self.encoder[0], self.encoder[2]):
            layer.reset_parameters()
        for vector in self.missing.values():
            torch.nn.init.zeros_(vector)

    def content(self, item: Tensor | None = None) -> Tensor:
        r"""Content ``[n, d]`` of the items ``item`` ``[n]``, or of all."""
        blocks = []
        for name, features in self.features.items():
            x, present = features if item is None else features.rows(item)
            blocks.append(
                torch.where(present, x, self.missing[name]) if name in self.missing else x
            )
        return self.encoder(torch.cat(blocks, dim=1))

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        content = self.content()
        if self.content_only:
            return self.embedding.user, content
        return self.embedding.user, torch.where(
            self.warm.unsqueeze(1), self.embedding.item, content.to(self.embedding.item)
        )

    def draw_negatives(self, user: Tensor) -> Candidates:
        r"""Warm items that are no training items of ``user`` ``[B]``."""
        count = self.num_negatives
        if self.negatives == 'own':
            if self._sampler is None or self._sampler.interactions.device != user.device:
                self._sampler = NegativeSampler(self.owned)
            found, valid = self._sampler(user.repeat_interleave(count))
            return Candidates(self.warm_items[found].view(-1, count), ~valid.view(-1, count))
        found = torch.randint(self.warm_items.numel(), (count,), device=user.device)
        distinct, place = found.unique(return_inverse=True)
        rowptr, col = self.owned.select_rows(user)
        position = torch.searchsorted(distinct, col).clamp(max=distinct.numel() - 1)
        held = distinct[position] == col
        mask = torch.zeros(user.numel(), distinct.numel(), dtype=torch.bool, device=user.device)
        mask[
            torch.repeat_interleave(rowptr.diff(), output_size=col.numel())[held], position[held]
        ] = True
        return Candidates(self.warm_items[found], mask[:, place])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Item-content and user-item terms and the penalty."""
        size = batch.user.numel()
        negatives = self.draw_negatives(batch.user)
        nodes, index = torch.cat([batch.pos, negatives.item.flatten()]).unique(return_inverse=True)
        first, others = index[:size], index[size:].view(negatives.item.shape)
        mask = torch.cat([torch.zeros_like(negatives.mask[:, :1]), negatives.mask], dim=1)
        user = self.embedding.user[batch.user]
        rows = self.embedding.item[nodes]
        content = self.content(nodes)

        cosines = _products(unit_rows(rows)[first], unit_rows(content), first, others)
        by_content = torch.rand(mask.shape, device=mask.device) < self.replace
        scores = torch.where(
            by_content,
            _products(user, content, first, others),
            _products(user, rows, first, others),
        )
        norm, count = rows.norm(dim=1), negatives.mask.size(1)
        norm = user.norm(dim=1).mean() + (norm[first].mean() + count * norm[others].mean()) / (
            1 + count
        )
        return {
            'item_content': self.content_weight * first_of_list(cosines / self.temperature, mask),
            'user_item': (1 - self.content_weight) * first_of_list(scores / self.temperature, mask),
            'norm': self.l2 / 2 * norm,
        }


def _products(anchor: Tensor, table: Tensor, first: Tensor, others: Tensor) -> Tensor:
    r"""Products ``[B, 1 + n]`` of ``anchor`` ``[B, d]`` with the rows of ``table`` that its list
    names: ``first`` ``[B]``, and ``others`` ``[B, n]``, or ``[n]`` where all lists share them.
    """
    if others.dim() == 1:
        return torch.cat(
            [(anchor * table[first]).sum(dim=1, keepdim=True), anchor @ table[others].t()], dim=1
        )
    # Products with all rows, of which the lists pick: cheaper than rows of every entry, which
    # repeat.
    return (anchor @ table.t()).gather(1, torch.cat([first.unsqueeze(1), others], dim=1))
