r"""Fusion of several modality views of the same nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Identity, Linear

from genrec_pyg.nn.modality.encoder import make_norm, reset_linear


class FusedViews(NamedTuple):
    r"""Part shared by the modalities and what it was made from.

    Args:
        common: Shared part ``[n, d]``.
        views: View ``[n, d]`` of every modality.
        weight: Attention weights ``[M, n]``, summing to 1 over the modalities.
    """

    common: Tensor
    views: Sequence[Tensor]
    weight: Tensor

    def specific(self, index: int) -> Tensor:
        r"""What modality ``index`` has beyond the shared part, ``z_m - common`` ``[n, d]``."""
        return self.views[index] - self.common


class ModalityAttention(torch.nn.Module):
    r"""Attention over modalities per node
    (`GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_;
    `MGCN, ACM MM 2023 <https://arxiv.org/abs/2308.03588>`_, the same without batch normalization).

    .. math::
        \alpha_m = \mathrm{softmax}_m \left( \mathbf{v}^{\top} \tanh(\mathrm{BN}(\mathbf{W}
        \mathbf{z}_m + \mathbf{b})) \right), \qquad \mathrm{common} = \sum_m \alpha_m \mathbf{z}_m

    The module is shared by the modalities, so batch normalization takes its statistics over the
    rows of all of them together: statistics per modality would differ from the running ones that
    evaluation uses.

    Args:
        channels: Width ``d`` of the views.
        batch_norm: Whether there is the batch normalization.
        joint_norm: Whether its statistics are those of all modalities together, or of each by
            itself (released GenRec-V1, which never uses running ones).
    """

    def __init__(self, channels: int, batch_norm: bool = True, joint_norm: bool = True):
        super().__init__()
        self.joint_norm = joint_norm
        self.key = Linear(channels, channels)
        self.norm = make_norm(channels, batch_norm)
        self.query = Linear(channels, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights Xavier uniform, the rest as the framework's defaults."""
        reset_linear(self.key, self.norm)
        torch.nn.init.xavier_uniform_(self.query.weight)

    def forward(self, z: Tensor) -> FusedViews:
        r"""Fuses views ``[M, n, d]``. With one modality ``common`` is the view itself."""
        num_modalities, num_nodes, channels = z.shape
        views = z.unbind(0)
        if num_modalities == 1:
            return FusedViews(views[0], views, z.new_ones(1, num_nodes))
        blocks = z.reshape(-1, channels).chunk(1 if self.joint_norm else num_modalities)
        # tanh(x) = 2 sigmoid(2 x) - 1: the sigmoid takes a fraction of the time, and the constant
        # cancels in the softmax.
        key = torch.sigmoid(torch.cat([self._doubled_norm(self.key(block)) for block in blocks]))
        weight = (2 * self.query(key)).view(num_modalities, num_nodes).softmax(dim=0)
        common = weight[0].unsqueeze(1) * views[0]
        for share, view in zip(weight[1:], views[1:]):
            common = torch.addcmul(common, share.unsqueeze(1), view)
        return FusedViews(common, views, weight)

    def _doubled_norm(self, key: Tensor) -> Tensor:
        r"""Twice the normalized keys, without a pass of its own where there is a normalization."""
        if isinstance(self.norm, Identity):
            return 2 * key
        doubled = {name: 2 * parameter for name, parameter in self.norm.named_parameters()}
        return torch.func.functional_call(self.norm, doubled, key)
