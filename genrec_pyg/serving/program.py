r"""Programs of a bundle: from users or histories to lists, as ``torch.export`` and ONNX have
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrec_pyg.serving.program_scores import Scores, Unsupported

FORMATS = ('torch', 'onnx')
_ROLES = {'torch': 'program', 'onnx': 'onnx'}


class UserLists(torch.nn.Module):
    r"""Lists of users ``user`` ``[B]`` without the items ``left_out`` ``[B, n]``, which are padded
    with ``I``.
    """

    def __init__(self, scores: Scores, k: int):
        super().__init__()
        self.scores, self.k = scores, k

    def forward(self, user: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor]:
        r"""Scores and items ``[B, k]``; minus infinity is no item."""
        return _top(self.scores.of_users(user), left_out, self.k)


class HistoryLists(torch.nn.Module):
    r"""Lists of histories ``history`` ``[B, n]``, distinct items padded with ``I``, without
    these.
    """

    def __init__(self, scores: Scores, k: int):
        super().__init__()
        self.scores, self.k = scores, k

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        r"""Scores and items ``[B, k]``; minus infinity is no item."""
        return _top(self.scores.of_histories(history), history, self.k)


def make_programs(
    manifest: Mapping[str, Any], tables: Mapping[str, np.ndarray], formats: Sequence[str], k: int
) -> tuple[dict[str, Callable[[Path], Any]], dict[str, str]]:
    r"""What writes the programs of a bundle.

    Args:
        manifest: Its manifest, without files.
        tables: Its tables.
        formats: Some of :data:`FORMATS`.
        k: Items per list, at most as many as there are.

    Returns:
        Writers by role, and reasons by ``'user'`` or ``'history'`` where there is no program.
    """
    writers: dict[str, Callable[[Path], Any]] = {}
    unable: dict[str, str] = {}
    k, num_items = min(k, manifest['num_items']), manifest['num_items']
    for kind in ('user', 'history'):
        try:
            scores = Scores(manifest, tables, kind == 'user').eval()
        except Unsupported as error:
            unable[kind] = str(error)
            continue
        rows = torch.export.Dim('rows', min=1, max=1 << 16)
        length = torch.export.Dim('length', min=1, max=1 << 16)
        some = torch.arange(6).view(2, 3) % num_items
        if kind == 'user':
            module, inputs = UserLists(scores, k), (torch.arange(2) % manifest['num_users'], some)
            shapes: Any = {'user': {0: rows}, 'left_out': {0: rows, 1: length}}
        else:
            module = HistoryLists(scores, k)
            inputs = (some,)
            shapes = {'history': {0: rows, 1: length}}
        with torch.no_grad():
            program = torch.export.export(module, inputs, dynamic_shapes=shapes)
        for form in formats:
            writers[f'{_ROLES[form]}_{kind}'] = _writer(program, form)
    return writers, unable


def _writer(program: torch.export.ExportedProgram, form: str) -> Callable[[Path], Any]:
    if form == 'torch':
        return lambda path: torch.export.save(program, path)

    def write(path: Path) -> None:
        outputs = ('score', 'item')
        found = torch.onnx.export(program, dynamo=True, output_names=outputs, verbose=False)
        found.save(path, external_data=False)

    return write


def _top(scores: Tensor, left_out: Tensor, k: int) -> tuple[Tensor, Tensor]:
    blank = scores.new_zeros(scores.size(0), 1)  # takes what pads ``left_out``
    masked = torch.cat([scores, blank], dim=1).scatter(1, left_out, -torch.inf)
    score, item = masked[:, :-1].topk(k, dim=1)
    return score, item
