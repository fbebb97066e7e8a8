"""Graphs with times that several tests share."""

import torch
from torch_geometric.data import HeteroData


def timed_data(sequences, num_items=10, shuffle=False):
    """A graph in which user ``u`` has the items of ``sequences[u]`` in that order."""
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = len(sequences), num_items
    rows = [
        (user, item, time)
        for user, items in enumerate(sequences)
        for time, item in enumerate(items)
    ]
    user, item, time = torch.tensor(rows, dtype=torch.long).view(-1, 3).t()
    order = torch.randperm(len(rows)) if shuffle else torch.arange(len(rows))
    store = data['user', 'interacts', 'item']
    store.edge_index, store.time = torch.stack([user, item])[:, order], time[order]
    return data


def all_train(data):
    """The same graph with every interaction in training."""
    store = data['user', 'interacts', 'item']
    store.train_mask = torch.ones(store.edge_index.size(1), dtype=torch.bool)
    return data


def sequence_data(held_out=((6, 7), (1, 2), (3, 4))):
    """Five users of which the first three have a validation and a test item, the fourth has one
    item and the last none.
    """
    train = [[0, 1, 2, 3, 4, 5], [3, 4, 5, 6], [8, 7, 6, 5, 2], [9], []]
    pairs = [(user, item) for user, items in enumerate(train) for item in items]
    pairs += [(user, items[place]) for place in range(2) for user, items in enumerate(held_out)]
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 5, 11
    store = data['user', 'interacts', 'item']
    store.edge_index, store.time = torch.tensor(pairs).t().contiguous(), torch.arange(len(pairs))
    place = torch.arange(len(pairs))
    store.train_mask = place < 16
    store.val_mask, store.test_mask = (place >= 16) & (place < 19), place >= 19
    return data


def cyclic_data(num_users=60, num_items=24, length=9, seed=0):
    """Users who go through the items in order, each from a start of his own and with a step of 1 or
    5: what comes next is certain from two items, and every item is equally popular.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(num_items, (num_users, 1), generator=generator)
    step = torch.tensor([1, 5])[torch.randint(2, (num_users, 1), generator=generator)]
    return timed_data(((start + step * torch.arange(length)) % num_items).tolist(), num_items)
