r"""Metrics of all lists together: how they share out the items."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.evaluation.lists import Lists


def gini(lists: Lists, label: Tensor) -> Tensor:
    r"""Gini index of how often items are listed: 0 where all equally often, 1 where one item has
    all places (`Shani and Gunawardana 2011
    <https://doi.org/10.1007/978-0-387-85820-3_8>`_). Items that no list has count.
    """
    count = lists.count.double().sort().values
    number = count.numel()
    if number < 2 or float(count.sum()) == 0:
        return torch.tensor(float('nan'))
    position = torch.arange(1, number + 1, dtype=torch.float64, device=count.device)
    weight = (2 * position - number - 1) / (number - 1)
    return (weight * count).sum() / count.sum()


def personalization(lists: Lists, label: Tensor) -> Tensor:
    r"""One minus the mean cosine similarity of the lists of two users, over all pairs of users.

    It equals :class:`torch_geometric.metrics.LinkPredPersonalization` without its bound on the
    users, in time linear in them: the similarities of all pairs add up to
    :math:`\frac{1}{2} (\lVert \sum_u x_u \rVert^2 - \sum_u \lVert x_u \rVert^2)` for lists of unit
    length :math:`x_u`.
    """
    length = lists.length.double()
    listed = length > 0
    number = int(listed.sum())
    if number < 2:
        return torch.tensor(float('nan'))
    scale = torch.where(listed, length.clamp(min=1).rsqrt(), 0.0)
    total = torch.zeros(lists.graph.num_items, dtype=torch.float64)
    row, position = lists.is_item.nonzero(as_tuple=True)
    total.index_add_(0, lists.item[row, position], scale[row])
    return 1 - (total.square().sum() - number) / (number * (number - 1))
