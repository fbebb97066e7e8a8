r"""Embeddings of users from lists of items, next to a trained model."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from genrec_pyg.ops import Adjacency

#: Ridge of the map from histories to user embeddings, as a share of the mean square of its inputs.
_RIDGE = 1e-3


class HistoryEmbedding:
    r"""Embeddings of users from lists of items, next to a trained model that stays as it is.

    One propagation step over the fixed item embeddings,
    :math:`d_u^{-1/2} \sum_{i \in N(u)} d_i^{-1/2} \mathbf{z}_i`, and their mean over the list are
    mapped to the space of user embeddings. The linear map is the ridge regression from the lists of
    the training users to their trained embeddings. A list costs one sparse product, whatever the
    model.

    Args:
        users: Trained user embeddings ``[U, d]``.
        items: Item embeddings ``[I, d]``.
        interactions: Training interactions ``[U, I]``.
    """

    def __init__(self, users: Tensor, items: Tensor, interactions: Adjacency):
        degree = torch.bincount(interactions.col.long(), minlength=items.size(0)).clamp(min=1)
        self.items = items
        self.degree = degree
        self._scaled = items / degree.to(items.dtype).sqrt().unsqueeze(1)
        active = interactions.rowptr.diff() > 0
        inputs, targets = self._inputs(interactions)[active].double(), users[active].double()
        gram = inputs.t() @ inputs
        ridge = _RIDGE * gram.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
        gram.diagonal().add_(ridge)
        self.weight = torch.linalg.solve(gram, inputs.t() @ targets).to(items.dtype)

    def on(self, items: Tensor, interactions: Adjacency) -> HistoryEmbedding:
        r"""The same map for other items ``[J, d]`` with other interactions ``[V, J]``, such as
        those of a grown graph.
        """
        other = copy.copy(self)
        other._take(items, interactions)
        return other

    def _take(self, items: Tensor, interactions: Adjacency) -> None:
        degree = torch.bincount(interactions.col.long(), minlength=items.size(0)).clamp(min=1)
        self.items = items
        self._scaled = items / degree.to(items.dtype).sqrt().unsqueeze(1)

    def _inputs(self, histories: Adjacency) -> Tensor:
        count = histories.rowptr.diff().clamp(min=1).to(self.items.dtype).unsqueeze(1)
        return torch.cat(
            [(histories @ self._scaled) / count.sqrt(), (histories @ self.items) / count], dim=1
        )

    def parts(self, history: Tensor) -> Tensor:
        r"""What every item of one list ``[n]`` adds to the embedding of its user: ``[n, d]``, whose
        sum it is.
        """
        count = history.numel()
        inputs = torch.cat([self._scaled[history] / count**0.5, self.items[history] / count], dim=1)
        return inputs @ self.weight

    def __call__(self, histories: Adjacency) -> Tensor:
        r"""Embeddings ``[B, d]`` of the rows of a matrix ``[B, I]`` without values."""
        return self._inputs(histories) @ self.weight
