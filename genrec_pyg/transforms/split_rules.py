r"""Rules of splits on distinct pairs that are sorted by user: on all of a graph at once, or on
blocks of whole users.
"""

from __future__ import annotations

import torch
from torch import Tensor

TRAIN, VAL, TEST, KNOWN = range(4)  # as in MASKS


def random_labels(
    user: Tensor, degree: Tensor, key: Tensor, offset: Tensor, val: float, test: float | None
) -> Tensor:
    r"""Labels ``[P]`` of a random share of every user's items, see
    :class:`~genrec_pyg.transforms.RandomSplit`.

    Args:
        user: User of each pair ``[P]``, ascending.
        degree: Pairs of each user ``[U]``.
        key: Random numbers ``[P]``: those with the smallest are held out.
        offset: Random numbers ``[U]`` from 0 to below 1.
        val: Share of validation pairs.
        test: Share of test pairs.
    """
    most = (degree - 1).clamp(min=0)
    num_test = torch.minimum(((test or 0) * degree + offset).floor().long(), most)
    num_held_out = torch.minimum((((test or 0) + val) * degree + offset).floor().long(), most)
    rank = rank_in_user(user, degree, key)
    return torch.where(
        rank < num_test[user], TEST, torch.where(rank < num_held_out[user], VAL, TRAIN)
    )


def last_labels(user: Tensor, degree: Tensor, position: Tensor) -> Tensor:
    r"""Labels ``[P]`` of the last two items of every user, see
    :class:`~genrec_pyg.transforms.LeaveOneOut`; ``position`` ``[P]`` orders the pairs of a user.
    """
    from_last = rank_in_user(user, degree, -position)
    split = torch.where(from_last == 0, TEST, torch.where(from_last == 1, VAL, TRAIN))
    return split.masked_fill(degree[user] < 3, TRAIN)


def user_labels(
    user: Tensor, degree: Tensor, position: Tensor, of_user: Tensor, input_share: float
) -> Tensor:
    r"""Labels ``[P]`` where whole users are held out but for their first items, see
    :class:`~genrec_pyg.transforms.UserSplit`; ``of_user`` ``[U]`` is the label of each.
    """
    split = of_user[user]
    # 0.7 x 10 is 7, as it is meant
    num_known = (input_share * degree.double() + 1e-9).floor().long()
    known = rank_in_user(user, degree, position) < num_known[user]
    return split.masked_fill(known & (split != TRAIN), KNOWN)


def drawn_labels(active: Tensor, size: int, val: float, test: float, seed: int) -> Tensor:
    r"""Labels ``[size]`` of users or items, random shares of ``active`` ``[n]`` being held out."""
    labels = active.new_full((size,), TRAIN)
    order = active[
        torch.randperm(active.numel(), generator=torch.Generator().manual_seed(seed)).to(
            active.device
        )
    ]
    num_test, num_val = round(test * active.numel()), round(val * active.numel())
    labels[order[:num_test]] = TEST
    labels[order[num_test : num_test + num_val]] = VAL
    return labels


def time_bounds(num_pairs: int, val: float, test: float | None) -> tuple[int, int]:
    r"""Numbers of pairs, in the order of time, after which validation and test begin."""
    end_val = num_pairs - round((test or 0) * num_pairs)
    return end_val - round(val * num_pairs), end_val


def rank_in_user(user: Tensor, degree: Tensor, key: Tensor) -> Tensor:
    r"""Rank of each pair among its user's pairs by ascending ``key``; ``user`` is sorted."""
    order = key.argsort(stable=True)
    order = order[user[order].argsort(stable=True)]
    start = degree.cumsum(0) - degree
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device) - start[user]
    return rank
