r"""The user-item-modality graph: names and checks.

The canonical graph is a :class:`~torch_geometric.data.HeteroData` with

* ``data['user']``, ``data['item']``: ``num_nodes``, optional ``raw_id``;
* ``data['user', 'interacts', 'item']``: ``edge_index`` and edge-aligned boolean ``train_mask``,
  ``val_mask``, ``test_mask``, optional ``history_mask`` (interactions that are known of users
  outside the training, see :class:`~genrec_pyg.transforms.UserSplit`), ``time``, ``rating``, and
  ``ordered = False`` where the order of edges is not that in which they happened;
* per modality ``m`` a node type ``data[m].x`` and ``data['item', 'has', m].edge_index``.

Edges may also lie in an :class:`~torch_geometric.EdgeIndex` or in a sparse matrix ``adj_t`` or
``adj``, see :func:`~genrec_pyg.graph.containers.read_edge_index`. Graphs with other type names
become canonical through :class:`genrec_pyg.transforms.MapTypes`; graphs without masks through a
split of :mod:`genrec_pyg.transforms`. Everything a model sees comes from
:func:`~genrec_pyg.graph.training_graph.training_graph`, so a held-out edge has no way into an
embedding.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph.containers import as_dense, num_rows, read_edge_index

USER = 'user'
ITEM = 'item'
INTERACTS = (USER, 'interacts', ITEM)
HAS = 'has'
SPLITS = ('train', 'val', 'test')
#: Interactions of users outside the training: no target, but input of models that read histories.
HISTORY = 'history'
#: What an interaction can be marked as, in a mask each.
MASKS = (*SPLITS, HISTORY)

#: Rows of features that are cast at a time.
ROWS_PER_BLOCK = 4096


def modality_names(data: HeteroData) -> list[str]:
    r"""Names of the modalities of a canonical graph: every node type ``m`` with an edge type
    ``('item', 'has', m)``.
    """
    return [dst for src, rel, dst in data.edge_types if src == ITEM and rel == HAS]


def name_list(names: str | Iterable[str] | None) -> list[str] | None:
    r"""Names as a list, each once; a text is one name, and :obj:`None` stays :obj:`None`."""
    if names is None:
        return None
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def select_modalities(data: HeteroData, modalities: str | Iterable[str] | None = None) -> list[str]:
    r"""The modalities asked for, in that order and each once, or all of them for :obj:`None`; a
    text is one modality.

    Raises:
        ConfigError: If a modality is not in the graph.
    """
    available = modality_names(data)
    wanted = name_list(modalities)
    names = available if wanted is None else wanted
    for name in names:
        if name not in available:
            raise ConfigError(
                f'modalities: the graph has no modality {name!r}, accepted are '
                f'{", ".join(available) or "none"}'
            )
    return names


def split_edges(data: HeteroData, split: str) -> Tensor:
    r"""Distinct interactions ``[2, E_split]`` of ``split`` (``'train'``, ``'val'``, ``'test'`` or
    ``'history'``), sorted by user, item.

    Raises:
        ConfigError: If ``split`` is unknown.
        DataError: If the graph has no mask of that name.
    """
    if split not in MASKS:
        raise ConfigError(f'split: got {split!r}, accepted are {", ".join(MASKS)}')
    edge_index = read_interactions(data)
    mask = read_mask(data, split)
    if mask is None:
        raise DataError(
            f"graph: {INTERACTS} has no '{split}_mask'; split it first, for example with "
            'genrec_pyg.transforms.RandomSplit()'
        )
    num_nodes = max(int(data[USER].num_nodes), int(data[ITEM].num_nodes))
    return coalesce(edge_index[:, mask.to(edge_index.device)], num_nodes=num_nodes)


def has_split(data: HeteroData, split: str) -> bool:
    r"""Whether any interaction of ``data`` belongs to ``split``; a missing mask has none."""
    mask = read_mask(data, split)
    return mask is not None and bool(mask.any())


def read_interactions(data: HeteroData) -> Tensor:
    r"""Users and items of the interactions ``[2, E]``, int64, in the order of their attributes.

    Raises:
        DataError: If there are none, or they are no edges.
    """
    if not isinstance(data, HeteroData):
        raise DataError(
            f'graph: got {type(data).__name__}, accepted is a torch_geometric.data.HeteroData (of '
            f'a dataset its first entry, dataset[0])'
        )
    found = read_edge_index(data[INTERACTS]) if INTERACTS in data.edge_types else None
    if found is None:
        raise DataError(
            f'graph: edge type {INTERACTS} is missing, found {data.edge_types}; map other names '
            f'with genrec_pyg.transforms.MapTypes'
        )
    return read_edges(data, INTERACTS)


def read_mask(data: HeteroData, split: str) -> Tensor | None:
    r"""The boolean mask ``[E]`` of a split over the interactions, or :obj:`None`.

    Raises:
        DataError: If it is of another type or length.
    """
    num_edges = read_interactions(data).size(1)
    value = data[INTERACTS].get(f'{split}_mask')
    mask = as_dense(value)
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (num_edges,):
        found = (
            f'{mask.dtype} of shape {tuple(mask.shape)}'
            if isinstance(mask, Tensor)
            else type(value).__name__
        )
        raise DataError(
            f'graph: {INTERACTS}.{split}_mask is {found}, accepted is torch.bool of shape '
            f'{(num_edges,)}'
        )
    return mask


def pair_keys(edge_index: Tensor, num_items: int) -> Tensor:
    r"""One integer for each pair of user and item ``[E]``, rising by user, then item."""
    return edge_index[0] * max(num_items, 1) + edge_index[1]


def check_graph(data: HeteroData, finite: bool = True, disjoint: bool = True) -> None:
    r"""Checks a canonical graph once, with errors that name the store, the value and what is
    accepted.

    Args:
        data: Canonical graph, with or without splits.
        finite: Whether features must be finite, in torch's default precision too; transforms that
            may run before :class:`~genrec_pyg.transforms.CleanFeatures` do not ask for it.
        disjoint: Whether no pair of user and item may be in two splits; transforms that may run
            before a split do not ask for it.

    Raises:
        DataError: On missing stores, ids out of range, masks of wrong length or type, overlapping
            splits, raw ids of wrong length, or features that are not finite.
    """
    if not isinstance(data, HeteroData):
        read_interactions(data)  # refuses it by name
    for node_type in (USER, ITEM):
        if node_type not in data.node_types or data[node_type].num_nodes is None:
            raise DataError(
                f'graph: node type {node_type!r} with num_nodes is missing, found '
                f'{data.node_types}; map other names with genrec_pyg.transforms.MapTypes'
            )
        raw_id = data[node_type].get('raw_id')
        if raw_id is not None and num_rows(raw_id) != int(data[node_type].num_nodes):
            raise DataError(
                f'graph: data[{node_type!r}].raw_id has {num_rows(raw_id)} entries, accepted is '
                f'one per node ({int(data[node_type].num_nodes)})'
            )
    edge_index = read_interactions(data)
    _check_ids(edge_index, INTERACTS, int(data[USER].num_nodes), int(data[ITEM].num_nodes))
    _check_splits(data, edge_index, disjoint)
    for name in modality_names(data):
        if name in (USER, ITEM):
            raise DataError(
                f'graph: {(ITEM, HAS, name)} makes {name!r} a modality, accepted are other '
                f'names of node types'
            )
        x = as_dense(data[name].get('x')) if name in data.node_types else None
        if not isinstance(x, Tensor) or x.dim() != 2 or not torch.is_floating_point(x):
            found = (
                (x.dtype, tuple(x.shape))
                if isinstance(x, Tensor)
                else None
                if x is None
                else type(x).__name__
            )
            raise DataError(
                f'graph: data[{name!r}].x is {found}, accepted is a floating-point matrix '
                f'[num_nodes, d]'
            )
        if x.size(1) == 0:
            raise DataError(f'graph: data[{name!r}].x has no column, accepted is at least one')
        if finite:
            _check_finite(x, name)
        _check_ids(
            read_edges(data, (ITEM, HAS, name)),
            (ITEM, HAS, name),
            int(data[ITEM].num_nodes),
            x.size(0),
        )


def _check_splits(data: HeteroData, edge_index: Tensor, disjoint: bool) -> None:
    of_edge = torch.full_like(edge_index[0], -1)
    for code, split in enumerate(MASKS):
        mask = read_mask(data, split)
        if mask is None:
            continue
        mask = mask.to(of_edge.device)
        twice = int((mask & (of_edge >= 0)).sum()) if disjoint else 0
        if twice > 0:
            raise DataError(
                f"graph: {twice} edges of {INTERACTS} are in '{split}_mask' and in another split, "
                f'accepted are disjoint splits'
            )
        of_edge[mask] = code
    if not disjoint:
        return
    num_items = int(data[ITEM].num_nodes)
    used = of_edge >= 0
    pair, number = pair_keys(edge_index[:, used], num_items).unique(return_inverse=True)
    if pair.numel() == number.numel():
        return
    of_edge = of_edge[used]
    first = torch.full_like(pair, len(MASKS)).scatter_reduce(0, number, of_edge, 'amin')
    last = torch.full_like(pair, -1).scatter_reduce(0, number, of_edge, 'amax')
    shared = (first != last).nonzero().view(-1)
    if shared.numel() > 0:
        user, item = divmod(int(pair[shared[0]]), max(num_items, 1))
        splits = ' and '.join(f"'{MASKS[code[shared[0]]]}_mask'" for code in (first, last))
        raise DataError(
            f'graph: {shared.numel()} pairs of user and item are in two splits (the first is user '
            f'{user} with item {item}, in {splits}), accepted are disjoint splits: known items '
            f'are masked, so a repeated interaction could never be hit. Take it out of the later '
            f'mask, or split again with genrec_pyg.transforms.RandomSplit'
        )


def _check_finite(x: Tensor, name: str) -> None:
    dtype = torch.get_default_dtype()  # that of the models
    bad = [~torch.isfinite(block.to(dtype)).all(dim=1) for block in x.split(ROWS_PER_BLOCK)]
    rows = torch.cat(bad).nonzero().view(-1)
    if rows.numel() > 0:
        raise DataError(
            f'graph: data[{name!r}].x has {rows.numel()} rows with NaN or infinity, the first is '
            f'row {int(rows[0])} (as {dtype}); mend them with genrec_pyg.transforms.CleanFeatures '
            f'or in the source file'
        )


def read_edges(data: HeteroData, edge_type: tuple) -> Tensor:
    r"""The edges of a type, checked to be a tensor ``[2, E]`` of type int64."""
    found = read_edge_index(data[edge_type])
    if found is None:
        raise DataError(f'graph: {edge_type} has no edge_index, accepted is torch.int64 [2, E]')
    if (
        not isinstance(found, Tensor)
        or found.dim() != 2
        or found.size(0) != 2
        or found.dtype != torch.long
    ):
        kind = (
            f'type {found.dtype} and shape {tuple(found.shape)}'
            if isinstance(found, Tensor)
            else type(found).__name__
        )
        raise DataError(f'graph: {edge_type}.edge_index has {kind}, accepted is torch.int64 [2, E]')
    return found


def _check_ids(edge_index: Tensor, edge_type: tuple, num_src: int, num_dst: int) -> None:
    if edge_index.size(1) == 0:
        return
    for row, node_type, size in (
        (edge_index[0], edge_type[0], num_src),
        (edge_index[1], edge_type[2], num_dst),
    ):
        low, high = int(row.min()), int(row.max())
        if low < 0 or high >= size:
            raise DataError(
                f'graph: {edge_type}.edge_index has {node_type} ids from {low} to {high}, '
                f'accepted are 0 to {size - 1}'
            )
