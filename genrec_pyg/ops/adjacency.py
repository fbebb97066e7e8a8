r"""Sparse matrices with cached layouts."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor


class Adjacency:
    r"""Immutable sparse matrix ``[M, N]`` in CSR layout that keeps its transpose once it was needed.

    Row ``i`` collects from its columns: :math:`\mathbf{y}_i = \sum_j a_{ij} \mathbf{x}_j`. Indices are int32 where sizes and
    number of entries allow it.

    Args:
        rowptr: Row offsets ``[M + 1]``.
        col: Columns ``[nnz]``, ascending within a row.
        value: Entries ``[nnz]`` or :obj:`None` for ones.
        size: Shape ``(M, N)``.
        symmetric: Whether the matrix equals its transpose; then no transpose is ever built.
    """

    def __init__(self, rowptr: Tensor, col: Tensor, value: Optional[Tensor], size: tuple[int, int], symmetric: bool = False):
        index_type = torch.int32 if max(*size, col.numel()) < 2 ** 31 else torch.int64
        self.rowptr = rowptr.to(index_type)
        self.col = col.to(index_type)
        self.value = value
        self.size = (int(size[0]), int(size[1]))
        self.symmetric = symmetric
        self._transposed: Optional[Adjacency] = self if symmetric else None

    @classmethod
    def from_edge_index(cls, edge_index: Tensor, edge_weight: Optional[Tensor] = None, size: Optional[tuple[int, int]] = None,
                        symmetric: bool = False) -> Adjacency:
        r"""From rows ``edge_index[0]`` and columns ``edge_index[1]``; repeated entries are summed, or kept once without
        weights."""
        row, col = edge_index
        if size is None:
            size = (int(row.max()) + 1 if row.numel() else 0, int(col.max()) + 1 if col.numel() else 0)
        key = row * size[1] + col
        unique, inverse = torch.unique(key, return_inverse=True)
        value = edge_weight
        if value is not None:
            value = value.new_zeros(unique.numel()).index_add(0, inverse, value)
        row, col = unique // max(size[1], 1), unique % max(size[1], 1)
        rowptr = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=size[0]).cumsum(0)])
        return cls(rowptr, col, value, size, symmetric)

    @classmethod
    def from_sparse_tensor(cls, adj: Any) -> Adjacency:
        r"""From a ``torch_sparse.SparseTensor`` or a sparse :class:`torch.Tensor`."""
        if isinstance(adj, Tensor):
            adj = adj.to_sparse_coo().coalesce()
            return cls.from_edge_index(adj.indices(), adj.values(), tuple(adj.shape))
        row, col, value = adj.coo()
        return cls.from_edge_index(torch.stack([row, col]), value, tuple(adj.sizes()))

    @classmethod
    def from_scipy(cls, matrix: Any) -> Adjacency:
        r"""From any SciPy sparse matrix."""
        matrix = matrix.tocoo()
        edge_index = torch.stack([torch.from_numpy(matrix.row).long(), torch.from_numpy(matrix.col).long()])
        return cls.from_edge_index(edge_index, torch.from_numpy(matrix.data).float(), matrix.shape)

    @property
    def nnz(self) -> int:
        r"""Number of stored entries."""
        return self.col.numel()

    @property
    def device(self) -> torch.device:
        r"""Device of all layouts."""
        return self.col.device

    def row(self) -> Tensor:
        r"""Row of every entry ``[nnz]``, int64."""
        return torch.repeat_interleave(self.rowptr.diff().long(), output_size=self.nnz)

    def row_degree(self) -> Tensor:
        r"""Stored entries per row ``[M]``, int64."""
        return self.rowptr.diff().long()

    def to_edge_index(self) -> tuple[Tensor, Tensor]:
        r"""Rows and columns ``[2, nnz]`` (int64) and values ``[nnz]``."""
        value = torch.ones(self.nnz, device=self.device) if self.value is None else self.value
        return torch.stack([self.row(), self.col.long()]), value

    def t(self) -> Adjacency:
        r"""The transpose, built once; the matrix itself where it is symmetric."""
        if self._transposed is None:
            col = self.col.long()
            order = torch.argsort(col, stable=True)
            rowptr = torch.cat([col.new_zeros(1), torch.bincount(col, minlength=self.size[1]).cumsum(0)])
            value = None if self.value is None else self.value[order]
            self._transposed = Adjacency(rowptr, self.row()[order], value, (self.size[1], self.size[0]))
            self._transposed._transposed = self
        return self._transposed

    def with_value(self, value: Optional[Tensor], symmetric: bool = False) -> Adjacency:
        r"""The same pattern with other entries ``[nnz]``."""
        return Adjacency(self.rowptr, self.col, value, self.size, symmetric)

    def select_rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        r"""``(rowptr, col)`` of the rows ``index`` ``[B]`` in this order, int64; values are dropped."""
        begin = self.rowptr.long()
        count = begin.diff()[index]
        rowptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
        shift = torch.repeat_interleave(begin[index] - rowptr[:-1], count)
        return rowptr, self.col[shift + torch.arange(shift.numel(), device=shift.device)].long()

    def apply(self, fn: Callable[[Tensor], Tensor]) -> Adjacency:
        r"""Moves the matrix as ``fn`` moves a tensor (device and precision), as :class:`torch.nn.Module` does."""
        probe = fn(torch.empty(0, device=self.device) if self.value is None else self.value[:0])
        if probe.device == self.device and (self.value is None or probe.dtype == self.value.dtype):
            return self
        value = None if self.value is None else fn(self.value)
        return Adjacency(self.rowptr.to(probe.device), self.col.to(probe.device), value, self.size, self.symmetric)

    def to(self, *args: Any) -> Adjacency:
        r"""The same matrix on another device or in another precision."""
        return self.apply(lambda x: x.to(*args))

    def __add__(self, other: Adjacency) -> Adjacency:
        (first, a), (second, b) = self.to_edge_index(), other.to_edge_index()
        return Adjacency.from_edge_index(torch.cat([first, second], dim=1), torch.cat([a, b]), self.size,
                                         self.symmetric and other.symmetric)

    def __matmul__(self, x: Tensor) -> Tensor:
        from genrec_pyg.ops.spmm import spmm
        return spmm(self, x)

    def __repr__(self) -> str:
        return f'Adjacency(size={self.size}, nnz={self.nnz}, symmetric={self.symmetric}, device={self.device})'
