r"""Exact and approximate search of the best items of users, given embeddings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency, masked_topk, topk_excluding
from genrec_pyg.ops.knn import CODES, usual_num_cells

#: Accepted names of indices.
INDEXES = ('exact', 'approximate')

#: Channels that one byte of a code stands for.
_CHANNELS_PER_CODE = 4
#: Candidates of one user beyond which all items are ranked; also the most that faiss returns on a
#: GPU.
_MOST_CANDIDATES = 2048
#: Candidates per wanted item from either part where scores have a sparse part.
_SPARSE_OVERSAMPLE = 4
#: Entries of gathered item rows at a time.
_BLOCK_ENTRIES = 2**24

#: Takes users ``[B]``, ``k`` and the items to leave out ``[B, I]``; returns scores and items
#: ``[B, k]``.
Search = Callable[[Tensor, int, Adjacency], tuple[Tensor, Tensor]]


class Index(Protocol):
    r"""Item embeddings that can be searched."""

    def search(self, user: Tensor, k: int, known: Adjacency | None = None) -> tuple[Tensor, Tensor]:
        r"""Scores and items ``[B, k]``, padded as :func:`~genrec_pyg.ops.topk_excluding` does, for
        user embeddings ``[B, d]`` or ``[B, K, d]``, the entries of ``known`` ``[B, I]`` left out.
        """


class ExactIndex:
    r"""Ranks all items.

    Args:
        item: Item embeddings ``[I, d]``.
        block_size: Rows of scores, one per user and interest, that are held at a time.

    Raises:
        ConfigError: If ``block_size`` is below 1.

    Examples:
        >>> import torch
        >>> from genrec_pyg.ops import Adjacency
        >>> from genrec_pyg.retrieval import ExactIndex
        >>> known = Adjacency.from_edge_index(torch.tensor([[0], [2]]), size=(1, 3))
        >>> score, item = ExactIndex(torch.eye(3)).search(torch.tensor([[1.0, 2.0, 3.0]]), 2, known)
        >>> item
        tensor([[1, 0]])
    """

    def __init__(self, item: Tensor, block_size: int = 1024):
        if block_size < 1:
            raise ConfigError(f'block_size: got {block_size}, accepted are integers from 1')
        self.item = item
        self.block_size = block_size

    def search(self, user: Tensor, k: int, known: Adjacency | None = None) -> tuple[Tensor, Tensor]:
        r"""See :class:`Index`; the best interest counts, and equal scores rank by lower item id."""
        if user.dim() == 2:
            excluded = (None, None) if known is None else (known.rowptr, known.col)
            return masked_topk(user, self.item, k, *excluded, self.block_size)
        parts = []
        length = max(1, self.block_size // user.size(1))
        for begin in range(0, max(user.size(0), 1), length):
            rows = torch.arange(begin, min(begin + length, user.size(0)), device=user.device)
            scores = (user[rows] @ self.item.t()).amax(dim=1)
            excluded = () if known is None else known.select_rows(rows)
            parts.append(topk_excluding(scores, k, *excluded))
        score, item = (torch.cat(column) for column in zip(*parts))
        return score, item

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({tuple(self.item.shape)})'


class ApproximateIndex:
    r"""Inverted lists over product-quantized items
    (:class:`torch_geometric.nn.pool.ApproxMIPSKNNIndex`, faiss, on the CPU).

    A search fetches ``oversample * k`` candidates and as many more as there are items to leave out,
    so that known items do not shorten a list, and ranks them by exact inner products: scores are
    exact, and only an item that was not fetched can be missed. Users with very many known items, or
    for whom the visited cells held too few candidates, are ranked exactly.

    Args:
        item: Item embeddings ``[I, d]``.
        num_cells: Cells into which the items are divided; :obj:`None` takes :math:`4 \sqrt{I}`, and
            no cells and codes at all (:class:`torch_geometric.nn.pool.MIPSKNNIndex`) where there
            are too few items to learn them.
        num_probes: Cells that a query visits.
        oversample: Candidates fetched per wanted item.

    Raises:
        ConfigError: If faiss is missing or a number out of range.

    Examples:
        >>> import torch
        >>> from genrec_pyg.ops import Adjacency
        >>> from genrec_pyg.retrieval import ApproximateIndex
        >>> nothing = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), size=(1, 8))
        >>> score, item = ApproximateIndex(torch.eye(8)).search(torch.eye(8)[2:3], 1, nothing)
        >>> item.item()
        2
    """

    def __init__(
        self, item: Tensor, num_cells: int | None = None, num_probes: int = 16, oversample: int = 4
    ):
        num_items = item.size(0)
        for name, value in (('num_probes', num_probes), ('oversample', oversample)):
            if value < 1:
                raise ConfigError(f'{name}: got {value}, accepted are integers from 1')
        if num_cells is not None and not (1 <= num_cells <= num_items and num_items >= CODES):
            raise ConfigError(
                f'num_cells: got {num_cells} for {num_items} items, accepted are 1 to the number '
                f'of items, of which there must be at least {CODES}'
            )
        try:
            importlib.import_module('faiss')  # PyG does so in the constructors below
        except ImportError as error:
            raise ConfigError(
                "index: got 'approximate', which needs the package faiss (pip install "
                "genrec_pyg[faiss]); accepted without it is 'exact'"
            ) from error
        from torch_geometric.nn.pool import ApproxMIPSKNNIndex, MIPSKNNIndex

        self.exact = ExactIndex(item)
        self.item = item
        self.num_probes = num_probes
        self.oversample = oversample
        self.num_cells = num_cells
        if num_cells is None:
            self.num_cells = usual_num_cells(num_items) or None
        if self.num_cells is None:
            self._index = MIPSKNNIndex(self._vectors(item))
        else:
            vectors = self._vectors(item)
            self._index = ApproxMIPSKNNIndex(
                self.num_cells, num_probes, vectors.size(1) // _CHANNELS_PER_CODE, vectors
            )

    def search(self, user: Tensor, k: int, known: Adjacency | None = None) -> tuple[Tensor, Tensor]:
        r"""See :class:`Index`; a list is as long as the exact one."""
        if k < 0:
            raise ConfigError(f'k: got {k}, accepted are integers from 0')
        num_users, num_items = user.size(0), self.item.size(0)
        score = self.item.new_full((num_users, k), -torch.inf)
        item = torch.full((num_users, k), num_items, device=user.device)
        degree = (
            torch.zeros(num_users, dtype=torch.long)
            if known is None
            else known.rowptr.diff().long().cpu()
        )
        # Powers of two: few searches, and a user with a long history does not slow down the others.
        wanted = (self.oversample * k + degree).clamp(min=1)
        fetched = (2 ** wanted.double().log2().ceil()).long()
        short = []
        for number in fetched.unique().tolist():
            rows = (fetched == number).nonzero().view(-1).to(user.device)
            if number >= min(num_items, _MOST_CANDIDATES):
                short.append(rows)
                continue
            score[rows], item[rows], found = self._rank(user[rows], k, number, _rows(known, rows))
            expected = (num_items - degree.to(user.device)[rows]).clamp(max=k)
            short.append(rows[found < expected])
        rows = torch.cat(short) if short else None
        if rows is not None and rows.numel() > 0:
            score[rows], item[rows] = self.exact.search(user[rows], k, _rows(known, rows))
        return score, item

    def _rank(
        self, user: Tensor, k: int, number: int, known: Adjacency | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Best of ``number`` candidates per user and interest, and how many were found."""
        num_users, num_items = user.size(0), self.item.size(0)
        interests = user.unsqueeze(1) if user.dim() == 2 else user
        if self.num_cells is not None:
            self._index.index.nprobe = min(self.num_probes, self.num_cells)
        found = self._index.search(self._vectors(interests.flatten(0, 1)), number).index.to(
            user.device
        )
        # Ascending, so that duplicates stand side by side and a stable sort ranks equal scores by
        # lower id.
        item = found.view(num_users, -1).sort(dim=1).values
        valid = item >= 0  # faiss pads with -1
        valid[:, 1:] &= item[:, 1:] != item[:, :-1]
        if known is not None and known.nnz > 0:
            row = torch.arange(num_users, device=user.device)
            key = row.repeat_interleave(known.rowptr.diff().long()) * num_items + known.col
            candidate = row.unsqueeze(1) * num_items + item
            place = torch.searchsorted(key, candidate).clamp(max=key.numel() - 1)
            valid &= key[place] != candidate
        length = max(1, _BLOCK_ENTRIES // (item.size(1) * self.item.size(1)))
        score = torch.cat(
            [
                (self.item[items.clamp(min=0)] @ rows.transpose(1, 2)).amax(dim=2)
                for items, rows in zip(item.split(length), interests.split(length))
            ]
        )
        score, order = score.masked_fill(~valid, -torch.inf).sort(
            dim=1, descending=True, stable=True
        )
        item = item.gather(1, order).masked_fill(score == -torch.inf, num_items)
        width = min(k, item.size(1))
        pad = (0, k - width)
        return (
            torch.nn.functional.pad(score[:, :width], pad, value=-torch.inf),
            torch.nn.functional.pad(item[:, :width], pad, value=num_items),
            valid.sum(dim=1),
        )

    def _vectors(self, x: Tensor) -> Tensor:
        r"""Pads rows for faiss with zero channels up to a whole number of codes, which change no
        inner product.
        """
        x = x.detach().float().cpu()
        return torch.nn.functional.pad(x, (0, -x.size(1) % _CHANNELS_PER_CODE)).contiguous()

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({tuple(self.item.shape)}, num_cells={self.num_cells}, '
            f'num_probes={self.num_probes})'
        )


@torch.no_grad()
def make_search(
    model: Recommender, index: str = 'exact', num_cells: int | None = None, num_probes: int = 16
) -> Search:
    r"""Search for users by number. Embeddings are computed now; a model without them scores when it
    is asked.

    Args:
        model: Trained model, in evaluation mode.
        index: ``'exact'`` or ``'approximate'``.
        num_cells: See :class:`ApproximateIndex`.
        num_probes: See :class:`ApproximateIndex`.

    Raises:
        ConfigError: On an unknown index, or an approximate one over a model without embeddings or
            without faiss.
    """
    if index not in INDEXES:
        raise ConfigError(f'index: got {index!r}, accepted are {", ".join(map(repr, INDEXES))}')
    if not model.has_embeddings:
        if index != 'exact':
            raise ConfigError(
                f'index: got {index!r} for {type(model).__name__}, whose scores are no inner '
                f'products of '
                "embeddings; accepted is 'exact'"
            )
        return lambda user, k, known: topk_excluding(model.score(user), k, known.rowptr, known.col)
    users, items = model.embeddings()
    found: Index = (
        ExactIndex(items) if index == 'exact' else ApproximateIndex(items, num_cells, num_probes)
    )
    if model.has_sparse_scores:
        return _with_sparse_scores(model, users, items, found)
    return lambda user, k, known: found.search(users[user], k, known)


def _with_sparse_scores(model: Recommender, users: Tensor, items: Tensor, index: Index) -> Search:
    r"""Search where scores are inner products plus a sparse part: exactly, or among the candidates
    of the approximate index and the best of the sparse part, by their exact scores.
    """
    num_items = items.size(0)

    def exact(user: Tensor, k: int, known: Adjacency) -> tuple[Tensor, Tensor]:
        return topk_excluding(
            model.add_sparse_scores(users[user] @ items.t(), user), k, known.rowptr, known.col
        )

    def approximate(user: Tensor, k: int, known: Adjacency) -> tuple[Tensor, Tensor]:
        wanted = min(num_items, _SPARSE_OVERSAMPLE * k)
        sparse = model.add_sparse_scores(items.new_zeros(user.numel(), num_items), user)
        item = (
            torch.cat(
                [
                    index.search(users[user], wanted, known)[1],
                    topk_excluding(sparse.clone(), wanted, known.rowptr, known.col)[1],
                ],
                dim=1,
            )
            .sort(dim=1)
            .values
        )
        valid = item < num_items
        valid[:, 1:] &= item[:, 1:] != item[:, :-1]
        place = item.clamp(max=num_items - 1)
        length = max(1, _BLOCK_ENTRIES // (item.size(1) * items.size(1)))
        score = sparse.gather(1, place) + torch.cat(
            [
                (items[rows] @ query.unsqueeze(2)).squeeze(2)
                for rows, query in zip(place.split(length), users[user].split(length))
            ]
        )
        score, order = score.masked_fill(~valid, -torch.inf).sort(
            dim=1, descending=True, stable=True
        )
        item = item.gather(1, order).masked_fill(score == -torch.inf, num_items)
        return score[:, :k], item[:, :k]

    return exact if isinstance(index, ExactIndex) else approximate


@torch.no_grad()
def retrieve(
    search: Search, user: Tensor, k: int, known: Adjacency, batch_size: int = 1024
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    r"""Best items of many users in blocks, those in the rows of ``known`` left out.

    Args:
        search: See :func:`make_search`.
        user: Users ``[n]``.
        k: Items per user.
        known: Users by items to leave out ``[U, I]``.
        batch_size: Users per block.

    Yields:
        Users ``[B]``, scores and items ``[B, min(k, I)]``, padded as
        :func:`~genrec_pyg.ops.topk_excluding` does.

    Raises:
        ConfigError: If ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f'batch_size: got {batch_size}, accepted are integers from 1')
    for block in user.split(batch_size):
        score, item = search(block, min(k, known.size[1]), _rows(known, block))
        yield block, score, item


def _rows(known: Adjacency | None, rows: Tensor) -> Adjacency | None:
    r"""The rows ``rows`` ``[B]`` of ``known`` as a matrix of their own."""
    return (
        None
        if known is None
        else Adjacency(*known.select_rows(rows), None, (rows.numel(), known.size[1]))
    )
