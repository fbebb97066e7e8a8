r"""How much lists lean to items that everybody knows, and to whom they do so."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genrec_pyg.evaluation.lists import Lists

#: Share of the interactions that the most and the least popular items have.
_HEAD, _TAIL = 0.2, 0.2
#: Share of the users in the group of those with the fewest, and with the most, popular items.
_GROUP = 0.2


def novelty(lists: Lists, label: Tensor) -> Tensor:
    r"""Mean self-information of the items of a list in bits, :math:`-\log_2` of the share of users
    that have the item (`Zhou et al., PNAS 2010 <https://doi.org/10.1073/pnas.1000488107>`_).
    An item that nobody has counts as if one user had it.
    """
    degree = lists.graph.item_degree().clamp(min=1).double()
    bits = -(degree / lists.graph.num_users).log2()
    return _mean_over_items(bits, lists)


def miscalibration(lists: Lists, label: Tensor) -> Tensor:
    r"""Jensen-Shannon divergence in bits between the shares of popular, middling and rare items in
    the training items of a user and in the list: 0 where the list is as the user is
    (`Abdollahpouri et al., UMAP 2021 <https://arxiv.org/abs/2103.06364>`_). NaN for users without
    training items.
    """
    group = popularity_groups(lists.graph.item_degree())
    item = torch.cat([group, group.new_tensor([3])])[lists.item]
    listed = torch.nn.functional.one_hot(item, 4)[..., :3].sum(dim=1).double()
    user, known = lists.graph.edge_index
    profile = torch.zeros(lists.graph.num_users, 3, dtype=torch.float64)
    profile.index_put_((user, group[known]), profile.new_ones(()), accumulate=True)
    profile = profile[lists.user]
    valid = (profile.sum(dim=1) > 0) & (listed.sum(dim=1) > 0)
    p, q = (x / x.sum(dim=1, keepdim=True).clamp(min=1) for x in (profile, listed))
    middle = (p + q) / 2
    divergence = (torch.special.xlogy(p, p) + torch.special.xlogy(q, q)) / 2
    divergence = (divergence - torch.special.xlogy(middle, middle)).sum(dim=1)
    return torch.where(valid, divergence.clamp(min=0) / math.log(2), float('nan'))


def popularity_lift(lists: Lists, label: Tensor) -> dict[str, Tensor]:
    r"""By how much the mean popularity of the listed items is above that of the training items of
    the users, relative to the latter, for the fifth of users with the smallest share of popular
    items (``niche``), the fifth with the largest (``blockbuster``) and the others (``diverse``).
    0 is no bias (`Abdollahpouri et al. 2019 <https://arxiv.org/abs/1907.13286>`_).
    """
    degree = lists.graph.item_degree()
    user, known = lists.graph.edge_index
    count = lists.graph.user_degree().double()

    def profile(value: Tensor) -> Tensor:
        total = torch.zeros_like(count).index_add_(0, user, value.double()[known])
        return (total / count.clamp(min=1))[lists.user]

    share, mine = profile(popularity_groups(degree) == 0), profile(degree)
    listed = _mean_over_items(degree.double(), lists)
    valid = ((count[lists.user] > 0) & ~listed.isnan()).nonzero().view(-1)
    order = valid[share[valid].argsort(stable=True)]
    edge = round(_GROUP * order.numel())
    parts = {
        'niche': order[:edge],
        'diverse': order[edge : order.numel() - edge],
        'blockbuster': order[order.numel() - edge :],
    }
    return {
        name: listed[part].mean() / mine[part].mean() - 1
        for name, part in parts.items()
        if part.numel() > 0
    }


def popularity_groups(degree: Tensor) -> Tensor:
    r"""Group of every item ``[I]``: 0 for the most popular items that have a fifth of all
    interactions, 2 for the least popular ones that have a fifth, 1 for those between. Items of
    equal popularity are ordered by number.

    Args:
        degree: Interactions per item ``[I]``.
    """
    order = degree.argsort(descending=True, stable=True)
    before = (degree[order].cumsum(0) - degree[order]).double() / degree.sum().clamp(min=1)
    group = torch.ones_like(degree)
    group[order[before < _HEAD]] = 0
    group[order[before >= 1 - _TAIL]] = 2
    return group


def _mean_over_items(value: Tensor, lists: Lists) -> Tensor:
    total = torch.cat([value, value.new_zeros(1)])[lists.item].sum(dim=1)
    return torch.where(lists.length > 0, total / lists.length.clamp(min=1), float('nan'))
