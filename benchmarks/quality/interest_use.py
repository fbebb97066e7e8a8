r"""How evenly the interests of a user learn and are used, of a trained
:class:`~genrec_pyg.nn.models.sequential.multi_interest.MultiInterestRecommender`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import known_masks, split_edges
from genrec_pyg.loader import Sequences
from genrec_pyg.nn.models.sequential.multi_interest import MultiInterestRecommender

#: Training targets that are looked at, batches whose gradients are, and users at a time.
MOST_TARGETS, BATCHES, BLOCK = 20_000, 20, 256
#: Lengths of the lists.
LIST, RECALL = 10, 20


def evenness(count: Tensor) -> dict[str, float]:
    r"""``balance`` (entropy in units of its largest value), ``effective`` number and ``largest``
    share of counts or shares ``[K]``.
    """
    share = count.double() / count.double().sum()
    entropy = float(torch.special.entr(share).sum())
    return {
        'balance': entropy / math.log(share.numel()) if share.numel() > 1 else 1.0,
        'effective': math.exp(entropy),
        'largest': float(share.max()),
    }


def interest_use(
    model: MultiInterestRecommender, data: HeteroData, seed: int = 0
) -> dict[str, Any]:
    r"""Everything below in one mapping: ``chosen``, ``signal``, ``shape`` and ``lists``."""
    model.eval()  # what the trained model does: no dropout
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    signal = training_signal(model)
    with torch.no_grad():
        return {
            'signal': signal,
            'chosen': chosen_interests(model, generator),
            'shape': shape_of_interests(model, data),
            'lists': lists_of_interests(model, data),
        }


def training_signal(model: MultiInterestRecommender, batch_size: int = 128) -> dict[str, Any]:
    r"""Gradient that the loss sends to every interest.

    With :math:`g_{bk} = \Vert \partial \mathcal{L} / \partial \mathbf{m}_{bk} \Vert`, ``share``
    ``[K]`` is :math:`\sum_b g_{bk}` over the sum of all, with its evenness, and ``learning`` the
    mean over targets of the effective number of interests that learn from one.
    """
    total, learning = torch.zeros(model.num_interests, dtype=torch.float64), []
    for batch in model.make_loader(batch_size, 'user', BATCHES):
        with model.rows_of_batch(batch):
            interests = model.interests(batch.history, batch.length)[0].detach().requires_grad_()
            loss = sum(model.ranking_terms(batch, interests).values())
        norm = torch.autograd.grad(loss, interests)[0].norm(dim=2).double()
        total += norm.sum(dim=0)
        share = norm / norm.sum(dim=1, keepdim=True).clamp(min=1e-30)
        learning.append(torch.special.entr(share).sum(dim=1).exp())
    share = total / total.sum()
    return {
        'share': share.tolist(),
        **evenness(share),
        'learning': float(torch.cat(learning).mean()),
    }


def chosen_interests(model: MultiInterestRecommender, generator: torch.Generator) -> dict[str, Any]:
    r"""Which interest scores a training target best: ``share`` ``[K]`` of the targets with its
    evenness, ``per_user`` balance over the targets of one user (of users with at least ``K``), and
    ``softness``, the mean entropy of a softmax of the scores, in units of its largest value.
    """
    lengths = model.sequences.lengths()
    targets = (lengths - model.min_history).clamp(min=0)
    user = torch.arange(lengths.numel()).repeat_interleave(targets)
    first = (targets.cumsum(0) - targets).repeat_interleave(targets)
    position = model.min_history + torch.arange(user.numel()) - first
    drawn = torch.randperm(user.numel(), generator=generator)[:MOST_TARGETS]
    user, position = user[drawn], position[drawn]
    best, entropy = [], []
    for u, p in zip(user.split(1024), position.split(1024)):
        history, length = model.sequences.window(u, p, model.history_length, model.align)
        target = model.items.rows(model.sequences.item[model.sequences.rowptr[u] + p])
        score = (model.encode_users(history, length) @ target.unsqueeze(2)).squeeze(2)
        best.append(score.argmax(dim=1))
        entropy.append(torch.special.entr(score.softmax(dim=1)).sum(dim=1))
    index, num_interests = torch.cat(best), model.num_interests
    count = torch.bincount(index, minlength=num_interests)
    of_user = torch.bincount(
        user * num_interests + index, minlength=lengths.numel() * num_interests
    )
    of_user = of_user.view(-1, num_interests)
    of_user = of_user[of_user.sum(dim=1) >= num_interests].double()
    share = of_user / of_user.sum(dim=1, keepdim=True)
    largest = math.log(num_interests) if num_interests > 1 else 1.0
    return {
        'share': (count.double() / count.sum()).tolist(),
        **evenness(count),
        'per_user': float(torch.special.entr(share).sum(dim=1).mean()) / largest,
        'softness': float(torch.cat(entropy).mean()) / largest,
    }


def shape_of_interests(model: MultiInterestRecommender, data: HeteroData) -> dict[str, float]:
    r"""Of the histories that are known at the test: mean ``cosine`` and ``distance`` of two
    interests of a user (1 and 0 where they have collapsed into one), and of the attention of an
    interest over the items its mean ``largest`` weight and its ``effective`` number of items.
    """
    cosine, distance, largest, effective = [], [], [], []
    pairs = torch.combinations(torch.arange(model.num_interests))
    with model.known_edges(data, known_masks(data, 'test')):
        for user in torch.arange(model.num_users).split(BLOCK):
            history, length = model.sequences.last(user, model.history_length, model.align)
            real = length > 0
            interests, attention = model.interests(history[real], length[real])
            one, other = interests[:, pairs[:, 0]], interests[:, pairs[:, 1]]
            cosine.append(torch.cosine_similarity(one, other, dim=2).flatten())
            distance.append((one - other).norm(dim=2).flatten())
            share = attention / attention.sum(dim=2, keepdim=True).clamp(min=1e-30)
            largest.append(share.amax(dim=2).flatten())
            effective.append(torch.special.entr(share).sum(dim=2).exp().flatten())
    found = {'cosine': cosine, 'distance': distance, 'largest': largest, 'effective': effective}
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}


def lists_of_interests(model: MultiInterestRecommender, data: HeteroData) -> dict[str, Any]:
    r"""Of users with a test item: evenness of the interests that put an item into the list of
    :data:`LIST` (``share``), ``distinct`` items in the ``K`` lists of the interests alone, in units
    of ``K`` lists, and the Recall of the list of :data:`RECALL`, whole (``recall``) and with each
    interest left out (``without``).
    """
    masks = known_masks(data, 'test')
    test = split_edges(data, 'test')
    known = Sequences.from_edges(
        _sorted(torch.cat([split_edges(data, name) for name in masks], dim=1)),
        model.num_users,
        model.num_items,
    )
    count = torch.zeros(model.num_interests, dtype=torch.float64)
    distinct, hits, users = 0.0, 0.0, 0
    without = torch.zeros(model.num_interests, dtype=torch.float64)
    with model.known_edges(data, masks):
        queries, items = model.embed()
    for user in test[0].unique().split(BLOCK):
        score = queries[user] @ items.t()
        row, item = (known.lengths()[user], _rows_of(known, user))
        score[row_numbers(row), :, item] = -math.inf
        wanted = torch.zeros(user.numel(), model.num_items, dtype=torch.bool)
        mine = torch.isin(test[0], user)
        wanted[torch.searchsorted(user, test[0, mine]), test[1, mine]] = True
        best, by = score.max(dim=1)
        listed = best.topk(LIST, dim=1).indices
        count += torch.bincount(by.gather(1, listed).flatten(), minlength=model.num_interests)
        own = score.topk(LIST, dim=2).indices.flatten(1).sort(dim=1).values
        distinct += float((own.diff(dim=1) != 0).sum() + user.numel())
        hits += _recall(best, wanted)
        users += user.numel()
        for left_out in range(model.num_interests if model.num_interests > 1 else 0):
            others = [k for k in range(model.num_interests) if k != left_out]
            without[left_out] += _recall(score[:, others].amax(dim=1), wanted)
    return {
        'share': (count.double() / count.sum()).tolist(),
        **evenness(count),
        'distinct': distinct / (users * LIST * model.num_interests),
        'recall': hits / users,
        'without': (without / users).tolist(),
    }


def row_numbers(length: Tensor) -> Tensor:
    r"""Row of every entry of compressed rows of lengths ``[B]``."""
    return torch.arange(length.numel()).repeat_interleave(length)


def _rows_of(sequences: Sequences, user: Tensor) -> Tensor:
    length = sequences.lengths()[user]
    first = length.cumsum(0) - length
    place = torch.arange(int(length.sum())) - first.repeat_interleave(length)
    return sequences.item[sequences.rowptr[user].repeat_interleave(length) + place]


def _recall(score: Tensor, wanted: Tensor) -> float:
    listed = torch.zeros_like(wanted).scatter_(1, score.topk(RECALL, dim=1).indices, True)
    return float(((listed & wanted).sum(dim=1) / wanted.sum(dim=1)).sum())


def _sorted(edges: Tensor) -> Tensor:
    return edges[:, edges[0].argsort(stable=True)]
