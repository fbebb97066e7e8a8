r"""GRU4Rec: a recurrent network over the history."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.nn import GRU, Dropout, Linear
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.models.sequential.windows import WindowRecommender
from genrec_pyg.utils.validation import check_range


class GRU4Rec(WindowRecommender):
    r"""GRU4Rec (Hidasi, Karatzoglou, Baltrunas and Tikk, "Session-based Recommendations with
    Recurrent Neural Networks", ICLR 2016, https://arxiv.org/abs/1511.06939) over the history of a
    user: gated recurrent units read the item rows, and a linear map of their state is scored
    against item rows.

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities of a ``frozen`` item side; :obj:`None` takes all.
        hidden_channels: Width ``d`` of rows and state.
        history_length: Most inputs ``L`` of a window.
        num_layers: Number of recurrent layers.
        dropout: Dropout of the inputs.
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
        >>> from genrec_pyg.nn import GRU4Rec
        >>> log = {'user': [0, 0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 3, 1, 0, 2], 'time': range(7)}
        >>> data = from_table(log, split='leave-one-out')
        >>> GRU4Rec(data, history_length=3)
        GRU4Rec(users=2, items=4, modalities=[none])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        history_length: int = 50,
        num_layers: int = 1,
        dropout: float = 0.1,
        loss: str = 'softmax',
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
        check_range('num_layers', num_layers, 1)
        check_range('dropout', dropout, 0, 0.99)
        self.dropout = Dropout(dropout)
        self.gru = GRU(hidden_channels, hidden_channels, num_layers, batch_first=True)
        self.output = Linear(hidden_channels, hidden_channels)

    def encode(self, rows: Tensor, length: Tensor) -> Tensor:
        r"""Mapped states ``[B, S, d]``; padding comes last and reaches no real state."""
        return self.output(self.gru(self.dropout(rows))[0])
