r"""The network of a sequence model as ONNX, for
:class:`~genrec_pyg.serving.history_encoder.EncodedHistory`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.nn.models.sequential.sequence_recommender import SequenceRecommender


class _GivenRows(torch.nn.Module):
    r"""An item side whose rows are an input."""

    def __init__(self) -> None:
        super().__init__()
        self.given: Tensor | None = None

    def rows(self, item: Tensor) -> Tensor:
        r"""The rows that are given, whatever the items."""
        return self.given


class HistoryNetwork(torch.nn.Module):
    r"""The network of a model from item rows to an embedding, without its item side.

    Args:
        model: Trained model.
    """

    def __init__(self, model: SequenceRecommender):
        super().__init__()
        self.model = copy.copy(model)
        self.model._modules = {**model._modules, 'items': _GivenRows()}
        self.eval()

    def forward(self, rows: Tensor, history: Tensor, length: Tensor) -> Tensor:
        r"""Embeddings ``[1, d]`` or ``[1, K, d]`` of rows ``[1, S, d]`` of items ``[1, S]`` of
        which ``length`` ``[1]`` are real.
        """
        self.model.items.given = rows
        try:
            return self.model.encode_users(history, length)
        finally:  # what is assigned does not outlive a trace
            self.model.items.given = None


def history_program(model: SequenceRecommender) -> Callable[[Path], Any]:
    r"""What writes the network of a model.

    Args:
        model: Trained model.
    """
    size, channels = model.history_length, model.embeddings()[1].size(1)
    inputs = (
        torch.randn(1, size, channels),
        torch.arange(size).view(1, -1) % model.num_items,
        torch.tensor([size]),
    )

    def write(path: Path) -> None:
        with torch.no_grad():
            found = torch.onnx.export(
                HistoryNetwork(copy.deepcopy(model).cpu()).eval(),
                inputs,
                dynamo=True,
                input_names=('rows', 'history', 'length'),
                output_names=('embedding',),
                verbose=False,
            )
        found.save(path, external_data=False)

    return write
