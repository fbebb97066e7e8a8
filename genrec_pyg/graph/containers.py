r"""Edges, masks, features and attributes in whatever container a graph of PyG keeps them."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric import EdgeIndex, Index
from torch_geometric.typing import SparseTensor
from torch_geometric.utils import is_sparse

from genrec_pyg.exceptions import DataError

#: Where an edge store keeps its edges, and whether rows of a sparse matrix there are targets.
EDGE_KEYS = {'edge_index': False, 'adj_t': True, 'adj': False}


def read_edge_index(store: Any) -> Tensor | None:
    r"""Edges of an edge store as sources and targets ``[2, E]``, in the order of its edge
    attributes.

    They may lie in ``edge_index`` (a tensor, an :class:`~torch_geometric.EdgeIndex`, an array, or a
    pair of rows), or as a sparse matrix (``torch_sparse.SparseTensor``, or :mod:`torch.sparse` in
    any layout) in ``adj_t``, whose rows are targets, or in ``adj``, whose rows are sources. Entries
    of a matrix count in the order in which it stores them, which is where
    :class:`torch_geometric.transforms.ToSparseTensor` leaves the attributes.

    Args:
        store: Edge store of a :class:`~torch_geometric.data.HeteroData`.

    Returns:
        :obj:`None` where the store has no edges under any of these names. What is no matrix of two
        rows comes back as it is, for the caller to refuse by name.
    """
    for key, transposed in EDGE_KEYS.items():
        value = store.get(key)
        if value is None:
            continue
        if is_sparse(value):
            row, col, _ = sparse_entries(value)
            return torch.stack([col, row] if transposed else [row, col])
        return as_dense(value)
    return None


def sparse_entries(matrix: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Rows, columns (int64) and values of a sparse matrix, in stored order; values are :obj:`None`
    where it has none.

    Raises:
        DataError: If it is no matrix.
    """
    if isinstance(matrix, SparseTensor):
        return matrix.coo()
    if matrix.dim() - matrix.dense_dim() != 2 or getattr(matrix, 'sparse_dim', lambda: 2)() != 2:
        raise DataError(
            f'graph: sparse tensor of shape {tuple(matrix.shape)}, accepted is a matrix'
        )
    if matrix.layout == torch.sparse_csr:
        row = torch.repeat_interleave(matrix.crow_indices().diff())
        return row, matrix.col_indices().long(), matrix.values()
    if matrix.layout == torch.sparse_csc:
        col = torch.repeat_interleave(matrix.ccol_indices().diff())
        return matrix.row_indices().long(), col, matrix.values()
    if matrix.layout != torch.sparse_coo:  # blocks
        matrix = matrix.to_sparse_coo()
    # also where repeated entries were not summed: attributes have one row for each
    row, col = matrix._indices()
    return row, col, matrix._values()


def sparse_like(
    matrix: Any, row: Tensor, col: Tensor, value: Tensor | None, size: tuple[int, int]
) -> Any:
    r"""A sparse matrix of the class and layout of ``matrix`` (CSR in place of blocks) with other
    entries, which are given in the order in which that layout stores them.
    """
    if isinstance(matrix, SparseTensor):
        return SparseTensor(
            row=row, col=col, value=value, sparse_sizes=size, is_sorted=True, trust_data=True
        )
    assert value is not None  # entries without values exist in torch-sparse alone
    coo = torch.sparse_coo_tensor(torch.stack([row, col]), value, (*size, *value.shape[1:]))
    if matrix.layout == torch.sparse_coo:
        return coo.coalesce() if matrix.is_coalesced() else coo
    return _compressed(coo, matrix.layout)


def as_dense(value: Any) -> Any:
    r"""Edges, masks or features as a plain dense tensor, where they are a tensor of any kind, an
    array, or a list of numbers or rows; anything else as it is, for the caller to refuse by name.
    """
    if isinstance(value, (EdgeIndex, Index)):
        return value.as_tensor().long()
    if is_sparse(value):
        # [2, E] edges, [E] or [N] masks, [N, d] features, which modules take densely in any case;
        # a matrix of edges is taken apart by sparse_entries.
        return value.to_dense()
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder('=')))
    if isinstance(value, (list, tuple)) and len(value) > 0:
        try:
            if isinstance(value[0], (Tensor, np.ndarray)):
                return torch.stack([as_dense(row) for row in value])
            return torch.tensor(value)
        except (TypeError, ValueError, RuntimeError):  # no numbers, or rows of different lengths
            return value
    return value


def num_rows(value: Any) -> int | None:
    r"""Entries along the first dimension of a container; :obj:`None` for what has none (numbers,
    text, mappings).
    """
    if isinstance(value, SparseTensor):
        return value.size(0)
    if isinstance(value, (Tensor, np.ndarray)):
        return None if value.ndim == 0 else int(value.shape[0])
    if isinstance(value, (list, tuple, deque)) or _has_rows(value):
        return len(value)
    return None


def take_rows(value: Any, index: Tensor) -> Any:
    r"""Rows ``index`` ``[n]`` of a container that :func:`num_rows` knows, as a container of the
    same kind.
    """
    if isinstance(value, SparseTensor):
        return value.index_select(0, index.to(value.device()))
    if isinstance(value, (EdgeIndex, Index)):
        value = value.as_tensor()
    if isinstance(value, Tensor):
        index = index.to(value.device)
        if value.layout == torch.strided:
            return value[index]
        rows = (value if value.layout == torch.sparse_coo else value.to_sparse_coo()).index_select(
            0, index
        )
        return rows if value.layout == torch.sparse_coo else _compressed(rows, value.layout)
    if isinstance(value, np.ndarray):
        return value[index.cpu().numpy()]
    if isinstance(value, (list, tuple, deque)):
        chosen = [value[i] for i in index.tolist()]
        return (
            chosen
            if isinstance(value, list)
            else tuple(chosen)
            if isinstance(value, tuple)
            else deque(chosen)
        )
    return value.iloc[index.cpu().numpy()] if hasattr(value, 'iloc') else value[index]


def _has_rows(value: Any) -> bool:
    # Data frames and series of pandas, and torch_frame.TensorFrame, neither of which need be
    # installed.
    return hasattr(value, 'iloc') or type(value).__name__ == 'TensorFrame'


def _compressed(matrix: Tensor, layout: torch.layout) -> Tensor:
    return matrix.coalesce().to_sparse(
        layout=torch.sparse_csc if layout == torch.sparse_csc else torch.sparse_csr
    )
