r"""Filter of users and items with few interactions."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.utils import coalesce

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import (
    HAS,
    ITEM,
    USER,
    check_graph,
    modality_names,
    read_edges,
    read_interactions,
)
from genrec_pyg.transforms.base import GraphTransform
from genrec_pyg.transforms.selection import keep_numbers, select_nodes


@functional_transform('k_core')
class KCore(GraphTransform):
    r"""Keeps the largest subgraph in which every user has ``k_user`` distinct items and every item
    ``k_item`` distinct users.

    Users and items below the bound are dropped until none is left. Ids are made consecutive in
    their old order, in everything that the graph says about nodes and edges
    (:func:`~genrec_pyg.transforms.selection.select_nodes`); modality nodes without an item are
    dropped. ``raw_id`` keeps the old numbers where a graph has none of its own. All interactions
    count, whatever their split, so split afterwards; build item graphs afterwards too, since an
    item that loses neighbors gets no others.

    Args:
        k: Bound for both sides, or the pair ``(k_user, k_item)``; 0 keeps all of a side.

    Raises:
        ConfigError: If a bound is negative or no integer.
        DataError: If the graph is not canonical or nothing is left.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import KCore
        >>> data = KCore(2)(toy_graph())
        >>> data['user'].num_nodes, data['item'].num_nodes
        (3, 3)
    """

    def __init__(self, k: int | tuple[int, int]):
        bounds = tuple(k) if isinstance(k, (tuple, list)) else (k, k)
        if len(bounds) != 2 or any(
            not isinstance(bound, int) or isinstance(bound, bool) or bound < 0 for bound in bounds
        ):
            raise ConfigError(
                f'k: got {k!r}, accepted is an integer from 0 or a pair of them for users and items'
            )
        self.k = bounds

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, finite=False, disjoint=False)
        num_users, num_items = int(data[USER].num_nodes), int(data[ITEM].num_nodes)
        user, item = coalesce(read_interactions(data), num_nodes=max(num_users, num_items))
        # Each round removes what the round before left short; at most as many rounds as nodes, in
        # practice a few.
        while True:
            user_kept = torch.bincount(user, minlength=num_users) >= self.k[0]
            item_kept = torch.bincount(item, minlength=num_items) >= self.k[1]
            edge_kept = user_kept[user] & item_kept[item]
            if bool(edge_kept.all()):
                break
            user, item = user[edge_kept], item[edge_kept]
        if user.numel() == 0:
            raise DataError(f'graph: no interaction is left by {self}, accepted are smaller')

        orders = {USER: user_kept.nonzero().view(-1), ITEM: item_kept.nonzero().view(-1)}
        for name in modality_names(data):
            source, node = read_edges(data, (ITEM, HAS, name))
            orders[name] = node[item_kept[source]].unique()
        out = select_nodes(data, orders)
        for node_type in (USER, ITEM):
            keep_numbers(out, node_type, orders[node_type])
        return out
