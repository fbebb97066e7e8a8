r"""Batch normalization with the statistics of the rows of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genrec_pyg.distributed.collectives import Group


class SharedBatchNorm(torch.autograd.Function):
    r"""Normalizes own rows by mean and variance over the rows of all processes.

    Forward sends ``2 d + 1`` numbers to every process, backward ``2 d``. Gradients of weight and
    bias are those of the own rows. (:class:`torch.nn.SyncBatchNorm` refuses the CPU.)

    Args:
        x: Own rows ``[n, d]``.
        weight: Factors ``[d]``.
        bias: Summands ``[d]``.
        eps: Added to the variance.
        group: The processes.

    Returns:
        Rows ``[n, d]``, and without gradient the mean ``[d]``, the variance ``[d]`` and the number
        of rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, group: Group
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.double()
        sums = group.sum(
            torch.cat([wide.sum(dim=0), wide.square().sum(dim=0), wide.new_tensor([x.size(0)])])
        )
        count = sums[-1]
        mean, square = (sums[:-1] / count.clamp(min=1)).chunk(2)
        variance = (square - mean.square()).clamp(min=0).to(x.dtype)
        mean = mean.to(x.dtype)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.group = group
        ctx.mark_non_differentiable(mean, variance, count)
        return torch.addcmul(bias - mean * scale * weight, x, scale * weight), mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        total = grad.sum(dim=0)
        # inner products with the normalized rows
        aligned = ((grad * x).sum(dim=0) - mean * total) * scale
        all_total, all_aligned = (
            (ctx.group.sum(torch.cat([total, aligned])) / count).to(x.dtype).chunk(2)
        )
        factor = scale * weight
        slope = -factor * all_aligned * scale
        grad_x = torch.addcmul(-factor * all_total - slope * mean, x, slope).addcmul_(
            grad, factor.expand_as(grad)
        )
        return grad_x, aligned, total, None, None


def shared_batch_norm(module: torch.nn.BatchNorm1d, x: Tensor, group: Group) -> Tensor:
    r"""As ``module(x)`` in training, with the statistics of the rows of all processes of ``group``;
    one row in all is normalized by the running statistics and does not change them.
    """
    out, mean, variance, count = SharedBatchNorm.apply(
        x, module.weight, module.bias, module.eps, group
    )
    count = float(count)
    if count <= 1:
        return torch.nn.functional.batch_norm(
            x, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps
        )
    with torch.no_grad():
        module.num_batches_tracked.add_(1)
        share = (
            1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
        )
        module.running_mean.lerp_(mean.to(module.running_mean), share)
        module.running_var.lerp_((variance * (count / (count - 1))).to(module.running_var), share)
    return out
