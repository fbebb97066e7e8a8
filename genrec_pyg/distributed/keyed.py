r"""Random draws that belong to positions: however rows are cut among processes, a row gets the same
ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec_pyg.utils.keyed import draw_key, mix

#: Rows that share a generator.
ROWS_PER_KEY = 1024


def keyed_dropout(x: Tensor, p: float, training: bool, first_row: int = 0) -> Tensor:
    r"""Dropout of rows ``[n, d]`` that are the rows from ``first_row`` on of a larger table.

    One number comes from torch's global generator of the CPU, all else from generators of blocks of
    :data:`ROWS_PER_KEY` rows of that table. While a CUDA graph is recorded the dropout is torch's
    own: a key would be frozen in it.

    Args:
        x: Rows.
        p: Probability of a zero.
        training: Whether anything is dropped.
        first_row: Place of the first row in the table.
    """
    if not training or p == 0:
        return x
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return F.dropout(x, p)
    key = draw_key()
    generator = torch.Generator(x.device)
    masks = []
    row, end = first_row, first_row + x.size(0)
    while row < end:
        block = row // ROWS_PER_KEY
        last = min(end, (block + 1) * ROWS_PER_KEY)
        generator.manual_seed(mix(key, block))
        begin = block * ROWS_PER_KEY
        mask = torch.empty(last - begin, *x.shape[1:], dtype=x.dtype, device=x.device)
        masks.append(mask.bernoulli_(1 - p, generator=generator)[row - begin :])
        row = last
    if not masks:
        return x
    return x * torch.cat(masks).div_(max(1 - p, torch.finfo(x.dtype).tiny))
