r"""Whether features belong to the items that they are given to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import HAS, ITEM, read_interactions, read_mask
from genrec_pyg.graph.containers import as_dense, take_rows
from genrec_pyg.graph.schema import read_edges

#: Rows by which features may be displaced.
SHIFTS = (-2, -1, 0, 1, 2)
#: Pairs of items that are compared at most, numbers in them, and numbers that are held at a time.
_PAIRS = 100_000
_COST = 40_000_000
_NUMBERS = 64_000_000
_FEWEST_PAIRS = 2000
#: Pairs of a user: an item with as many others.
_LAGS = 3
#: Standard errors: what counts as a signal, what does at another shift, and by how much that must
#: be
#: ahead.
_SIGNAL = 3.0
_ELSEWHERE = 4.0
_AHEAD = 3.0
#: Items with features below which nothing can be said.
_FEWEST = 50


class Alignment(NamedTuple):
    r"""Similarity of items that the same users have, by displacement of the feature rows.

    Args:
        lift: For each of :data:`SHIFTS`, mean cosine of co-used items minus that with all partners.
        score: The same in standard errors.
        ahead: Standard errors by which each shift is ahead of none.
        pairs: Pairs that were compared.
    """

    lift: tuple[float, ...]
    score: tuple[float, ...]
    ahead: tuple[float, ...]
    pairs: int

    @property
    def peak(self) -> int:
        r"""The shift of the highest similarity."""
        return SHIFTS[int(np.argmax(self.lift))]

    @property
    def misplaced(self) -> bool:
        r"""Whether the peak is clearly elsewhere than at no shift."""
        best = int(np.argmax(self.lift))
        return SHIFTS[best] != 0 and self.score[best] > _ELSEWHERE and self.ahead[best] > _AHEAD

    def describe(self) -> str:
        r"""Similarity above chance by shift, as text."""
        return ', '.join(f'{shift:+d}: {lift:.4f}' for shift, lift in zip(SHIFTS, self.lift))

    @property
    def found(self) -> bool:
        r"""Whether co-used items are more alike than others without a shift."""
        return self.score[SHIFTS.index(0)] > _SIGNAL


def measure_alignment(data: HeteroData, modality: str, seed: int = 0) -> Alignment | None:
    r"""Compares the features of items that the same users have, with rows displaced by -2 to 2.

    Items that the same people use are more alike than others, if the features are theirs; where
    rows are displaced, they are so for the items one or two rows further. Pairs are drawn from
    training interactions. What partners shuffled among all pairs would have is taken off, in its
    mean over all orders, so that the popularity of items does not matter.

    Args:
        data: Canonical graph; rows of the modality in the order of the file that they come from.
        modality: Name of the modality.
        seed: Seed of the sample.

    Returns:
        :obj:`None` if there are too few items or pairs to tell.
    """
    generator = np.random.default_rng(seed)
    item, node = read_edges(data, (ITEM, HAS, modality)).numpy()
    x = data[modality].x
    row = np.full(int(data[ITEM].num_nodes), -1, dtype=np.int64)
    row[item] = node
    pairs = row[_pairs(data, row >= 0, generator)]
    margin = max(SHIFTS)
    pairs = pairs[:, ((pairs >= margin) & (pairs < x.shape[0] - margin)).all(axis=0)]
    width = max(1, x.shape[1])
    pairs = pairs[:, : max(_FEWEST_PAIRS, _COST // width)]
    if x.shape[0] * width > _NUMBERS:
        pairs = pairs[:, : max(_FEWEST_PAIRS, _NUMBERS // (2 * len(SHIFTS) * width))]
    if pairs.shape[1] < _FEWEST or len(np.unique(pairs)) < _FEWEST:
        return None
    totals = _totals(x, pairs)
    number = pairs.shape[1]
    lift = totals[:, 0].sum(axis=1) / number
    apart = totals - totals[SHIFTS.index(0)]
    ahead = apart[:, 0].sum(axis=1) / number
    return Alignment(
        *(
            tuple(values.tolist())
            for values in (lift, lift / _errors(totals, pairs), ahead / _errors(apart, pairs))
        ),
        pairs=number,
    )


def _pairs(data: HeteroData, usable: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    r"""Pairs of different items ``[2, n]`` that a user has, in random order."""
    edges, mask = read_interactions(data), read_mask(data, 'train')
    user, item = (edges if mask is None else edges[:, mask]).numpy()
    kept = usable[item]
    order = generator.permutation(int(kept.sum()))
    user, item = user[kept][order], item[kept][order]
    order = np.argsort(user, kind='stable')
    user, item = user[order], item[order]
    found = np.empty((2, 0), dtype=np.int64)
    for lag in range(1, min(_LAGS, len(user) - 1) + 1):
        both = (user[lag:] == user[:-lag]) & (item[lag:] != item[:-lag])
        found = np.concatenate([found, np.stack([item[lag:], item[:-lag]])[:, both]], axis=1)
    return found[:, generator.permutation(found.shape[1])[:_PAIRS]]


def _totals(x: object, pairs: np.ndarray) -> np.ndarray:
    r"""Similarities summed over the pairs of each item, once as their first and once as their
    second, by shift: ``[shifts, 2, items]``.

    A similarity is the cosine of a pair minus the mean of that of its first with all partners.
    Columns are standardized first, so that none has all the weight. Sums over pairs are products
    with the sparse matrix of pairs.
    """
    items, index = np.unique(pairs, return_inverse=True)
    first, second = index.reshape(pairs.shape)
    rows = np.unique(np.concatenate([items + shift for shift in SHIFTS]))
    features = _standardized(x, torch.from_numpy(rows))
    matrix = sp.csr_matrix(
        (np.ones(len(first), dtype=np.float32), (first, second)), shape=(len(items), len(items))
    )
    transposed = matrix.T.tocsr()
    number_first, number_second = (
        np.bincount(side, minlength=len(items)) for side in (first, second)
    )
    found = []
    for shift in SHIFTS:
        here = features[np.searchsorted(rows, items + shift)]
        mean = number_second @ here / len(first)
        with_partners, with_firsts = matrix @ here, transposed @ here
        found.append(
            [
                np.einsum('nd,nd->n', here, with_partners) - number_first * (here @ mean),
                np.einsum('nd,nd->n', here, with_firsts) - with_firsts @ mean,
            ]
        )
    return np.array(found)


def _standardized(x: object, rows: Tensor) -> np.ndarray:
    r"""Rows of unit length over standardized columns, float32; constant columns and rows are
    zero.
    """
    x = as_dense(take_rows(x, rows)).float()
    x = (x - x.mean(dim=0)) / x.std(dim=0).clamp(min=1e-12)
    return torch.nn.functional.normalize(torch.nan_to_num(x)).numpy()


def _errors(totals: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    r"""Standard errors of the means over pairs ``[shifts]``. Pairs of one item are no independent
    draws, so their deviations are summed by item before they are squared.
    """
    number = pairs.shape[1]
    index = np.unique(pairs, return_inverse=True)[1].reshape(pairs.shape)
    counts = np.stack([np.bincount(side, minlength=totals.shape[2]) for side in index])
    mean = totals[:, 0].sum(axis=1) / number
    deviation = totals - mean[:, None, None] * counts
    return np.maximum(np.sqrt((deviation**2).sum(axis=(1, 2))) / number, 1e-12)
