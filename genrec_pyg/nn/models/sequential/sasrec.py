r"""SASRec: self-attention over the history."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.models.sequential.windows import WindowRecommender
from genrec_pyg.nn.sequence import CausalTransformer


class SASRec(WindowRecommender):
    r"""SASRec (Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018,
    https://arxiv.org/abs/1808.09781), with the user encoder of IDRec (Yuan et al., SIGIR 2023,
    https://arxiv.org/abs/2303.13835), see :class:`~genrec_pyg.nn.sequence.CausalTransformer`.
    Scores are inner products of the output at the newest item with item rows, which are the inputs
    too.

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities of a ``frozen`` item side; :obj:`None` takes all.
        hidden_channels: Width ``d``.
        history_length: Most inputs ``L`` of a window.
        num_layers: Number of attention blocks.
        num_heads: Number of attention heads.
        dropout: Dropout.
        loss: ``'bce'``, ``'inbatch'``, ``'sampled'`` or ``'softmax'``, see
            :class:`~genrec_pyg.nn.models.sequential.windows.WindowRecommender`.
        num_negatives: Negatives of ``'bce'`` (per target) and ``'sampled'`` (per batch).
        repeats: Whether a repeated interaction occurs in the history several times.
        item_side: Where item rows come from, see :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If the interactions have no time.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.nn import SASRec
        >>> log = {'user': [0, 0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 3, 1, 0, 2], 'time': range(7)}
        >>> data = from_table(log, split='leave-one-out')
        >>> SASRec(data, history_length=3, num_layers=1)
        SASRec(users=2, items=4, modalities=[none])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        history_length: int = 50,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.1,
        loss: str = 'bce',
        num_negatives: int = 1,
        repeats: bool = False,
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data,
            modalities,
            hidden_channels,
            history_length,
            loss,
            num_negatives,
            repeats,
            ItemSide.of(item_side),
        )
        self.encoder = CausalTransformer(
            hidden_channels, history_length, num_layers, num_heads, dropout
        )

    def encode(self, rows: Tensor, length: Tensor) -> Tensor:
        r"""Outputs of the transformer ``[B, S, d]``."""
        return self.encoder(rows, length)
