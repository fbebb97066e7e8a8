"""Graphs with times that several tests share."""
import torch
from torch_geometric.data import HeteroData


def timed_data(sequences, num_items=10, shuffle=False):
    """A graph in which user ``u`` has the items of ``sequences[u]`` in that order."""
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = len(sequences), num_items
    rows = [(user, item, time) for user, items in enumerate(sequences) for time, item in enumerate(items)]
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
