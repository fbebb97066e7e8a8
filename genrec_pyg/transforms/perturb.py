r"""Perturbations that show how much a model depends on its input: of modality features and of
training interactions.

All are deterministic under their seed and neither read nor change the global random state; strength
0 changes nothing. With one seed, what a smaller share chooses is among what a larger one chooses.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import (
    HAS,
    INTERACTS,
    ITEM,
    SPLITS,
    USER,
    check_graph,
    linked_nodes,
    name_list,
    read_edges,
    read_interactions,
    read_mask,
    select_modalities,
)
from genrec_pyg.graph.containers import as_dense
from genrec_pyg.transforms.base import GraphTransform
from genrec_pyg.transforms.selection import select_edges


@functional_transform('add_feature_noise')
class AddFeatureNoise(GraphTransform):
    r"""Adds Gaussian noise to modality features.

    .. math::
        x_{nj} \mapsto x_{nj} + \sigma \, s_j \, \epsilon_{nj}, \quad
        \epsilon_{nj} \sim \mathcal{N}(0, 1)

    with :math:`s_j` the standard deviation of column :math:`j` over the nodes that some item links
    to: :math:`\sigma` is a noise-to-signal ratio, whatever the units of the features.

    Args:
        sigma: Ratio :math:`\sigma` of standard deviations, from 0.
        modalities: Modalities to perturb; :obj:`None` takes all.
        seed: Seed.

    Raises:
        ConfigError: If ``sigma`` is negative or not finite, or a modality is not in the graph.
        DataError: If the graph is not canonical or features are not finite.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import AddFeatureNoise
        >>> noisy = AddFeatureNoise(0.1, seed=0)(toy_graph())
        >>> noisy['text'].x.shape
        torch.Size([7, 5])
    """

    def __init__(self, sigma: float, modalities: str | Iterable[str] | None = None, seed: int = 0):
        if not 0 <= sigma < float('inf'):
            raise ConfigError(f'sigma: got {sigma!r}, accepted are finite numbers from 0')
        self.sigma = sigma
        self.modalities = name_list(modalities)
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, disjoint=False)
        generator = torch.Generator().manual_seed(self.seed)
        for name in select_modalities(data, self.modalities):
            x = as_dense(data[name].x).detach().float()
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x.device)
            # In float64, in which the squares of large features do not overflow.
            deviation = x[linked_nodes(data, name)].double().std(dim=0, correction=0).float()
            data[name].x = x + self.sigma * deviation * noise
        return data


class _PerturbShare(GraphTransform):
    r"""Perturbs a share of every modality, one after another with one generator."""

    def __init__(self, share: float, modalities: str | Iterable[str] | None = None, seed: int = 0):
        self.share = _check_share(share)
        self.modalities = name_list(modalities)
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, finite=False, disjoint=False)
        generator = torch.Generator().manual_seed(self.seed)
        for name in select_modalities(data, self.modalities):
            self._perturb(data, name, generator)
        return data

    @abstractmethod
    def _perturb(self, data: HeteroData, name: str, generator: torch.Generator) -> None:
        r"""Perturbs the modality ``name`` of ``data``."""


@functional_transform('shuffle_features')
class ShuffleFeatures(_PerturbShare):
    r"""Gives a share of the nodes of a modality the features of others among them: right
    distribution, wrong item.

    The chosen nodes hand their features on in one cycle of random order, so that none keeps its
    own.

    Args:
        share: Share of the nodes in [0, 1], rounded to whole nodes; fewer than two are left as they
            are.
        modalities: Modalities to perturb, each by itself; :obj:`None` takes all.
        seed: Seed.

    Raises:
        ConfigError: If ``share`` is outside [0, 1] or a modality is not in the graph.
        DataError: If the graph is not canonical.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import ShuffleFeatures
        >>> ShuffleFeatures(0.5, seed=0)(toy_graph())['text'].x.shape
        torch.Size([7, 5])
    """

    def _perturb(self, data: HeteroData, name: str, generator: torch.Generator) -> None:
        x = as_dense(data[name].x)
        chosen = _choose(x.size(0), self.share, generator).to(x.device)
        shuffled = x.clone()
        shuffled[chosen] = x[chosen.roll(1)]
        data[name].x = shuffled


@functional_transform('drop_modality')
class DropModality(_PerturbShare):
    r"""Takes a modality away from a share of the items that have it: their links to its nodes go,
    the nodes stay.

    Args:
        share: Share in [0, 1] of the items with the modality, rounded to whole items; 1 removes the
            modality from every item.
        modalities: Modalities to take, each from a choice of items of its own; :obj:`None` takes
            all.
        seed: Seed.

    Raises:
        ConfigError: If ``share`` is outside [0, 1] or a modality is not in the graph.
        DataError: If the graph is not canonical.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import DropModality
        >>> data = DropModality(0.5, 'text', seed=0)(toy_graph())
        >>> data['item', 'has', 'text'].edge_index.shape
        torch.Size([2, 3])
    """

    def _perturb(self, data: HeteroData, name: str, generator: torch.Generator) -> None:
        source = read_edges(data, (ITEM, HAS, name))[0]
        item = source.unique()
        dropped = item[_choose(item.numel(), self.share, generator).to(item.device)]
        select_edges(data, (ITEM, HAS, name), (~torch.isin(source, dropped)).nonzero().view(-1))


@functional_transform('add_noise_interactions')
class AddNoiseInteractions(GraphTransform):
    r"""Adds random training interactions: distinct pairs, uniform over all pairs of user and item
    that occur in no split, appended to the interactions.

    Further attributes of an added edge (``time``, ``rating``) are those of a random training edge.
    The boolean ``noise`` of every edge says which ones are noise (true for the added ones, and as
    before, else false, for the others).

    Args:
        share: Added edges as share of the training edges, from 0, rounded to whole edges.
        seed: Seed.

    Raises:
        ConfigError: If ``share`` is negative or not finite.
        DataError: If the graph is not canonical, has no ``train_mask``, or fewer than twice as many
            pairs are free.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import AddNoiseInteractions
        >>> data = AddNoiseInteractions(0.3, seed=0)(toy_graph())
        >>> int(data['user', 'interacts', 'item'].train_mask.sum())
        13
    """

    def __init__(self, share: float, seed: int = 0):
        if not 0 <= share < float('inf'):
            raise ConfigError(f'share: got {share!r}, accepted are finite numbers from 0')
        self.share = share
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, finite=False, disjoint=False)
        train_mask = read_mask(data, 'train')
        if train_mask is None:
            raise DataError(
                f"graph: {INTERACTS} has no 'train_mask'; split it first, for example with "
                'genrec_pyg.transforms.RandomSplit()'
            )
        num_users, num_items = int(data[USER].num_nodes), int(data[ITEM].num_nodes)
        edge_index = read_interactions(data)
        user, item = edge_index.cpu()
        known = torch.unique(user * num_items + item)
        train = train_mask.cpu().nonzero().view(-1)
        wanted = round(self.share * train.numel())
        free = num_users * num_items - known.numel()
        if 2 * wanted > free:
            raise DataError(
                f'graph: {wanted} noise interactions are asked for and {free} pairs are free, '
                f'accepted is at most half of them'
            )
        generator = torch.Generator().manual_seed(self.seed)
        pair = known.new_empty(0)
        while pair.numel() < wanted:  # at least half of what is drawn is new
            drawn = torch.randint(num_users * num_items, (2 * wanted,), generator=generator)
            pair = _first_occurrences(torch.cat([pair, drawn[~torch.isin(drawn, known)]]))
        pair = pair[:wanted]
        like = (
            train[torch.randint(train.numel(), (wanted,), generator=generator)]
            if wanted
            else train[:0]
        )
        added = torch.stack([pair.div(num_items, rounding_mode='floor'), pair % num_items]).to(
            edge_index.device
        )
        index = torch.cat([torch.arange(edge_index.size(1)), like]).to(edge_index.device)
        masks = {split: read_mask(data, split) for split in SPLITS}
        select_edges(data, INTERACTS, index, torch.cat([edge_index, added], dim=1))
        store = data[INTERACTS]
        for split, mask in masks.items():
            if mask is not None:
                store[f'{split}_mask'] = torch.cat(
                    [mask, mask.new_full((wanted,), split == 'train')]
                )
        noise = as_dense(
            store.get(
                'noise',
                torch.zeros(edge_index.size(1) + wanted, dtype=torch.bool, device=added.device),
            )
        )
        store.noise = torch.cat([noise[: edge_index.size(1)], noise.new_ones(wanted)])
        return data


def _check_share(share: float) -> float:
    if not 0 <= share <= 1:
        raise ConfigError(f'share: got {share!r}, accepted are numbers from 0 to 1')
    return share


def _choose(size: int, share: float, generator: torch.Generator) -> Tensor:
    r"""A random choice of ``share`` of ``size`` entries, in random order."""
    return torch.randperm(size, generator=generator)[: round(share * size)]


def _first_occurrences(values: Tensor) -> Tensor:
    r"""Distinct values in the order in which they occur first."""
    distinct, inverse = torch.unique(values, return_inverse=True)
    first = torch.full_like(distinct, values.numel())
    first.scatter_reduce_(0, inverse, torch.arange(values.numel()), reduce='amin')
    return values[first.sort().values]
