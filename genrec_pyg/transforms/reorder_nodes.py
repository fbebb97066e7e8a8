r"""Renumbering of users and items for locality of memory."""

from __future__ import annotations

import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, USER, check_graph, split_edges
from genrec_pyg.transforms.base import GraphTransform
from genrec_pyg.transforms.selection import keep_numbers, select_nodes

METHODS = ('degree', 'rcm')


@functional_transform('reorder_nodes')
class ReorderNodes(GraphTransform):
    r"""Gives users and items new numbers, so that rows that are read together lie together; nothing
    else changes.

    ``'degree'`` numbers by falling number of training interactions, so that the rows of popular
    nodes share cache lines; ``'rcm'`` by reverse Cuthill-McKee on the training graph (Cuthill and
    McKee, ACM 1969), which narrows its bandwidth. ``benchmarks/speed/kernels.py --reorder``
    measures what either gains.

    Everything that the graph says about users and items moves along
    (:func:`~genrec_pyg.transforms.selection.select_nodes`), and ``raw_id`` keeps the old numbers
    where a graph has none of its own, so that recommendations still name the users and items that
    the caller knows.

    Args:
        method: ``'degree'`` or ``'rcm'``.

    Raises:
        ConfigError: On an unknown method.
        DataError: If the graph is not canonical.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import ReorderNodes
        >>> data = ReorderNodes('degree')(toy_graph())
        >>> data['item'].num_nodes
        7
    """

    def __init__(self, method: str = 'degree'):
        if method not in METHODS:
            raise ConfigError(
                f'method: got {method!r}, accepted are {", ".join(map(repr, METHODS))}'
            )
        self.method = method

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, finite=False, disjoint=False)
        sizes = {node_type: int(data[node_type].num_nodes) for node_type in (USER, ITEM)}
        user, item = split_edges(data, 'train').cpu()
        if self.method == 'degree':
            orders = {
                node_type: torch.bincount(ids, minlength=sizes[node_type]).argsort(
                    descending=True, stable=True
                )
                for node_type, ids in ((USER, user), (ITEM, item))
            }
        else:
            orders = _cuthill_mckee(user, item, sizes[USER], sizes[ITEM])
        out = select_nodes(data, orders)
        for node_type, order in orders.items():
            keep_numbers(out, node_type, order)
        return out


def _cuthill_mckee(user: Tensor, item: Tensor, num_users: int, num_items: int) -> dict[str, Tensor]:
    size = num_users + num_items
    row = torch.cat([user, item + num_users]).numpy()
    col = torch.cat([item + num_users, user]).numpy()
    matrix = sp.csr_matrix(
        (torch.ones(len(row), dtype=torch.int8).numpy(), (row, col)), shape=(size, size)
    )
    joint = torch.from_numpy(reverse_cuthill_mckee(matrix, symmetric_mode=True).astype('int64'))
    return {USER: joint[joint < num_users], ITEM: joint[joint >= num_users] - num_users}
