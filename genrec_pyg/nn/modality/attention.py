r"""Fusion of several modality views of the same nodes."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Linear

from genrec_pyg.nn.modality.encoder import make_norm, reset_linear


class FusedViews(NamedTuple):
    r"""Part shared by the modalities and part specific to each.

    Args:
        common: Shared part ``[n, d]``.
        residual: Modality-specific parts ``z_m - common``, ``[M, n, d]``.
        weight: Attention weights ``[M, n]``, summing to 1 over the modalities.
    """
    common: Tensor
    residual: Tensor
    weight: Tensor


class ModalityAttention(torch.nn.Module):
    r"""Attention over modalities per node (`GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_;
    `MGCN, ACM MM 2023 <https://arxiv.org/abs/2308.03588>`_, the same without batch normalization).

    .. math::
        \alpha_m = \mathrm{softmax}_m \left( \mathbf{v}^{\top} \tanh(\mathrm{BN}(\mathbf{W} \mathbf{z}_m + \mathbf{b}))
        \right), \qquad \mathrm{common} = \sum_m \alpha_m \mathbf{z}_m

    The module is shared by the modalities, so batch normalization takes its statistics over the rows of all of them
    together: statistics per modality would differ from the running ones that evaluation uses.

    Args:
        channels: Width ``d`` of the views.
        batch_norm: Whether there is the batch normalization.
        joint_norm: Whether its statistics are those of all modalities together, or of each by itself (released GenRec-V1,
            which never uses running ones).
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
        r"""Fuses views ``[M, n, d]``. With one modality ``common`` is the view itself and the residual is zero."""
        num_modalities, num_nodes, channels = z.shape
        if num_modalities == 1:
            return FusedViews(z[0], torch.zeros_like(z), z.new_ones(1, num_nodes))
        blocks = z.reshape(-1, channels).chunk(1 if self.joint_norm else num_modalities)
        key = torch.tanh(torch.cat([self.norm(self.key(block)) for block in blocks]))
        weight = self.query(key).view(num_modalities, num_nodes).softmax(dim=0)
        common = (weight.unsqueeze(-1) * z).sum(dim=0)
        return FusedViews(common, z - common, weight)
