r"""The user-item-modality graph: names, checks, and the one place where a training graph is made.

The canonical graph is a :class:`~torch_geometric.data.HeteroData` with

* ``data['user']``, ``data['item']``: ``num_nodes``, optional ``raw_id``;
* ``data['user', 'interacts', 'item']``: ``edge_index`` and edge-aligned boolean ``train_mask``, ``val_mask``, ``test_mask``,
  optional ``time``, ``rating``, and ``ordered = False`` where the order of edges is not that in which they happened;
* per modality ``m`` a node type ``data[m].x`` (float32) and ``data['item', 'has', m].edge_index``.

Graphs with other type names become canonical through :class:`genrec_pyg.transforms.MapTypes`; graphs without masks through a
split of :mod:`genrec_pyg.transforms`. Everything a model sees comes from :func:`training_graph`, so a held-out edge has no
way into an embedding.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Iterable, Optional

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce, scatter

from genrec_pyg.exceptions import ConfigError, DataError

USER = 'user'
ITEM = 'item'
INTERACTS = (USER, 'interacts', ITEM)
HAS = 'has'
SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Modality:
    r"""Features of one modality and the items that carry them.

    Args:
        name: Node type of the modality.
        x: Node features ``[num_nodes, d_m]``, float32.
        num_items: Number of items ``I``.
        edge_index: Item to node edges ``[2, num_links]``, or :obj:`None` where node ``i`` belongs to item ``i`` (the fast
            path). Items may have no node (missing modality) or several (many images).
    """
    name: str
    x: Tensor
    num_items: int
    edge_index: Optional[Tensor] = None

    def pool(self, z: Tensor) -> Tensor:
        r"""Averages node rows ``[num_nodes, d]`` to item rows ``[I, d]``; an item without a node gets a zero row."""
        if self.edge_index is None:
            return z
        item, node = self.edge_index
        return scatter(z[node], item, dim=0, dim_size=self.num_items, reduce='mean')

    def item_features(self) -> Tensor:
        r"""Raw features per item ``[I, d_m]``: mean over its nodes, zero where the modality is missing."""
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


@dataclass(frozen=True)
class TrainingGraph:
    r"""What a model may learn from: training edges and modality features, nothing held out.

    Args:
        num_users: Number of users ``U``.
        num_items: Number of items ``I``.
        edge_index: Distinct training interactions ``[2, E]``, sorted by user, then item.
        modalities: Modality name to :class:`Modality`, in graph order.
    """
    num_users: int
    num_items: int
    edge_index: Tensor
    modalities: dict[str, Modality] = field(default_factory=dict)

    @property
    def num_edges(self) -> int:
        return self.edge_index.size(1)

    def user_degree(self) -> Tensor:
        r"""Training items per user ``[U]``, int64."""
        return torch.bincount(self.edge_index[0], minlength=self.num_users)

    def item_degree(self) -> Tensor:
        r"""Training users per item ``[I]``, int64 (the popularity)."""
        return torch.bincount(self.edge_index[1], minlength=self.num_items)

    def to(self, device: torch.device) -> TrainingGraph:
        r"""The same graph on another device."""
        modalities = {name: modality.to(device) for name, modality in self.modalities.items()}
        return TrainingGraph(self.num_users, self.num_items, self.edge_index.to(device), modalities)

    def fingerprint(self) -> str:
        r"""Hex digest of sizes, training edges and feature shapes: a checkpoint names the graph that it belongs to by it."""
        digest = hashlib.sha256(f'{self.num_users} {self.num_items}'.encode())
        digest.update(self.edge_index.cpu().numpy().tobytes())
        for name, modality in self.modalities.items():
            digest.update(f'{name} {tuple(modality.x.shape)}'.encode())
        return digest.hexdigest()


def modality_names(data: HeteroData) -> list[str]:
    r"""Names of the modalities of a canonical graph: every node type ``m`` with an edge type ``('item', 'has', m)``."""
    return [dst for src, rel, dst in data.edge_types if src == ITEM and rel == HAS]


def select_modalities(data: HeteroData, modalities: Optional[Iterable[str]] = None) -> list[str]:
    r"""The modalities asked for, in that order, or all of them for :obj:`None`.

    Raises:
        ConfigError: If a modality is not in the graph.
    """
    available = modality_names(data)
    names = available if modalities is None else list(modalities)
    for name in names:
        if name not in available:
            raise ConfigError(f"modalities: the graph has no modality {name!r}, accepted are {', '.join(available) or 'none'}")
    return names


def split_edges(data: HeteroData, split: str) -> Tensor:
    r"""Distinct interactions ``[2, E_split]`` of ``split`` (``'train'``, ``'val'`` or ``'test'``), sorted by user, item.

    Raises:
        ConfigError: If ``split`` is unknown.
        DataError: If the graph has no mask of that name.
    """
    if split not in SPLITS:
        raise ConfigError(f"split: got {split!r}, accepted are {', '.join(SPLITS)}")
    store = _interactions(data)
    mask = store.get(f'{split}_mask')
    if mask is None:
        raise DataError(f"graph: {INTERACTS} has no '{split}_mask'; split it first, for example with "
                        "genrec_pyg.transforms.RandomSplit()")
    num_nodes = max(int(data[USER].num_nodes), int(data[ITEM].num_nodes))
    return coalesce(store.edge_index[:, mask], num_nodes=num_nodes)


def has_split(data: HeteroData, split: str) -> bool:
    r"""Whether any interaction of ``data`` belongs to ``split``; a missing mask has none."""
    mask = _interactions(data).get(f'{split}_mask')
    return mask is not None and bool(mask.any())


def training_graph(data: HeteroData, modalities: Optional[Iterable[str]] = None) -> TrainingGraph:
    r"""The training graph of a canonical graph: the only road from data to a model.

    Args:
        data: Canonical graph with splits.
        modalities: Modalities to use, in this order; :obj:`None` uses all, an empty list none.

    Raises:
        ConfigError: If a modality is not in the graph.
        DataError: If the graph is not canonical, has ids out of range, non-finite features or no training edge.
    """
    check_graph(data)
    names = select_modalities(data, modalities)
    edge_index = split_edges(data, 'train')
    if edge_index.size(1) == 0:
        raise DataError(f"graph: the training split of {INTERACTS} is empty")
    found = {name: item_modality(data, name) for name in names}
    return TrainingGraph(int(data[USER].num_nodes), int(data[ITEM].num_nodes), edge_index, found)


def item_modality(data: HeteroData, name: str) -> Modality:
    r"""The modality ``name`` of a canonical graph, features as float32, with the identity fast path where it applies."""
    x, num_items = data[name].x.float(), int(data[ITEM].num_nodes)
    links = coalesce(data[ITEM, HAS, name].edge_index, num_nodes=max(num_items, x.size(0)))
    return Modality(name, x, num_items, None if _is_identity(links, num_items, x.size(0)) else links)


def check_graph(data: HeteroData, finite: bool = True) -> None:
    r"""Checks a canonical graph once, with errors that name the store, the value and what is accepted.

    Args:
        data: Canonical graph, with or without splits.
        finite: Whether features must be finite; transforms that may run before
            :class:`~genrec_pyg.transforms.CleanFeatures` do not ask for it.

    Raises:
        DataError: On missing stores, ids out of range, masks of wrong length or type, overlapping splits, or features that
            are not finite.
    """
    for node_type in (USER, ITEM):
        if node_type not in data.node_types or data[node_type].num_nodes is None:
            raise DataError(f"graph: node type {node_type!r} with num_nodes is missing, found {data.node_types}; map other "
                            "names with genrec_pyg.transforms.MapTypes")
    store = _interactions(data)
    _check_ids(store.edge_index, INTERACTS, int(data[USER].num_nodes), int(data[ITEM].num_nodes))
    used = torch.zeros(store.edge_index.size(1), dtype=torch.bool, device=store.edge_index.device)
    for split in SPLITS:
        mask = store.get(f'{split}_mask')
        if mask is None:
            continue
        if mask.dtype != torch.bool or mask.shape != used.shape:
            raise DataError(f"graph: {INTERACTS}.{split}_mask is {mask.dtype} of shape {tuple(mask.shape)}, accepted is "
                            f"torch.bool of shape {tuple(used.shape)}")
        if bool((used & mask).any()):
            raise DataError(f"graph: {int((used & mask).sum())} edges of {INTERACTS} are in '{split}_mask' and in another "
                            "split, accepted are disjoint splits")
        used |= mask
    for name in modality_names(data):
        x = data[name].get('x') if name in data.node_types else None
        if x is None or x.dim() != 2 or not torch.is_floating_point(x):
            found = None if x is None else (x.dtype, tuple(x.shape))
            raise DataError(f"graph: data[{name!r}].x is {found}, accepted is a floating-point matrix [num_nodes, d]")
        rows = (~torch.isfinite(x).all(dim=1)).nonzero().view(-1) if finite else ()
        if len(rows) > 0:
            raise DataError(f"graph: data[{name!r}].x has {len(rows)} rows with NaN or infinity, the first is row "
                            f"{int(rows[0])}; mend them with genrec_pyg.transforms.CleanFeatures or in the source file")
        _check_ids(data[ITEM, HAS, name].get('edge_index'), (ITEM, HAS, name), int(data[ITEM].num_nodes), x.size(0))


def _interactions(data: HeteroData):
    if INTERACTS not in data.edge_types or data[INTERACTS].get('edge_index') is None:
        raise DataError(f"graph: edge type {INTERACTS} is missing, found {data.edge_types}; map other names with "
                        "genrec_pyg.transforms.MapTypes")
    return data[INTERACTS]


def _check_ids(edge_index: Optional[Tensor], edge_type: tuple, num_src: int, num_dst: int) -> None:
    if edge_index is None:
        raise DataError(f"graph: {edge_type} has no edge_index, accepted is torch.int64 [2, E]")
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.long:
        raise DataError(f"graph: {edge_type}.edge_index has type {edge_index.dtype} and shape {tuple(edge_index.shape)}, "
                        "accepted is torch.int64 [2, E]")
    if edge_index.size(1) == 0:
        return
    for row, node_type, size in ((edge_index[0], edge_type[0], num_src), (edge_index[1], edge_type[2], num_dst)):
        low, high = int(row.min()), int(row.max())
        if low < 0 or high >= size:
            raise DataError(f"graph: {edge_type}.edge_index has {node_type} ids from {low} to {high}, accepted are 0 to "
                            f"{size - 1}")


def _is_identity(edge_index: Tensor, num_items: int, num_nodes: int) -> bool:
    if num_items != num_nodes or edge_index.size(1) != num_items:
        return False
    ids = torch.arange(num_items, device=edge_index.device)
    return bool((edge_index[0] == ids).all() and (edge_index[1] == ids).all())
