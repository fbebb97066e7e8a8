r"""Rows of the user x item matrix and item representations, exchanged by diffusion processes and
denoisers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class SparseRows(NamedTuple):
    r"""Binary rows ``[B, I]`` in compressed form.

    Args:
        rowptr: Row offsets ``[B + 1]``.
        col: Items of the ones ``[nnz]``, ascending within a row.
        num_items: Number of columns ``I``.
    """

    rowptr: Tensor
    col: Tensor
    num_items: int

    @property
    def num_rows(self) -> int:
        r"""Number of rows ``B``."""
        return self.rowptr.numel() - 1

    def row(self) -> Tensor:
        r"""Row of every one ``[nnz]``."""
        return torch.repeat_interleave(self.count(), output_size=self.col.numel())

    def count(self) -> Tensor:
        r"""Ones per row ``[B]``, int64."""
        return self.rowptr.diff().long()

    def density(self) -> float:
        r"""Share of ones."""
        return self.col.numel() / max(self.num_rows * self.num_items, 1)

    def contains(self, row: Tensor, item: Tensor) -> Tensor:
        r"""Boolean ``[n]``: the entry ``(row, item)`` is a one."""
        return torch.isin(row * self.num_items + item, self.row() * self.num_items + self.col)

    def dense(self) -> Tensor:
        r"""Float matrix ``[B, I]``; only for one batch of rows at a time."""
        x = torch.zeros(self.num_rows, self.num_items, device=self.col.device)
        x[self.row(), self.col.long()] = 1
        return x

    @staticmethod
    def from_dense(x: Tensor) -> SparseRows:
        r"""The ones of a 0/1 or boolean matrix ``[B, I]``."""
        row, col = x.nonzero(as_tuple=True)
        count = torch.bincount(row, minlength=x.size(0))
        return SparseRows(torch.cat([count.new_zeros(1), count.cumsum(0)]), col, x.size(1))


class ItemViews(NamedTuple):
    r"""Item representations available to a denoiser.

    Args:
        embedding: Views :math:`\mathbf{V}_m = \mathbf{E}_i \odot \mathbf{F}_m` side by side
            ``[I, M * d]``, detached.
        num_modalities: Number ``M`` of views.
        log_degree: :math:`\log(1 + \mathrm{deg}_i)` ``[I]``.
        features: Encoded features of one modality ``[I, d]``, detached, for the modality signal
            injection.
        items: Item embeddings ``[I, d]``, detached, for the same.
    """

    embedding: Tensor
    num_modalities: int
    log_degree: Tensor
    features: Tensor | None = None
    items: Tensor | None = None


class ItemKeys:
    r"""Keys of the items and their products with weights of the items, each computed once.

    Made for one pass over the users, during which no weight changes.

    Args:
        key: Keys ``[I, q]``.
    """

    def __init__(self, key: Tensor):
        self.key = key
        self._products: list[tuple[Tensor, Tensor]] = []

    def product(self, weight: Tensor) -> Tensor:
        r"""Product ``[q, d]`` of the transposed keys with ``weight`` ``[I, d]``."""
        for known, product in self._products:
            if known is weight:
                return product
        self._products.append((weight, self.key.t() @ weight))
        return self._products[-1][1]


class FactoredRows(NamedTuple):
    r"""Real rows :math:`c \, \mathbf{X} + \mathbf{Q} \mathbf{K}^{\top}` ``[B, I]`` in factored
    form, never materialized.

    Args:
        base: Rows :math:`\mathbf{X}`, sparse or dense.
        share: Factor ``c``.
        query: Queries ``[B, q]``.
        keys: Keys of the items.
    """

    base: SparseRows | Tensor
    share: float
    query: Tensor
    keys: ItemKeys


#: State of a process: sparse where flips are rare, dense ``[B, I]`` where they are not (or where
#: values are real), factored in a chain of linear steps.
RowState = SparseRows | Tensor | FactoredRows


def dense_rows(state: RowState) -> Tensor:
    r"""The state as a matrix ``[B, I]``."""
    if isinstance(state, FactoredRows):
        return state.share * dense_rows(state.base) + state.query @ state.keys.key.t()
    return state.dense() if isinstance(state, SparseRows) else state


def row_product(state: RowState, weight: Tensor, value: Tensor | None = None) -> Tensor:
    r"""Product ``[B, d]`` of rows ``[B, I]`` with ``weight`` ``[I, d]``: a gather of the ones where
    the rows are sparse, small products where they are factored.

    Args:
        state: Rows.
        weight: Rows of the items.
        value: Entries ``[nnz]`` in place of the ones of sparse rows.
    """
    if isinstance(state, SparseRows):
        return F.embedding_bag(
            state.col.long(), weight, state.rowptr[:-1].long(), mode='sum', per_sample_weights=value
        )
    if isinstance(state, FactoredRows):
        return state.share * row_product(state.base, weight) + state.query @ state.keys.product(
            weight
        )
    return state.to(weight.dtype) @ weight
