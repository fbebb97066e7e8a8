r"""Renumbering and selection of nodes and edges, with everything that a graph says about them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType, SparseTensor
from torch_geometric.utils import is_sparse

from genrec_pyg.graph.containers import (
    EDGE_KEYS,
    as_dense,
    num_rows,
    read_edge_index,
    sparse_entries,
    sparse_like,
    take_rows,
)

logger = logging.getLogger(__name__)


def select_nodes(data: HeteroData, orders: Mapping[str, Tensor]) -> HeteroData:
    r"""The graph of the nodes ``orders[node_type]``, which get the numbers 0, 1, ... in that order.

    Everything that is aligned with nodes or edges moves along, in whatever container it lies:
    tensors (dense, sparse), arrays, lists, tuples, data frames, mappings of these and mappings from
    all node numbers. Edges of every type keep their container too, and so do further links such as
    ``edge_label_index`` with their labels; those of a node that is left out are dropped. What has
    as many entries as there are nodes and cannot be renumbered is named in the log.

    Args:
        data: Any graph; it stays as it is.
        orders: Old numbers of the nodes that stay, per node type, each once; other node types keep
            all of theirs.

    Returns:
        A graph with ``num_nodes`` of the types in ``orders``.
    """
    sizes = {node_type: int(data[node_type].num_nodes) for node_type in orders}
    out = copy.copy(data)
    numbers = {}
    for node_type, order in orders.items():
        for key, value in data[node_type].items():
            if key != 'num_nodes':
                out[node_type][key] = _take(
                    value, sizes[node_type], order, key, f'data[{node_type!r}]'
                )
        out[node_type].num_nodes = order.numel()
        numbers[node_type] = _numbers(sizes[node_type], order)
    for edge_type in data.edge_types:
        if edge_type[0] in orders or edge_type[2] in orders:
            _renumber_edges(data, out, edge_type, numbers)
    return out


def keep_numbers(data: HeteroData, node_type: str, order: Tensor) -> None:
    r"""Notes the old numbers of the nodes as ``raw_id``, in place, unless the graph has raw ids or
    no number has changed.
    """
    if data[node_type].get('raw_id') is None and not torch.equal(
        order, torch.arange(order.numel(), device=order.device)
    ):
        data[node_type].raw_id = order.tolist()


def select_edges(
    data: HeteroData, edge_type: EdgeType, index: Tensor, replace: Tensor | None = None
) -> None:
    r"""Makes the edges of a type, in place, those at the positions ``index``, with everything that
    is aligned with them.

    Args:
        data: Graph.
        edge_type: Type of the edges.
        index: Positions ``[n]``; an edge may be taken several times.
        replace: Sources and targets ``[2, n]`` in place of theirs.
    """
    plain_edges(data, edge_type)
    store = data[edge_type]
    num_edges = store.edge_index.size(1)
    for key, value in list(store.items()):
        if key != 'edge_index' and not _links(key, value):
            store[key] = _take(value, num_edges, index, key, f'data[{edge_type}]')
    store.edge_index = store.edge_index[:, index] if replace is None else replace


def plain_edges(data: HeteroData, edge_type: EdgeType) -> None:
    r"""Makes the edges of a type, in place, a tensor ``edge_index`` ``[2, E]``, where they are in
    another container; values of a sparse matrix become ``edge_weight``.
    """
    store = data[edge_type]
    found = read_edge_index(store)
    if not isinstance(found, Tensor) or found is store.get('edge_index'):
        return
    # the shape of a sparse matrix may be all that says it
    for node_type in (edge_type[0], edge_type[2]):
        if node_type in data.node_types and 'num_nodes' not in data[node_type]:
            data[node_type].num_nodes = data[node_type].num_nodes
    key = next(key for key in EDGE_KEYS if store.get(key) is not None)
    value = sparse_entries(store[key])[2] if is_sparse(store[key]) else None
    for other in EDGE_KEYS:
        if other in store:
            del store[other]
    store.edge_index = found
    if value is not None and 'edge_weight' not in store:
        store.edge_weight = value


def _take(value: Any, size: int, index: Tensor, key: str, where: str) -> Any:
    r"""Selects from ``value``, which describes ``size`` nodes or edges, those at ``index``."""
    if isinstance(value, Mapping):
        if size > 0 and len(value) == size and all(number in value for number in range(size)):
            return {new: value[old] for new, old in enumerate(index.tolist())}
        return {name: _take(entry, size, index, key, where) for name, entry in value.items()}
    if num_rows(value) == size:
        if is_sparse(value) and 'adj' in key and _shape(value) == (size, size):
            return _renumber_matrix(value, *2 * [_numbers(size, index)])[0]
        return take_rows(value, index)
    if (
        not isinstance(value, (str, bytes, Tensor))
        and num_rows(value) is None
        and hasattr(value, '__len__')
        and not is_sparse(value)
        and len(value) == size > 1
    ):
        logger.warning(
            '%s.%s has as many entries as there are rows but is a %s, which cannot be renumbered',
            where,
            key,
            type(value).__name__,
        )
    return value


def _renumber_edges(
    data: HeteroData, out: HeteroData, edge_type: EdgeType, numbers: Mapping[str, Tensor]
) -> None:
    store, target = data[edge_type], out[edge_type]
    ends = [numbers.get(node_type) for node_type in (edge_type[0], edge_type[2])]
    labels = {}  # further links and what is aligned with them
    for key, value in store.items():
        if key not in EDGE_KEYS and _links(key, value):
            links, kept = _renumber_links(as_dense(value), ends)
            target[key] = links
            aligned = [
                name
                for name in store.keys()
                if name.startswith(key.removesuffix('_index')) and name != key
            ]
            labels.update(
                {
                    name: (as_dense(value).size(1), kept)
                    for name in aligned
                    if not _links(name, store[name])
                }
            )
    main = next((key for key in EDGE_KEYS if store.get(key) is not None), None)
    edge_index = read_edge_index(store)
    if main is not None and isinstance(edge_index, Tensor) and edge_index.dim() == 2:
        if is_sparse(store[main]):
            target[main], kept = _renumber_matrix(store[main], *_flip(ends, EDGE_KEYS[main]))
        else:
            links, kept = _renumber_links(edge_index, ends)
            target[main] = EdgeIndex(links) if isinstance(store[main], EdgeIndex) else links
    else:
        kept = None
    for key, value in store.items():
        if key == main or (key not in EDGE_KEYS and _links(key, value)):
            continue
        if key in labels and num_rows(value) == labels[key][0]:
            target[key] = take_rows(value, labels[key][1])
        elif is_sparse(value) and _fits(value, _flip(ends, EDGE_KEYS.get(key, False))):
            target[key] = _renumber_matrix(value, *_flip(ends, EDGE_KEYS.get(key, False)))[0]
        elif kept is not None:
            target[key] = _take(value, edge_index.size(1), kept, key, f'data[{edge_type}]')


def _links(key: str, value: Any) -> bool:
    r"""Whether an attribute of edges holds links of its own, as ``edge_label_index`` does."""
    if not key.endswith('_index') or is_sparse(value):
        return False
    value = as_dense(value)
    return (
        isinstance(value, Tensor)
        and value.dim() == 2
        and value.size(0) == 2
        and not value.is_floating_point()
    )


def _renumber_links(links: Tensor, ends: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    r"""Links ``[2, E]`` by new numbers, and the positions of those that stay."""
    rows = [
        row if number is None else number.to(row.device)[row.long()].to(row.dtype)
        for row, number in zip(links, ends)
    ]
    kept = ((rows[0] >= 0) & (rows[1] >= 0)).nonzero().view(-1)
    return torch.stack([rows[0][kept], rows[1][kept]]), kept


def _renumber_matrix(
    matrix: Any, rows: Tensor | None, columns: Tensor | None
) -> tuple[Any, Tensor]:
    r"""A sparse matrix by new numbers of rows and columns, and the positions of the entries that
    stay, as it stores them.
    """
    row, col, value = sparse_entries(matrix)
    (row, col), kept = _renumber_links(torch.stack([row, col]), [rows, columns])
    by_column = isinstance(matrix, Tensor) and matrix.layout == torch.sparse_csc
    first, second = (col, row) if by_column else (row, col)
    order = second.argsort(stable=True)
    order = order[first[order].argsort(stable=True)]
    kept = kept[order]
    size = [
        old if number is None else int((number >= 0).sum())
        for old, number in zip(_shape(matrix), (rows, columns))
    ]
    return sparse_like(
        matrix, row[order], col[order], None if value is None else value[kept], tuple(size)
    ), kept


def _numbers(size: int, index: Tensor) -> Tensor:
    return torch.full((size,), -1).index_put((index.cpu(),), torch.arange(index.numel()))


def _fits(matrix: Any, ends: Sequence[Tensor | None]) -> bool:
    r"""Whether rows and columns of a matrix are the nodes at both ends of the edges."""
    return len(_shape(matrix)) == 2 and all(
        number is None or number.numel() == size for number, size in zip(ends, _shape(matrix))
    )


def _shape(matrix: Any) -> tuple[int, ...]:
    return tuple(matrix.sizes() if isinstance(matrix, SparseTensor) else matrix.shape)


def _flip(pair: Sequence[Any], transposed: bool) -> list[Any]:
    return list(reversed(pair)) if transposed else list(pair)
