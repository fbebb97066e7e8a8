r"""Filter of users and items with few interactions."""
from __future__ import annotations

from typing import Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.utils import coalesce

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import HAS, INTERACTS, ITEM, USER, check_graph, modality_names
from genrec_pyg.transforms.base import GraphTransform


@functional_transform('k_core')
class KCore(GraphTransform):
    r"""Keeps the largest subgraph in which every user has ``k_user`` distinct items and every item ``k_item`` distinct users.

    Users and items below the bound are dropped until none is left. Ids are made consecutive in their old order, in all edge
    types, features, raw ids and masks; modality nodes without an item are dropped. All interactions count, whatever their
    split, so split afterwards; build item graphs afterwards too, since an item that loses neighbours gets no others.

    Args:
        k: Bound for both sides, or the pair ``(k_user, k_item)``; 0 keeps all of a side.

    Raises:
        ConfigError: If a bound is negative or no integer.
        DataError: If the graph is not canonical or nothing is left.
    """

    def __init__(self, k: Union[int, tuple[int, int]]):
        bounds = tuple(k) if isinstance(k, (tuple, list)) else (k, k)
        if len(bounds) != 2 or any(not isinstance(bound, int) or isinstance(bound, bool) or bound < 0 for bound in bounds):
            raise ConfigError(f'k: got {k!r}, accepted is an integer from 0 or a pair of them for users and items')
        self.k = bounds

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, finite=False, disjoint=False)
        num_users, num_items = int(data[USER].num_nodes), int(data[ITEM].num_nodes)
        user, item = coalesce(data[INTERACTS].edge_index, num_nodes=max(num_users, num_items))
        # Each round removes what the round before left short; at most as many rounds as nodes, in practice a few.
        while True:
            user_kept = torch.bincount(user, minlength=num_users) >= self.k[0]
            item_kept = torch.bincount(item, minlength=num_items) >= self.k[1]
            edge_kept = user_kept[user] & item_kept[item]
            if bool(edge_kept.all()):
                break
            user, item = user[edge_kept], item[edge_kept]
        if user.numel() == 0:
            raise DataError(f'graph: no interaction is left by {self}, accepted are smaller')

        subset = {USER: user_kept, ITEM: item_kept}
        for name in modality_names(data):
            source, node = data[ITEM, HAS, name].edge_index
            subset[name] = torch.zeros(data[name].x.size(0), dtype=torch.bool, device=node.device)
            subset[name][node[item_kept[source]]] = True
        return _induced_subgraph(data, subset)


def _induced_subgraph(data: HeteroData, subset: dict[str, Tensor]) -> HeteroData:
    r""":meth:`HeteroData.subgraph` that also keeps lists per node (raw ids) and per edge aligned, on any device."""
    everything = {node_type: torch.ones(int(data[node_type].num_nodes), dtype=torch.bool, device=subset[USER].device)
                  for node_type in data.node_types if node_type not in subset}
    subset = {**subset, **everything}
    lists = {}
    for node_type, mask in subset.items():
        for key, value in list(data[node_type].items()):
            if isinstance(value, (list, tuple)) and len(value) == mask.numel():
                lists[node_type, key] = [entry for entry, kept in zip(value, mask.tolist()) if kept]
                del data[node_type][key]
    for edge_type in data.edge_types:
        store = data[edge_type]
        if 'edge_index' not in store:
            continue
        src, dst = store.edge_index
        for key, value in list(store.items()):
            if isinstance(value, (list, tuple)) and len(value) == src.numel():
                kept_edges = (subset[edge_type[0]][src] & subset[edge_type[2]][dst]).tolist()
                lists[edge_type, key] = [entry for entry, kept in zip(value, kept_edges) if kept]
                del store[key]
    data = data.subgraph(subset)
    for (store_type, key), value in lists.items():
        data[store_type][key] = value
    return data
