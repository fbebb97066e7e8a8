r"""Features of one modality and the items that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce, scatter

from genrec_pyg.graph.containers import as_dense, num_rows
from genrec_pyg.graph.schema import HAS, ITEM, read_edges


@dataclass(frozen=True)
class Modality:
    r"""Features of one modality and the items that carry them.

    Args:
        name: Node type of the modality.
        x: Node features ``[num_nodes, d_m]``, float32.
        num_items: Number of items ``I``.
        edge_index: Item to node edges ``[2, num_links]``, or :obj:`None` where node ``i`` belongs
            to item ``i`` (the fast path). Items may have no node (missing modality) or several
            (many images).
    """

    name: str
    x: Tensor
    num_items: int
    edge_index: Tensor | None = None

    def pool(self, z: Tensor) -> Tensor:
        r"""Averages node rows ``[num_nodes, d]`` to item rows ``[I, d]``; an item without a node
        gets a zero row.
        """
        if self.edge_index is None:
            return z
        item, node = self.edge_index
        # Not by bincount, which reads its size back from the device in every step.
        count = item.new_zeros(self.num_items).scatter_add_(0, item, torch.ones_like(item))
        share = count.to(z.dtype).reciprocal()  # before the sum, which may overflow
        return scatter(
            z[node] * share[item].unsqueeze(1), item, dim=0, dim_size=self.num_items, reduce='sum'
        )

    def item_features(self) -> Tensor:
        r"""Raw features per item ``[I, d_m]``: mean over its nodes, zero where the modality is
        missing.
        """
        return self.pool(self.x)

    def present(self) -> Tensor:
        r"""Boolean ``[I]``: the item has at least one node of this modality."""
        if self.edge_index is None:
            return torch.ones(self.num_items, dtype=torch.bool, device=self.x.device)
        mask = torch.zeros(self.num_items, dtype=torch.bool, device=self.x.device)
        mask[self.edge_index[0]] = True
        return mask

    def to(self, device: torch.device) -> Modality:
        r"""The same modality on another device."""
        edge_index = None if self.edge_index is None else self.edge_index.to(device)
        return Modality(self.name, self.x.to(device), self.num_items, edge_index)


def item_modality(data: HeteroData, name: str) -> Modality:
    r"""The modality ``name`` of a canonical graph: features in torch's default precision, and nodes
    that no item links to left out, so that they have no part in the statistics of an encoder. With
    the identity fast path where it applies.
    """
    x, num_items = as_dense(data[name].x).detach(), int(data[ITEM].num_nodes)
    links = coalesce(read_edges(data, (ITEM, HAS, name)), num_nodes=max(num_items, x.size(0)))
    node, number = links[1].unique(return_inverse=True)
    if node.numel() < x.size(0):
        x, links = x[node.to(x.device)], torch.stack([links[0], number])
    x = x.to(torch.get_default_dtype())
    return Modality(
        name, x, num_items, None if _is_identity(links, num_items, x.size(0)) else links
    )


def linked_nodes(data: HeteroData, name: str) -> Tensor:
    r"""Nodes of the modality ``name`` that some item links to, ascending, or all where there is
    none.
    """
    node = read_edges(data, (ITEM, HAS, name))[1].unique()
    if node.numel() > 0:
        return node
    return torch.arange(cast(int, num_rows(data[name].x)), device=node.device)


def _is_identity(edge_index: Tensor, num_items: int, num_nodes: int) -> bool:
    if num_items != num_nodes or edge_index.size(1) != num_items:
        return False
    ids = torch.arange(num_items, device=edge_index.device)
    return bool((edge_index[0] == ids).all() and (edge_index[1] == ids).all())
