r"""Sparse matrices with cached layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.exceptions import DataError


class _Pattern:
    r"""Positions of the entries of a sparse matrix, and the positions of its transpose once they
    were needed.
    """

    def __init__(self, rowptr: Tensor, col: Tensor, size: tuple[int, int]):
        index_type = torch.int32 if max(*size, col.numel()) < 2**31 else torch.int64
        self.rowptr = rowptr.to(index_type)
        self.col = col.to(index_type)
        self.size = size
        self._transposed: tuple[_Pattern, Tensor] | None = None

    def row(self) -> Tensor:
        r"""Row of every entry ``[nnz]``, int64."""
        return torch.repeat_interleave(self.rowptr.diff().long(), output_size=self.col.numel())

    def t(self) -> tuple[_Pattern, Tensor]:
        r"""The transposed positions, and for each of its entries the position of that entry
        here.
        """
        if self._transposed is None:
            order = torch.argsort(self.col, stable=True)
            pattern = _Pattern(
                _row_offsets(self.col, self.size[1]),
                self.row()[order],
                (self.size[1], self.size[0]),
            )
            self._transposed = pattern, order
        return self._transposed


class Adjacency:
    r"""Immutable sparse matrix ``[M, N]`` in CSR layout that keeps its transpose once it was
    needed.

    Row ``i`` collects from its columns: :math:`\mathbf{y}_i = \sum_j a_{ij} \mathbf{x}_j`, so rows
    are the targets of messages and columns their sources. Indices are int32 where sizes and number
    of entries allow it. Rows and the whole matrix may be empty, shapes rectangular.

    Args:
        rowptr: Row offsets ``[M + 1]``.
        col: Columns ``[nnz]``, ascending within a row.
        value: Entries ``[nnz]`` or :obj:`None` for ones.
        size: Shape ``(M, N)``.
        symmetric: Whether the matrix equals its transpose; then no transpose is ever built. Not
            checked.

    Raises:
        DataError: If the lengths of ``rowptr``, ``col``, ``value`` do not fit each other and
            ``size``.

    Examples:
        >>> import torch
        >>> from genrec_pyg.ops import Adjacency, spmm
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 2, 1]])
        >>> adj = Adjacency.from_edge_index(edge_index, torch.tensor([1.0, 2.0, 3.0]), size=(2, 3))
        >>> spmm(adj, torch.ones(3, 1)).view(-1)
        tensor([3., 3.])
        >>> adj.t().size
        (3, 2)
    """

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        value: Tensor | None,
        size: tuple[int, int],
        symmetric: bool = False,
    ):
        size = (int(size[0]), int(size[1]))
        if rowptr.numel() != size[0] + 1 or (symmetric and size[0] != size[1]):
            raise DataError(
                f'adjacency: size {size} with {rowptr.numel()} row offsets '
                f'(symmetric={symmetric}), accepted are M + 1 offsets for (M, N), and M = N if '
                f'symmetric'
            )
        if value is not None and value.shape != col.shape:
            raise DataError(
                f'adjacency: values of shape {tuple(value.shape)}, accepted is one value per '
                f'entry, {tuple(col.shape)}'
            )
        self._set(_Pattern(rowptr, col, size), value, symmetric)

    def _set(self, pattern: _Pattern, value: Tensor | None, symmetric: bool) -> None:
        self._pattern = pattern
        self.value = value
        self.symmetric = symmetric
        self._transposed: Adjacency | None = None

    @classmethod
    def _make(cls, pattern: _Pattern, value: Tensor | None, symmetric: bool = False) -> Adjacency:
        out = cls.__new__(cls)
        out._set(pattern, value, symmetric)
        return out

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        size: tuple[int, int] | None = None,
        symmetric: bool = False,
    ) -> Adjacency:
        r"""From rows ``edge_index[0]`` and columns ``edge_index[1]``, in any order.

        Args:
            edge_index: Rows and columns ``[2, E]``, int64.
            edge_weight: Entries ``[E]``; those of a repeated pair are summed. Without them a
                repeated pair counts once.
            size: Shape ``(M, N)``; the largest ids plus one by default.
            symmetric: Whether the caller knows the matrix to be symmetric.

        Raises:
            DataError: If ids are outside the shape or the lengths differ.
        """
        row, col = edge_index
        if size is None:
            size = (
                int(row.max()) + 1 if row.numel() else 0,
                int(col.max()) + 1 if col.numel() else 0,
            )
        size = (int(size[0]), int(size[1]))
        for name, index, bound in (('row', row, size[0]), ('column', col, size[1])):
            if index.numel() and (int(index.min()) < 0 or int(index.max()) >= bound):
                raise DataError(
                    f'adjacency: {name} ids from {int(index.min())} to {int(index.max())}, '
                    f'accepted are 0 to {bound - 1}'
                )
        if edge_weight is not None and edge_weight.shape != row.shape:
            raise DataError(
                f'adjacency: edge weights of shape {tuple(edge_weight.shape)}, accepted is one '
                f'per edge, {tuple(row.shape)}'
            )
        value, key = edge_weight, row * size[1] + col
        if not bool((key[1:] > key[:-1]).all()):
            if value is None:
                key = torch.unique(key)
            else:
                key, inverse = torch.unique(key, return_inverse=True)
                value = value.new_zeros(key.numel()).index_add(0, inverse, value)
            row, col = key // max(size[1], 1), key % max(size[1], 1)
        return cls(_row_offsets(row, size[0]), col, value, size, symmetric)

    @classmethod
    def from_sparse_tensor(cls, adj: Any, symmetric: bool = False) -> Adjacency:
        r"""From a ``torch_sparse.SparseTensor`` or a sparse :class:`torch.Tensor` of any layout.

        Raises:
            DataError: If an entry is not a scalar.
        """
        size = tuple(adj.shape) if isinstance(adj, Tensor) else tuple(adj.sizes())
        if not isinstance(adj, Tensor):
            rowptr, col, value = adj.csr()
        elif adj.layout == torch.sparse_csr:
            rowptr, col, value = adj.crow_indices(), adj.col_indices(), adj.values()
        else:
            adj = adj.to_sparse_coo().coalesce()
            rowptr = _row_offsets(adj.indices()[0], size[0])
            col = adj.indices()[1]
            value = adj.values()
        if len(size) != 2 or (value is not None and value.dim() != 1):
            raise DataError(
                f'adjacency: sparse tensor of shape {size}, accepted is a matrix of scalars'
            )
        row = torch.repeat_interleave(rowptr.diff().long(), output_size=col.numel())
        key = row * size[1] + col
        if bool((key[1:] > key[:-1]).all()):
            return cls(rowptr, col, value, size, symmetric)
        value = value if value is not None else torch.ones(col.numel(), device=col.device)
        return cls.from_edge_index(torch.stack([row, col.long()]), value, size, symmetric)

    @classmethod
    def from_scipy(cls, matrix: Any, symmetric: bool = False) -> Adjacency:
        r"""From any SciPy sparse matrix, entries as float32."""
        matrix = matrix.tocoo()
        edge_index = torch.stack(
            [torch.from_numpy(matrix.row).long(), torch.from_numpy(matrix.col).long()]
        )
        return cls.from_edge_index(
            edge_index, torch.from_numpy(matrix.data).float(), matrix.shape, symmetric
        )

    @property
    def rowptr(self) -> Tensor:
        r"""Row offsets ``[M + 1]``."""
        return self._pattern.rowptr

    @property
    def col(self) -> Tensor:
        r"""Columns ``[nnz]``, ascending within a row."""
        return self._pattern.col

    @property
    def size(self) -> tuple[int, int]:
        r"""Shape ``(M, N)``."""
        return self._pattern.size

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
        return self._pattern.row()

    def row_degree(self) -> Tensor:
        r"""Stored entries per row ``[M]``, int64."""
        return self.rowptr.diff().long()

    def to_edge_index(self) -> tuple[Tensor, Tensor]:
        r"""Rows and columns ``[2, nnz]`` (int64) and values ``[nnz]``.

        PyG's flow from source to target wants columns first: pass ``edge_index.flip(0)`` to a
        :class:`~torch_geometric.nn.conv.MessagePassing` layer.
        """
        value = torch.ones(self.nnz, device=self.device) if self.value is None else self.value
        return torch.stack([self.row(), self.col.long()]), value

    def t(self) -> Adjacency:
        r"""The transpose, built once; the matrix itself where it is symmetric."""
        if self.symmetric:
            return self
        if self._transposed is not None:
            return self._transposed
        pattern, order = self._pattern.t()
        out = Adjacency._make(pattern, None if self.value is None else self.value[order])
        # Entries that take part in differentiation are gathered again for every graph of
        # operations, also where none is recorded just now; only positions are kept.
        if self.value is None or not self.value.requires_grad:
            self._transposed, out._transposed = out, self
        return out

    def transposition(self) -> tuple[Adjacency, Tensor]:
        r"""Positions of the transpose, without values, and for each of its entries the position of
        that entry here ``[nnz]``; both are built once.
        """
        pattern, order = self._pattern.t()
        return Adjacency._make(pattern, None), order

    def with_value(self, value: Tensor | None, symmetric: bool = False) -> Adjacency:
        r"""The same positions, and their cached transpose, with other entries ``[nnz]``.

        Raises:
            DataError: If there is not one value per entry.
        """
        if value is not None and value.shape != self.col.shape:
            raise DataError(
                f'adjacency: values of shape {tuple(value.shape)}, accepted is one value per '
                f'entry, ({self.nnz},)'
            )
        return Adjacency._make(self._pattern, value, symmetric)

    def select_rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        r"""``(rowptr, col)`` of the rows ``index`` ``[B]`` in this order, int64; values are
        dropped.
        """
        rowptr, entry = self.row_entries(index)
        return rowptr, self.col[entry].long()

    def row_entries(self, index: Tensor) -> tuple[Tensor, Tensor]:
        r"""``(rowptr, entry)`` of the rows ``index`` ``[B]`` in this order: ``entry`` are positions
        in :attr:`col`.
        """
        begin = self.rowptr.long()
        count = begin.diff()[index]
        rowptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
        shift = torch.repeat_interleave(begin[index] - rowptr[:-1], count)
        return rowptr, shift + torch.arange(shift.numel(), device=shift.device)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> Adjacency:
        r"""Moves the matrix as ``fn`` moves a tensor (device and precision), as
        :class:`torch.nn.Module` does.
        """
        value = None if self.value is None else fn(self.value)
        device = fn(torch.empty(0, device=self.device)).device if value is None else value.device
        if device == self.device:
            if value is None or self.value is None or value.dtype == self.value.dtype:
                return self
            return Adjacency._make(self._pattern, value, self.symmetric)
        return Adjacency(
            self.rowptr.to(device), self.col.to(device), value, self.size, self.symmetric
        )

    def to(self, *args: Any, **kwargs: Any) -> Adjacency:
        r"""The same matrix on another device or in another precision; arguments as in
        :meth:`torch.Tensor.to`.
        """
        return self.apply(lambda x: x.to(*args, **kwargs))

    def __add__(self, other: Adjacency) -> Adjacency:
        if self.size != other.size:
            raise DataError(
                f'adjacency: sum of sizes {self.size} and {other.size}, accepted are equal sizes'
            )
        (first, a), (second, b) = self.to_edge_index(), other.to_edge_index()
        return Adjacency.from_edge_index(
            torch.cat([first, second], dim=1),
            torch.cat([a, b]),
            self.size,
            self.symmetric and other.symmetric,
        )

    def __matmul__(self, x: Tensor) -> Tensor:
        from genrec_pyg.ops.spmm import spmm

        return spmm(self, x)

    def __repr__(self) -> str:
        return (
            f'Adjacency(size={self.size}, nnz={self.nnz}, symmetric={self.symmetric}, '
            f'device={self.device})'
        )


class DividedAdjacency:
    r"""A square matrix of which other processes have the other parts; it multiplies by itself.

    :func:`~genrec_pyg.ops.spmm`, :func:`~genrec_pyg.ops.layer_mean` and the convolutions take it in
    place of an :class:`Adjacency`.

    Attributes:
        size: Own rows and columns.
    """

    size: tuple[int, int]

    def spmm(self, x: Tensor, backend: str = 'auto') -> Tensor:
        r"""Own rows of the product with ``x``, of which own rows are given, ``[n, d]``."""
        raise NotImplementedError


def _row_offsets(row: Tensor, num_rows: int) -> Tensor:
    count = torch.bincount(row, minlength=num_rows)
    return torch.cat([count.new_zeros(1), count.cumsum(0)])
