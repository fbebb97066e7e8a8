r"""ComiRec: interests by self-attention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import SequenceBatch
from genrec_pyg.nn.models.sequential.multi_interest import MultiInterestRecommender
from genrec_pyg.nn.sequence import SelfAttentiveInterests, routing_penalty
from genrec_pyg.utils.validation import check_choice, check_range


class ComiRecSA(MultiInterestRecommender):
    r"""ComiRec-SA (Cen, Zhang, Zou, Zhou, Yang and Tang, "Controllable Multi-Interest Framework for
    Recommendation", KDD 2020, https://arxiv.org/abs/2005.09347), see
    :class:`~genrec_pyg.nn.sequence.SelfAttentiveInterests`.

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities of a ``frozen`` item side; :obj:`None` takes all.
        routing_weight: Weight of :func:`~genrec_pyg.nn.sequence.routing_penalty`.
        routing_scope: Positions that count in it: ``'real'``, or ``'window'``, padding too, as
            released; :obj:`None` is what ``variant`` says.
        variant: ``'principled'`` or ``'released'``.
        **kwargs: Arguments of
            :class:`~genrec_pyg.nn.models.sequential.multi_interest.MultiInterestRecommender`.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If the interactions have no time.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.nn import ComiRecSA
        >>> log = {'user': [0, 0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 3, 1, 0, 2], 'time': range(7)}
        >>> data = from_table(log, split='leave-one-out')
        >>> ComiRecSA(data, history_length=3, selection='p', multi_loss=True)
        ComiRecSA(users=2, items=4, modalities=[none])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        routing_weight: float = 0.0,
        routing_scope: str | None = None,
        variant: str = 'principled',
        **kwargs: Any,
    ):
        super().__init__(data, modalities, variant=variant, **kwargs)
        if routing_scope is None:
            routing_scope = 'window' if variant == 'released' else 'real'
        check_range('routing_weight', routing_weight, 0)
        check_choice('routing_scope', routing_scope, ('real', 'window'))
        self.routing_weight, self.routing_scope = routing_weight, routing_scope
        self.extractor = SelfAttentiveInterests(
            self.hidden_channels, self.num_interests, self.history_length
        )

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        r"""Terms ``single``, ``multi`` and ``routing``, as far as they are on."""
        with self.rows_of_batch(batch):
            interests, attention = self.interests(batch.history, batch.length)
            terms = self.ranking_terms(batch, interests)
        if self.routing_weight > 0:
            mask = batch.history < self.num_items if self.routing_scope == 'real' else None
            terms['routing'] = self.routing_weight * routing_penalty(
                attention, self.hidden_channels, mask
            )
        return terms
