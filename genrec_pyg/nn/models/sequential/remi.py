r"""REMI: ComiRec-SA with hard negatives and regularized routing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.sequential.comirec import ComiRecSA


class REMI(ComiRecSA):
    r"""REMI (Xie, Gao, Zhou, Ye, Hua, Kim, Wu and Kim, "Rethinking Multi-Interest Learning for
    Candidate Matching in Recommender Systems", RecSys 2023,
    https://doi.org/10.1145/3604915.3608766): ComiRec-SA whose negatives weigh more the higher they
    score under the chosen interest, and whose attention is kept from resting on one item.

    The routing penalty is a sum over the batch while the loss is a mean, so its weight belongs to
    the batch size, which is 128 where it was published.

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities of a ``frozen`` item side; :obj:`None` takes all.
        beta: Weight of hard negatives.
        routing_weight: Weight of the routing penalty.
        **kwargs: Arguments of :class:`~genrec_pyg.nn.models.sequential.comirec.ComiRecSA`.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If the interactions have no time.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.nn import REMI
        >>> log = {'user': [0, 0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 3, 1, 0, 2], 'time': range(7)}
        >>> data = from_table(log, split='leave-one-out')
        >>> REMI(data, history_length=3, num_interests=2)
        REMI(users=2, items=4, modalities=[none])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        beta: float = 1.0,
        routing_weight: float = 100.0,
        **kwargs: Any,
    ):
        super().__init__(data, modalities, beta=beta, routing_weight=routing_weight, **kwargs)
