r"""The causal transformer of SASRec."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import Dropout, LayerNorm, Linear, Parameter
from torch.nn.functional import scaled_dot_product_attention

from genrec_pyg.exceptions import ConfigError

_EPS = 1e-6


class CausalTransformer(torch.nn.Module):
    r"""Attention of every position to itself and earlier ones, after SASRec (Kang and McAuley, ICDM
    2018, https://arxiv.org/abs/1808.09781) with the normalization after each sum, as the IDRec of
    Yuan et al. (SIGIR 2023, https://arxiv.org/abs/2303.13835) has it.

    .. math::
        \mathbf{z} &= \mathrm{Dropout}(\mathrm{LN}(\mathbf{e} + \mathbf{P})) \\
        \mathbf{z} &\leftarrow \mathrm{LN}(\mathbf{z}
        + \mathrm{Dropout}(\mathrm{MHA}(\mathbf{z}))) \\
        \mathbf{z} &\leftarrow \mathrm{LN}(\mathbf{z} + \mathrm{Dropout}(\mathrm{FFN}(\mathbf{z})))

    Sequences stand at the left of their rows, so that no real position sees padding through the
    causal mask; positions count from the end, whatever the length: the newest item has the last row
    of :math:`\mathbf{P}`, as in rows padded on the left.

    Args:
        channels: Width ``d``.
        num_positions: Longest sequence ``L``.
        num_layers: Number of blocks.
        num_heads: Number of attention heads.
        dropout: Dropout of input, attention weights, and both outputs.

    Raises:
        ConfigError: If a number is out of range or ``d`` no multiple of the number of heads.
    """

    def __init__(
        self,
        channels: int,
        num_positions: int,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        for name, value in (('num_layers', num_layers), ('num_heads', num_heads)):
            if value < 1:
                raise ConfigError(f'{name}: got {value}, accepted are integers from 1')
        if channels % num_heads != 0:
            raise ConfigError(
                f'num_heads: got {num_heads}, accepted are divisors of hidden_channels ({channels})'
            )
        if not 0 <= dropout < 1:
            raise ConfigError(f'dropout: got {dropout}, accepted are numbers from 0 to below 1')
        self.position = Parameter(torch.empty(num_positions, channels))
        self.norm = LayerNorm(channels, eps=_EPS)
        self.dropout = Dropout(dropout)
        self.blocks = torch.nn.ModuleList(
            _Block(channels, num_heads, dropout) for _ in range(num_layers)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws weights and positions, normal with variance 2 over the sum of both widths;
        biases become 0.
        """
        torch.nn.init.xavier_normal_(self.position)
        self.norm.reset_parameters()
        for block in self.blocks:
            block.reset_parameters()

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        r"""Outputs ``[B, S, d]`` for rows ``[B, S, d]`` of which the first ``length`` ``[B]`` are
        real; those of padding mean nothing. ``S`` is at most ``L``.
        """
        place = torch.arange(x.size(1), device=x.device)
        slot = (place + self.position.size(0) - length.unsqueeze(1)).clamp(
            max=self.position.size(0) - 1
        )
        x = self.dropout(self.norm(x + self.position[slot]))
        for block in self.blocks:
            x = block(x)
        return x


class _Block(torch.nn.Module):
    def __init__(self, channels: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(channels, 3 * channels, bias=False)
        self.out = Linear(channels, channels, bias=False)
        self.expand, self.contract = Linear(channels, 4 * channels), Linear(4 * channels, channels)
        self.attention_norm = LayerNorm(channels, eps=_EPS)
        self.output_norm = LayerNorm(channels, eps=_EPS)
        self.dropout = Dropout(dropout)

    def reset_parameters(self) -> None:
        channels = self.out.in_features
        # three maps of d to d, drawn together
        torch.nn.init.normal_(self.qkv.weight, std=math.sqrt(1 / channels))
        for layer in (self.out, self.expand, self.contract):
            torch.nn.init.xavier_normal_(layer.weight)
        for layer in (self.expand, self.contract):
            torch.nn.init.zeros_(layer.bias)
        self.attention_norm.reset_parameters()
        self.output_norm.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        size, length, channels = x.shape
        heads = self.qkv(x).view(size, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout.p if self.training else 0.0
        attended = scaled_dot_product_attention(*heads, dropout_p=dropout, is_causal=True)
        x = self.attention_norm(
            x + self.dropout(self.out(attended.transpose(1, 2).reshape(size, length, channels)))
        )
        return self.output_norm(x + self.dropout(self.contract(self.expand(x).relu())))
