r"""Settings of the ranking and the contrastive terms of a loss."""

from __future__ import annotations

from dataclasses import dataclass

from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted ranking losses.
RANKING_LOSSES = ('softmax', 'bpr')


@dataclass(frozen=True)
class RankingConfig:
    r"""Ranking term of a loss.

    Args:
        loss: ``'softmax'`` over cosine scores of negatives that a batch shares, or ``'bpr'``.
        temperature: Temperature of the softmax.
        num_negatives: Negatives that a batch shares, at most its size.
    """

    loss: str = 'softmax'
    temperature: float = 0.2
    num_negatives: int = 512

    def __post_init__(self) -> None:
        check_choice('loss', self.loss, RANKING_LOSSES)
        check_range('temperature', self.temperature, 0, open_low=True)
        check_range('num_negatives', self.num_negatives, 1)


@dataclass(frozen=True)
class ContrastConfig:
    r"""Contrastive terms between the content, the side and the final embeddings of a batch.

    Args:
        view_weight: Weight :math:`\lambda_1` of side against content, users and items; 0 for none.
        pair_weight: Weight :math:`\lambda_2` of users against both views of their items; 0 for
            none.
        temperature: Temperature of these terms.
        group_size: Rows that are contrasted with one another. A larger batch is cut into groups of
            about this size, so that the cost stays linear in the batch; by default the batch of the
            paper.
    """

    view_weight: float = 0.1
    pair_weight: float = 0.1
    temperature: float = 0.5
    group_size: int = 1024

    def __post_init__(self) -> None:
        check_range('view_weight', self.view_weight, 0)
        check_range('pair_weight', self.pair_weight, 0)
        check_range('temperature', self.temperature, 0, open_low=True)
        check_range('group_size', self.group_size, 1)
