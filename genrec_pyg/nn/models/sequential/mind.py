r"""MIND: interests by dynamic routing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.sequential.multi_interest import MultiInterestRecommender
from genrec_pyg.nn.sequence import DynamicRouting


class MIND(MultiInterestRecommender):
    r"""MIND (Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall",
    CIKM 2019, https://arxiv.org/abs/1904.08030) without user features, see
    :class:`~genrec_pyg.nn.sequence.DynamicRouting`. The label-aware attention of the paper is
    ``selection='label_aware'``; its power taken to infinity, which the paper found best, is
    ``'hard'``, the default.

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities of a ``frozen`` item side; :obj:`None` takes all.
        routing_rounds: Rounds of routing.
        routing_axis: ``'interest'``, as the paper means it, or ``'position'``, as REMI and BaM
            compute it; :obj:`None` is ``'position'`` in the released variant only.
        routing_renormalize: Whether padding takes no share under ``'position'``; :obj:`None` is
            :obj:`False` in the released variant only.
        routing_std: Standard deviation of the noise that logits start from.
        relu_layer: Whether a layer with ReLU follows the routing.
        adaptive_interests: Whether a user with ``n`` items has
            :math:`\max(1, \min(K, \lfloor \log_2 n \rfloor))` interests.
        variant: ``'principled'`` or ``'released'``.
        **kwargs: Arguments of
            :class:`~genrec_pyg.nn.models.sequential.multi_interest.MultiInterestRecommender`.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If the interactions have no time.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.nn import MIND
        >>> log = {'user': [0, 0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 3, 1, 0, 2], 'time': range(7)}
        >>> data = from_table(log, split='leave-one-out')
        >>> MIND(data, history_length=3, num_interests=2)
        MIND(users=2, items=4, modalities=[none])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        routing_rounds: int = 3,
        routing_axis: str | None = None,
        routing_renormalize: bool | None = None,
        routing_std: float = 1.0,
        relu_layer: bool = False,
        adaptive_interests: bool = False,
        variant: str = 'principled',
        **kwargs: Any,
    ):
        super().__init__(data, modalities, variant=variant, **kwargs)
        if routing_axis is None:
            routing_axis = 'position' if variant == 'released' else 'interest'
        if routing_renormalize is None:
            routing_renormalize = variant != 'released'
        self.adaptive_interests = adaptive_interests
        self.extractor = DynamicRouting(
            self.hidden_channels,
            self.num_interests,
            self.history_length,
            routing_rounds,
            routing_axis,
            routing_renormalize,
            routing_std,
            relu_layer,
        )

    def valid_interests(self, length: Tensor) -> Tensor | None:
        r"""The first interests, as many as the logarithm of the history allows."""
        if not self.adaptive_interests:
            return None
        count = (length.clamp(min=1).double().log2() + 1e-9).floor().clamp(1, self.num_interests)
        return torch.arange(self.num_interests, device=length.device) < count.unsqueeze(1)
