r"""A generated dataset with planted interests, for first steps and tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import HAS, INTERACTS, ITEM, USER


class Demo(InMemoryDataset):
    r"""The generated dataset as a PyG dataset; it lives in memory and reads or writes no file.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_clusters: Number of planted clusters.
        noise: Share of noise clicks.
        seed: Seed.
        transform: Transform at access.

    Examples:
        >>> from genrec_pyg.datasets import Demo
        >>> data = Demo()[0]
        >>> data.node_types
        ['user', 'item', 'image', 'text', 'audio']
    """

    def __init__(
        self,
        num_users: int = 600,
        num_items: int = 400,
        num_clusters: int = 12,
        noise: float = 0.15,
        seed: int = 0,
        transform: Callable | None = None,
    ):
        super().__init__(None, transform)
        self.data, self.slices = self.collate(
            [demo_graph(num_users, num_items, num_clusters, noise, seed)]
        )


def demo_graph(
    num_users: int = 600,
    num_items: int = 400,
    num_clusters: int = 12,
    noise: float = 0.15,
    seed: int = 0,
) -> HeteroData:
    r"""Users with two or three planted interest clusters, items with features that reflect theirs,
    and noise clicks.

    A user's clicks fall into the user's clusters, popular items first; a share ``noise`` falls
    anywhere. Of every user's genuine clicks about a tenth each go to validation and test, noise
    stays in training, so that debiasing can be scored against the truth. All items have ``image``
    and ``text`` features, three quarters ``audio``, and a tenth two images.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_clusters: Number of planted clusters.
        noise: Share of noise clicks.
        seed: Seed; the graph depends on nothing else.

    Returns:
        Canonical graph with the truth next to it: ``data['item'].cluster`` ``[I]``,
        ``data['user'].clusters`` ``[U, 3]`` (-1 where a user has two) and ``noise`` on every
        interaction.

    Raises:
        ConfigError: If a size is too small or ``noise`` is no share.
    """
    for name, value, least in (
        ('num_users', num_users, 1),
        ('num_clusters', num_clusters, 4),
        ('num_items', num_items, 4 * num_clusters),
    ):
        if value < least:
            raise ConfigError(f'{name}: got {value}, accepted are integers from {least}')
    if not 0.0 <= noise <= 1.0:
        raise ConfigError(f'noise: got {noise}, accepted are numbers from 0 to 1')
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.arange(num_items) % num_clusters)
    appeal = rng.permutation(1.0 / np.arange(1, num_items + 1) ** 0.6)
    clusters = np.full((num_users, 3), -1)
    pairs = []
    for user in range(num_users):
        own = rng.choice(num_clusters, size=rng.integers(2, 4), replace=False)
        clusters[user, : len(own)] = own
        genuine = np.isin(cluster, own)
        count = int(rng.integers(10, 31))
        weight = np.where(genuine, appeal, 0.0)
        count = min(count, int(genuine.sum()) - 2)
        chosen = rng.choice(num_items, size=count, replace=False, p=weight / weight.sum())
        split = np.zeros(count, dtype=int)
        held = max(1, round(0.1 * count))
        split[:held], split[held : 2 * held] = 1, 2
        strange = np.flatnonzero(~genuine)
        others = rng.choice(
            strange, size=min(rng.binomial(count, noise), len(strange)), replace=False
        )
        pairs.append(
            np.column_stack([np.full(count, user), chosen, split, np.zeros(count, dtype=int)])
        )
        pairs.append(
            np.column_stack(
                [
                    np.full(len(others), user),
                    others,
                    np.zeros(len(others), dtype=int),
                    np.ones(len(others), dtype=int),
                ]
            )
        )
    user, item, split, noisy = np.concatenate(pairs).T
    features = {}
    for name, width, blur in (('image', 48, 0.9), ('text', 32, 0.7), ('audio', 24, 0.9)):
        center = rng.standard_normal((num_clusters, width))
        features[name] = center[cluster] + blur * rng.standard_normal((num_items, width))
    data = build_graph(
        user, item, split, num_users, num_items, features, source='demo', ordered=False
    )
    order = dict(zip(zip(user.tolist(), item.tolist()), noisy.tolist()))
    edge_index = data[INTERACTS].edge_index
    data[INTERACTS].noise = torch.tensor([bool(order[pair]) for pair in zip(*edge_index.tolist())])
    data[ITEM].cluster, data[USER].clusters = torch.from_numpy(cluster), torch.from_numpy(clusters)

    heard = torch.from_numpy(np.sort(rng.choice(num_items, size=3 * num_items // 4, replace=False)))
    data['audio'].x = data['audio'].x[heard]
    data[ITEM, HAS, 'audio'].edge_index = torch.stack([heard, torch.arange(heard.numel())])
    twice = torch.from_numpy(np.sort(rng.choice(num_items, size=num_items // 10, replace=False)))
    second = (
        data['image'].x[twice]
        + 0.3 * torch.from_numpy(rng.standard_normal((twice.numel(), 48))).float()
    )
    data['image'].x = torch.cat([data['image'].x, second])
    links = torch.stack([twice, num_items + torch.arange(twice.numel())])
    data[ITEM, HAS, 'image'].edge_index = torch.cat(
        [data[ITEM, HAS, 'image'].edge_index, links], dim=1
    )
    return data
