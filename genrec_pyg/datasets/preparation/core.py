r"""Largest subgraph of a core, out of core."""

from __future__ import annotations

import numpy as np

#: Pairs that are looked at a time.
BLOCK = 1 << 22


def core_members(
    user: np.ndarray, item: np.ndarray, num_users: int, num_items: int, k: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, int]:
    r"""Users and items of the core, see :class:`~genrec_pyg.transforms.KCore`.

    Every round counts, block by block, the pairs whose both ends are still there, and drops the
    ends that have too few. The pairs are only read, so that they may lie in mapped files.

    Args:
        user: Users ``[P]`` of distinct pairs.
        item: Items ``[P]``.
        num_users: Number of users.
        num_items: Number of items.
        k: Bounds for users and for items; 0 keeps all of a side.

    Returns:
        Booleans ``[U]`` and ``[I]``, and the number of pairs that are left.
    """
    user_kept, item_kept = np.ones(num_users, dtype=bool), np.ones(num_items, dtype=bool)
    while True:
        user_degree, item_degree = np.zeros(num_users, np.int64), np.zeros(num_items, np.int64)
        for start in range(0, len(user), BLOCK):
            u, i = user[start : start + BLOCK], item[start : start + BLOCK]
            kept = user_kept[u] & item_kept[i]
            low = int(u[0])  # users are sorted, so that a block has few of them
            counts = np.bincount(u[kept] - low, minlength=1)
            user_degree[low : low + len(counts)] += counts
            item_degree += np.bincount(i[kept], minlength=num_items)
        fewer_users = user_kept & (user_degree >= k[0])
        fewer_items = item_kept & (item_degree >= k[1])
        if (fewer_users == user_kept).all() and (fewer_items == item_kept).all():
            return user_kept, item_kept, int(user_degree.sum())
        user_kept, item_kept = fewer_users, fewer_items
