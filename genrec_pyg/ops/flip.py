r"""Sampling of flipped binary rows."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.backends import prefers_triton, triton_kernels
from genrec_pyg.ops.negative import absent_item, absent_order, uniform_rank

#: Above this share of flipped zeros a dense draw is cheaper than drawing positions.
_DENSE_SHARE = 0.1

#: Entries per block of dense draws.
_DENSE_ENTRIES = 1 << 24


def released_flip_probability(alpha_bar: Tensor, kappa: float) -> Tensor:
    r"""Flip probability of the released GenRec-V1 with its inner uniform noise integrated out
    (`He et al., ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_).

    .. math::
        q(\bar\alpha, \kappa) = \frac{\mathrm{softplus}(\kappa \bar\alpha)
        - \mathrm{softplus}(\kappa (\bar\alpha - 1))} {\kappa}

    One Bernoulli draw with :math:`q` has exactly the law of the released two draws. For
    :math:`\kappa \to \infty` it tends to :math:`\bar\alpha`.

    Args:
        alpha_bar: Cumulative flip rates, any shape.
        kappa: Temperature, positive; infinity gives the limit.

    Returns:
        Probabilities, float64.

    Raises:
        ConfigError: If ``kappa`` is not positive.
    """
    if not kappa > 0:
        raise ConfigError(f'kappa: got {kappa}, accepted are positive numbers')
    alpha = alpha_bar.double()
    if kappa == float('inf'):
        return alpha
    zero = alpha.new_zeros(())
    # softplus(x) = log(e^x + e^0), which unlike torch's softplus has no linear regime.
    difference = torch.logaddexp(kappa * alpha, zero) - torch.logaddexp(kappa * (alpha - 1), zero)
    return (difference / kappa).clamp(0, 1)


def flip_dense(
    x: Tensor, p01: Tensor, p10: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Flips every entry of ``x`` ``[B, I]``: zeros with probability ``p01`` ``[B]``, ones with
    ``p10`` ``[B]``.
    """
    if prefers_triton(x):
        return triton_kernels().flip_dense(x, p01, p10, generator)
    one = torch.where(x > 0, 1 - p10.unsqueeze(1), p01.unsqueeze(1))
    return torch.bernoulli(one, generator=generator).to(x.dtype)


def sample_flips(
    rowptr: Tensor,
    col: Tensor,
    num_cols: int,
    p01: Tensor,
    p10: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Flips binary rows in sparse form: exactly the law of :func:`flip_dense`, at the cost of the
    ones before and after.

    Ones survive independently. The number of zeros that flip is binomial per row, and their
    positions are uniform ranks among the zeros, drawn again while they repeat, so every subset of
    that size is equally likely. Rows of which more than a tenth would flip are drawn densely, in
    blocks of rows. Kernels in Triton draw every entry, which costs them less than sorting.

    Args:
        rowptr: Row offsets ``[B + 1]``.
        col: Columns of the ones, ascending within a row.
        num_cols: Number of columns ``I``.
        p01: Probability of 0 to 1 per row ``[B]``.
        p10: Probability of 1 to 0 per row ``[B]``.
        generator: Random generator; the device's global one by default.

    Returns:
        ``(rowptr, col)`` of the flipped rows, int64, columns ascending within a row.

    Raises:
        ConfigError: If a probability is outside ``[0, 1]`` or there is not one per row.
    """
    rowptr, col = rowptr.long(), col.long()
    num_rows = rowptr.numel() - 1
    rates = {'p01': p01, 'p10': p10}
    for name, probability in rates.items():
        if probability.shape != (num_rows,):
            raise ConfigError(
                f'{name}: got shape {tuple(probability.shape)}, accepted is one probability per '
                f'row, ({num_rows},)'
            )
    valid = torch.stack(
        [((probability >= 0) & (probability <= 1)).all() for probability in rates.values()]
    )
    if not bool(valid.all()):  # both at once: on a GPU every look waits for the device
        name = next(name for name, is_valid in zip(rates, valid.tolist()) if not is_valid)
        raise ConfigError(
            f'{name}: got {float(rates[name].min())} to {float(rates[name].max())}, accepted are '
            f'probabilities from 0 to 1'
        )
    if prefers_triton(col):
        return triton_kernels().sample_flips(rowptr, col, num_cols, p01, p10, generator)
    row = torch.repeat_interleave(rowptr.diff(), output_size=col.numel())
    dense = p01 > _DENSE_SHARE
    survives = torch.rand(col.numel(), device=col.device, generator=generator) >= p10[row]
    survives &= ~dense[row]
    parts = [row[survives] * num_cols + col[survives]]
    parts.append(_added(rowptr, col, num_cols, p01.masked_fill(dense, 0), generator))
    for block in dense.nonzero().view(-1).split(max(_DENSE_ENTRIES // max(num_cols, 1), 1)):
        place = torch.full((num_rows,), -1, device=col.device)
        place[block] = torch.arange(block.numel(), device=col.device)
        inside = place[row] >= 0
        x = torch.zeros(block.numel(), num_cols, device=col.device)
        x[place[row[inside]], col[inside]] = 1
        flipped_row, flipped_col = (
            flip_dense(x, p01[block], p10[block], generator).nonzero().unbind(1)
        )
        parts.append(block[flipped_row] * num_cols + flipped_col)
    key = torch.cat(parts).sort().values
    count = torch.bincount(key // max(num_cols, 1), minlength=num_rows)
    return torch.cat([count.new_zeros(1), count.cumsum(0)]), key % max(num_cols, 1)


def _added(
    rowptr: Tensor, col: Tensor, num_cols: int, p01: Tensor, generator: torch.Generator | None
) -> Tensor:
    r"""Keys ``row * num_cols + column`` of the zeros that become ones."""
    free = num_cols - rowptr.diff()
    wanted = torch.binomial(free.double(), p01.double(), generator=generator).long()
    key, missing = rowptr.new_empty(0), wanted
    while int(missing.sum()) > 0:
        row = torch.repeat_interleave(missing)
        draw = row * num_cols + uniform_rank(free[row], generator)
        key = torch.unique(torch.cat([key, draw]))
        missing = wanted - torch.bincount(key // num_cols, minlength=free.numel())
    row, rank = key // max(num_cols, 1), key % max(num_cols, 1)
    return row * num_cols + absent_item(
        row, rank, rowptr, absent_order(rowptr, col, num_cols), num_cols
    )
