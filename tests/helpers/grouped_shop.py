"""A shop whose users keep to one group of items."""

import numpy as np
import torch
from torch_geometric.data import HeteroData


def shop(rolled=0, noise=1.0, groups=12, items=240, users=400, seed=0):
    """Users who keep to one group of items; features tell the group."""
    generator = np.random.default_rng(seed)
    group = generator.integers(groups, size=items)
    item = np.concatenate(
        [generator.choice(np.flatnonzero(group == user % groups), 6) for user in range(users)]
    )
    x = np.eye(groups)[group] + noise * generator.normal(size=(items, groups))
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = users, items
    edges = np.stack([np.repeat(np.arange(users), 6), item])
    data['user', 'interacts', 'item'].edge_index = torch.from_numpy(np.unique(edges, axis=1))
    data['text'].x = torch.from_numpy(np.roll(x, rolled, axis=0)).float()
    data['item', 'has', 'text'].edge_index = torch.arange(items).expand(2, items).contiguous()
    return data
