r"""Several interests per user, one for each group of items that a user has, and how they learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.nn.losses import NO_CANDIDATE, in_row_blocks, sampled_softmax
from genrec_pyg.nn.sequence.interests import InterestSelection
from genrec_pyg.ops import Adjacency, spmm, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Selections that need no draw of their own: the loss is the mean over it.
SELECTIONS = ('hard', 'p', 'l', 'uniform')


@dataclass(frozen=True)
class UserInterestsConfig:
    r"""Several interests per user, see :class:`UserInterests`.

    Args:
        count: Interests ``K``; 1 is one embedding per user.
        selection: Which interest learns from a target, see
            :class:`~genrec_pyg.nn.sequence.InterestSelection`: ``'hard'``, ``'p'``, ``'l'`` or
            ``'uniform'``.
        tau: Softness of the selection; 0 is uniform, large is hard.
        multi_loss: Whether the multi-interest loss is added.
    """

    count: int = 1
    selection: str = 'p'
    tau: float = 1.0
    multi_loss: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise ConfigError(f'count: got {self.count!r}, accepted are integers from 1')
        check_choice('selection', self.selection, SELECTIONS)
        check_range('tau', self.tau, 0)


class UserInterests(GraphModule):
    r"""Interests of a user by the clusters of the items that the user has, trained with balanced
    selection (BaM: Lee, Yun and Kang, IEEE BigData 2024, https://github.com/snudatalab/BaM).

    With :math:`\hat{\mathbf{x}}` a row divided by its length, :math:`\mathbf{z}_u` and
    :math:`\mathbf{z}_i` the embeddings of users and items, and :math:`C_k` the items of cluster
    ``k``,

    .. math::
        \mathbf{m}_{uk} = \widehat{\hat{\mathbf{z}}_u + g \,
        \widehat{\sum_{i \in N(u) \cap C_k} \hat{\mathbf{z}}_i}}, \qquad
        s_{ui} = \max_k \mathbf{m}_{uk} \cdot \hat{\mathbf{z}}_i

    with a learned number ``g``. A user has the interests of the clusters of own items; one without
    any has :math:`\hat{\mathbf{z}}_u` alone. In training a target is left out of the sum of its
    cluster, which would else contain the answer. The loss is the softmax of the target among the
    negatives under every interest, weighted by its share in the selection (the expectation of the
    draw of BaM), and with ``multi_loss`` that of the log-sum-exp over the interests.

    Args:
        labels: Cluster of every item ``[I]``, -1 for none.
        edge_index: Training interactions ``[2, E]``.
        num_users: Number of users ``U``.
        channels: Width ``d``.
        config: Settings.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.interest import UserInterests, UserInterestsConfig
        >>> labels, edge_index = torch.tensor([0, 1]), torch.tensor([[0, 0], [0, 1]])
        >>> interests = UserInterests(labels, edge_index, 1, 2, UserInterestsConfig(count=2))
        >>> interests(torch.tensor([[1.0, 1.0]]), torch.eye(2)).detach()
        tensor([[[0.9239, 0.3827],
                 [0.3827, 0.9239]]])
    """

    def __init__(
        self,
        labels: Tensor,
        edge_index: Tensor,
        num_users: int,
        channels: int,
        config: UserInterestsConfig,
    ):
        super().__init__()
        self.count, self.labels = config.count, labels
        user, item = edge_index[0], edge_index[1]
        known = labels[item] >= 0
        row = (user * config.count + labels[item])[known]
        # row u K + k holds the items of user u in cluster k
        self.members = Adjacency.from_edge_index(
            torch.stack([row, item[known]]), size=(num_users * config.count, labels.numel())
        )
        self.selection = InterestSelection(config.selection, channels, config.tau)
        self.multi_loss = config.multi_loss
        self.gain = Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""The number ``g`` 1, maps of the selection drawn again."""
        torch.nn.init.ones_(self.gain)
        self.selection.reset_parameters()

    @property
    def num_members(self) -> Tensor:
        r"""Items ``[U, K]`` of every user in every cluster."""
        return self.members.rowptr.diff().view(-1, self.count).long()

    def sums(self, items: Tensor) -> Tensor:
        r"""Sums ``[U, K d]`` of the rows ``[I, d]``, of length 1, of a user's items by cluster."""
        return spmm(self.members, items).view(-1, self.count * items.size(1))

    def combine(self, users: Tensor, sums: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        r"""Interests ``[B, K, d]`` of length 1 and which of them there are ``[B, K]``; in place of
        those that a user does not have stands the user's embedding.

        Args:
            users: Rows of users ``[B, d]``.
            sums: Sums of their items by cluster ``[B, K d]``.
            number: Items in these ``[B, K]``.
        """
        there, width = number > 0, users.size(1)
        # what is left of a sum without its only item is rounding
        sums = torch.where(there.view(-1, 1), sums.view(-1, width), 0)
        users = unit_rows(users).repeat_interleave(self.count, dim=0)
        interests = unit_rows(users + self.gain * unit_rows(sums)).view(-1, self.count, width)
        nobody = ~there.any(dim=1, keepdim=True)
        first = torch.arange(self.count, device=there.device) == 0
        return interests, there | (nobody & first)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        r"""Interests ``[U, K, d]`` of all users; in place of those that a user does not have stands
        the first of the user's own.

        Args:
            users: Embeddings ``[U, d]``.
            items: Embeddings ``[I, d]``, of length 1.
        """
        interests, there = self.combine(users, self.sums(items), self.num_members)
        own = there.long().argmax(dim=1)
        first = interests[torch.arange(own.numel(), device=own.device), own]
        return torch.where(there.unsqueeze(2), interests, first.unsqueeze(1))

    def loss(
        self,
        user: Tensor,
        users: Tensor,
        sums: Tensor,
        item: Tensor,
        target: Tensor,
        negative: Tensor,
        temperature: float,
    ) -> dict[str, Tensor]:
        r"""Terms ``softmax`` and, where it is on, ``multi_interest`` of a batch.

        Args:
            user: Users ``[B]``.
            users: Their embeddings ``[B, d]``.
            sums: Sums of their items by cluster ``[B, K d]``.
            item: Their targets ``[B]``, training interactions.
            target: Rows of these ``[B, d]``, of length 1.
            negative: Rows of negatives that the batch shares ``[n, d]``, of length 1.
            temperature: Temperature of the softmax.
        """
        cluster, number = self.labels[item], self.num_members[user]
        own = torch.arange(self.count, device=cluster.device) == cluster.unsqueeze(1)
        rest = sums.view(-1, self.count, target.size(1)) - own.unsqueeze(2) * target.unsqueeze(1)
        interests, there = self.combine(users, rest.flatten(1), number - own.long())
        scaled = interests / temperature
        share = self.selection.shares(scaled, target, there)

        def losses(scaled: Tensor, target: Tensor, share: Tensor, there: Tensor) -> Tensor:
            positive = (scaled @ target.unsqueeze(2)).squeeze(2)
            others = scaled @ negative.t()
            single = (share * sampled_softmax(positive, others)).sum(dim=1)
            if not self.multi_loss:
                return single.unsqueeze(1)
            positive = positive.masked_fill(~there, NO_CANDIDATE).logsumexp(dim=1)
            others = others.masked_fill(~there.unsqueeze(2), NO_CANDIDATE).logsumexp(dim=1)
            return torch.stack([single, sampled_softmax(positive, others)], dim=1)

        found = in_row_blocks(losses, (scaled, target, share, there), self.count * negative.size(0))
        return dict(zip(('softmax', 'multi_interest'), found.mean(dim=0)))
