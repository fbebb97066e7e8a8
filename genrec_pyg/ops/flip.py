r"""Sampling of flipped binary rows."""
from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

#: Above this share of flipped zeros a dense draw is cheaper than drawing positions.
_DENSE_SHARE = 0.1


def released_flip_probability(alpha_bar: Tensor, kappa: float) -> Tensor:
    r"""Flip probability of the released GenRec-V1 with its inner uniform noise integrated out (specification section 5).

    .. math::
        q(\bar\alpha, \kappa) = \frac{\mathrm{softplus}(\kappa \bar\alpha) - \mathrm{softplus}(\kappa (\bar\alpha - 1))}
        {\kappa}

    One Bernoulli draw with :math:`q` has exactly the law of the released two draws. For :math:`\kappa \to \infty` it tends to
    :math:`\bar\alpha`.

    Args:
        alpha_bar: Cumulative flip rates, any shape; computed in float64.
        kappa: Temperature, positive.
    """
    alpha = alpha_bar.double()
    return ((F.softplus(kappa * alpha) - F.softplus(kappa * (alpha - 1))) / kappa).clamp(0, 1)


def flip_dense(x: Tensor, p01: Tensor, p10: Tensor, generator: Optional[torch.Generator] = None) -> Tensor:
    r"""Flips every entry of ``x`` ``[B, I]``: zeros with probability ``p01`` ``[B]``, ones with ``p10`` ``[B]``."""
    probability = torch.where(x > 0, 1 - p10.unsqueeze(1), p01.unsqueeze(1)).to(x.dtype)
    return torch.bernoulli(probability, generator=generator)


def sample_flips(rowptr: Tensor, col: Tensor, num_cols: int, p01: Tensor, p10: Tensor,
                 generator: Optional[torch.Generator] = None) -> tuple[Tensor, Tensor]:
    r"""Flips binary rows in sparse form: exactly the law of :func:`flip_dense`, at the cost of the ones before and after.

    Ones survive independently. The number of zeros that flip is binomial per row; their positions are drawn uniformly among
    the zeros, without repetition. Rows of which more than a tenth would flip are drawn densely.

    Args:
        rowptr: Row offsets ``[B + 1]``.
        col: Columns of the ones, ascending within a row.
        num_cols: Number of columns ``I``.
        p01: Probability of 0 to 1 per row ``[B]``.
        p10: Probability of 1 to 0 per row ``[B]``.
        generator: Random generator; the device's global one by default.

    Returns:
        ``(rowptr, col)`` of the flipped rows, int64, columns ascending within a row.
    """
    device = col.device
    count = rowptr.diff().long()
    row = torch.repeat_interleave(count, output_size=col.numel())
    key = row * num_cols + col.long()
    if p01.numel() and float(p01.max()) > _DENSE_SHARE:
        x = torch.zeros(count.numel(), num_cols, device=device)
        x.view(-1)[key] = 1
        flipped = flip_dense(x, p01, p10, generator).view(-1).nonzero().view(-1)
        return _compress(flipped, count.numel(), num_cols)
    survives = torch.rand(col.numel(), device=device, generator=generator) >= p10[row]
    wanted = torch.binomial((num_cols - count).to(p01.dtype), p01, generator=generator).long()
    added = key.new_empty(0)
    missing = wanted
    while int(missing.sum()) > 0:
        row_new = torch.repeat_interleave(missing)
        candidate = row_new * num_cols + torch.randint(num_cols, row_new.shape, device=device, generator=generator)
        candidate = candidate[~torch.isin(candidate, key) & ~torch.isin(candidate, added)]
        # A value drawn twice in one round counts once; which of the equal draws survives does not matter.
        added = torch.cat([added, torch.unique(candidate)])
        missing = wanted - torch.bincount(added // num_cols, minlength=count.numel())
    return _compress(torch.cat([key[survives], added]).sort().values, count.numel(), num_cols)


def _compress(key: Tensor, num_rows: int, num_cols: int) -> tuple[Tensor, Tensor]:
    count = torch.bincount(key // num_cols, minlength=num_rows)
    return torch.cat([count.new_zeros(1), count.cumsum(0)]), key % num_cols
