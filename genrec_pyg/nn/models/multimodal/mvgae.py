r"""MVGAE: Gaussian embeddings of every modality, joined by a product of experts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv.functional import spmm_blocks
from genrec_pyg.nn.embedding import init_table
from genrec_pyg.nn.losses import batch_l2, bpr_loss
from genrec_pyg.nn.modality.features import item_features, require_modalities
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.nn.variational import Gaussian, product_of_experts
from genrec_pyg.ops import Adjacency, random_walk_adjacency, unit_rows
from genrec_pyg.utils.validation import check_range


class MeanConv(torch.nn.Module):
    r"""Mean over neighbors of mapped rows, l2-normalized, then a linear layer between leaky ReLUs.

    .. math::
        \mathbf{G} \, \varphi(\mathrm{dropout}(\mathrm{norm}(\mathbf{P} \mathbf{x} \mathbf{A}
        + \mathbf{a}))) + \mathbf{g}

    The product with :math:`\mathbf{P}` is taken by the caller, for many layers in one call:
    :meth:`forward` takes its result.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        dropout: Dropout probability.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.weight = Parameter(torch.empty(in_channels, out_channels))
        self.bias = Parameter(torch.empty(out_channels))
        self.linear = Linear(out_channels, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights Xavier normal, biases as those of a linear layer."""
        init_table(self.weight, 'xavier_normal')
        bound = 1 / math.sqrt(self.weight.size(0))
        torch.nn.init.uniform_(self.bias, -bound, bound)
        self.linear.reset_parameters()
        init_table(self.linear.weight, 'xavier_normal')

    def forward(self, mean: Tensor) -> Tensor:
        r"""Maps the mean over neighbors ``[n, out_channels]`` of ``x @ weight`` to
        ``[n, out_channels]``.
        """
        out = F.dropout(unit_rows(mean + self.bias), self.dropout, self.training)
        return self.linear(F.leaky_relu(out))


class Expert(torch.nn.Module):
    r"""Encoder of one modality: rows of users are learned, rows of items are mapped features; ``L``
    layers and two heads.

    Args:
        num_users: Number of users ``U``.
        in_channels: Width of the features.
        latent_channels: Width of the first rows.
        out_channels: Width ``d`` of mean and log variance.
        num_layers: Layers ``L``.
        dropout: Dropout probability.
    """

    def __init__(
        self,
        num_users: int,
        in_channels: int,
        latent_channels: int,
        out_channels: int,
        num_layers: int,
        dropout: float,
    ):
        super().__init__()
        self.preference = Parameter(torch.empty(num_users, latent_channels))
        self.input = Linear(in_channels, latent_channels)
        widths = [latent_channels] + [out_channels] * num_layers
        self.layers = torch.nn.ModuleList(
            MeanConv(a, b, dropout) for a, b in zip(widths, widths[1:])
        )
        self.heads = torch.nn.ModuleList(
            MeanConv(widths[-1], out_channels, dropout) for _ in range(2)
        )
        self.skips = torch.nn.ModuleList(Linear(widths[-1], out_channels) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Tables and weights Xavier normal, biases as those of a linear layer."""
        init_table(self.preference, 'xavier_normal')
        for linear in (self.input, *self.skips):
            linear.reset_parameters()
            init_table(linear.weight, 'xavier_normal')
        for layer in (*self.layers, *self.heads):
            layer.reset_parameters()

    def first_rows(self, x: Tensor) -> Tensor:
        r"""Rows of all nodes ``[N, latent_channels]`` from features of items ``x``
        ``[I, in_channels]``.
        """
        return unit_rows(torch.cat([self.preference, self.input(x)]))


class MVGAE(Recommender):
    r"""MVGAE (Yi, Chen, "Multi-Modal Variational Graph Auto-Encoder for Recommendation Systems",
    IEEE Transactions on Multimedia 2021, https://doi.org/10.1109/TMM.2021.3111487).

    Every modality, and a free table of items as one more, is an expert: an encoder on the graph
    :math:`\mathbf{P} = (\mathbf{D} + \mathbf{I})^{-1} (\mathbf{B} + \mathbf{I})` gives each node a
    mean and a log variance. The posterior is their product
    (:func:`~genrec_pyg.nn.variational.product_of_experts`), in which a modality that an item lacks
    takes no part. Each of these distributions :math:`q` is trained by ranking its samples and by
    its distance from the standard normal:

    .. math::
        \mathcal{L} = \sum_q \left[ \frac{1}{B \ln 2} \sum_k \mathrm{softplus}(s^-_k - s^+_k)
        + \frac{\beta}{B N} \sum_n \mathrm{KL}(q_n \, \Vert \, \mathcal{N}(0, \mathbf{I})) \right],
        \qquad s = \mathbf{v}_u \cdot \mathbf{v}_i

    with :math:`\mathbf{v} = \sigma(\mathbf{z})` of samples in training and of means in evaluation,
    or :math:`\mathbf{z}` itself. All products with :math:`\mathbf{P}` of a layer are one. The
    equations are those of the authors' program, whose loss is this one times ``B``.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        latent_channels: Width of the rows that enter the graph.
        num_layers: Layers ``L``.
        kl_weight: :math:`\beta`.
        noise_scale: Factor on the noise of samples.
        dropout: Dropout after the mean over neighbors.
        max_log_variance: Largest log variance that counts in samples and in the distance.
        squash: Whether embeddings pass a sigmoid.
        l2: Weight of a penalty on the sampled rows of a batch; the paper has none.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import MVGAE
        >>> from genrec_pyg.testing import toy_graph
        >>> MVGAE(toy_graph())
        MVGAE(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        latent_channels: int = 128,
        num_layers: int = 1,
        kl_weight: float = 0.1,
        noise_scale: float = 0.1,
        dropout: float = 0.1,
        max_log_variance: float = 10.0,
        squash: bool = True,
        l2: float = 0.0,
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'MVGAE')
        for name, value, low in (
            ('hidden_channels', hidden_channels, 1),
            ('latent_channels', latent_channels, 1),
            ('num_layers', num_layers, 0),
            ('kl_weight', kl_weight, 0),
            ('noise_scale', noise_scale, 0),
            ('l2', l2, 0),
        ):
            check_range(name, value, low)
        check_range('dropout', dropout, 0, 1)
        self.kl_weight = kl_weight
        self.noise_scale = noise_scale
        self.max_log_variance = max_log_variance
        self.squash, self.l2 = squash, l2
        self.features = item_features(self.graph, normalize=False)
        self.item_table = Parameter(torch.empty(self.num_items, hidden_channels))
        self.experts = ModuleDict(
            {
                name: Expert(
                    self.num_users,
                    features.x.size(1),
                    latent_channels,
                    hidden_channels,
                    num_layers,
                    dropout,
                )
                for name, features in self.features.items()
            }
        )
        self.item_expert = Expert(
            self.num_users, hidden_channels, latent_channels, hidden_channels, num_layers, dropout
        )
        self.adjacency = random_walk_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=True
        )
        init_table(self.item_table, 'xavier_normal')

    def reset_parameters(self) -> None:
        r"""Redraws tables and encoders."""
        init_table(self.item_table, 'xavier_normal')
        for expert in self._experts():
            expert.reset_parameters()

    def _experts(self) -> list[Expert]:
        return [*self.experts.values(), self.item_expert]

    def posteriors(self) -> list[Gaussian]:
        r"""Distributions ``[N, d]`` of the modalities, of the free table, and their product, in
        this order.
        """
        experts = self._experts()
        rows = [
            expert.first_rows(x)
            for expert, x in zip(
                experts, [*(features.x for features in self.features.values()), self.item_table]
            )
        ]
        for layers in zip(*(expert.layers for expert in experts)):
            rows = [
                F.leaky_relu(layer(mean))
                for layer, mean in zip(layers, _means(self.adjacency, rows, layers))
            ]
        heads = [head for expert in experts for head in expert.heads]
        skips = [skip for expert in experts for skip in expert.skips]
        rows = [x for x in rows for _ in range(2)]
        out = [
            head(mean) + F.leaky_relu(skip(x))
            for head, skip, x, mean in zip(heads, skips, rows, _means(self.adjacency, rows, heads))
        ]
        found = [Gaussian(mean, log_variance) for mean, log_variance in zip(out[::2], out[1::2])]
        return [*found, product_of_experts(found, [*self._presence().values(), None])]

    def _presence(self) -> dict[str, Tensor | None]:
        r"""Nodes ``[N, 1]`` that an expert has something on; :obj:`None` for all."""
        users = torch.ones(self.num_users, 1, dtype=torch.bool, device=self.graph.edge_index.device)
        return {
            name: None
            if bool(features.present.all())
            else torch.cat([users, features.present.bool()])
            for name, features in self.features.items()
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Means of the product, users ``[U, d]`` and items ``[I, d]``."""
        mean = self.posteriors()[-1].mean
        return (mean.sigmoid() if self.squash else mean).split([self.num_users, self.num_items])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Ranking by samples of every distribution, and the distances from the standard normal."""
        rank, distance, penalty = 0, 0, 0
        num_rows = len(batch.user)
        for posterior, present in zip(self.posteriors(), [*self._presence().values(), None, None]):
            sample = posterior.sample(self.noise_scale, self.max_log_variance)
            users, items = (sample.sigmoid() if self.squash else sample).split(
                [self.num_users, self.num_items]
            )
            rows = users[batch.user], items[batch.pos], items[batch.neg]
            kl, mask = posterior.kl(self.max_log_variance), None
            if present is not None:
                mask = present[self.num_users :, 0]
                kl, mask = kl[present[:, 0]], mask[batch.pos] & mask[batch.neg]
            rank = rank + bpr_loss(*rows, mask) / math.log(2)
            distance = distance + kl.mean() / num_rows
            penalty = penalty + batch_l2(*rows)
        return {'bpr': rank, 'kl': self.kl_weight * distance, 'l2': self.l2 * penalty}


def _means(
    adjacency: Adjacency, rows: Sequence[Tensor], layers: Sequence[MeanConv]
) -> Sequence[Tensor]:
    r"""Means over neighbors of the mapped ``rows``, all in one product."""
    return spmm_blocks(adjacency, [x @ layer.weight for x, layer in zip(rows, layers)])
