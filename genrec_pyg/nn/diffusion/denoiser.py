r"""Denoisers: from a noisy row of the user-item matrix and its step to logits of the clean row."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LayerNorm, Linear, Parameter

from genrec_pyg.nn.diffusion.objectives import Objective
from genrec_pyg.nn.diffusion.states import ItemViews, RowState, SparseRows, dense_rows, row_product
from genrec_pyg.nn.graph_module import GraphModule


def step_embedding(t: Tensor, channels: int) -> Tensor:
    r"""Sinusoidal embedding ``[B, channels]`` of steps ``[B]``: cosines, then sines of
    :math:`t \cdot 10000^{-2j / c}`.

    With 10 channels the exponents are :math:`-j/5`; an odd width is padded with zero.
    """
    half = channels // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=t.device) / half)
    angle = t.float().unsqueeze(1) * frequency
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=1), (0, channels - 2 * half))


class Denoiser(GraphModule):
    r"""Base class: logits of clean rows as inner products of row queries and item keys.

    The factorized form is what makes a prediction usable beyond generation: queries and keys append
    to user and item embeddings, and the same top-k search serves both.
    """

    #: Whether :meth:`InterestGenerator.fit <genrec_pyg.nn.diffusion.InterestGenerator.fit>` trains
    #: it by gradient.
    trainable: bool = True
    #: Objective that is built into the denoiser and overrides the generator's.
    objective: Objective | None = None

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        raise TypeError(f'{type(self).__name__} does not implement reset_parameters()')

    def query(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Queries ``[B, q]`` of noisy rows at the steps ``t`` ``[B]``."""
        raise TypeError(f'{type(self).__name__} does not implement query()')

    def keys(self, views: ItemViews) -> Tensor:
        r"""Keys ``[I, q]`` of the items."""
        raise TypeError(f'{type(self).__name__} does not implement keys()')

    def forward(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Logits ``[B, I]`` of the clean rows."""
        return self.query(state, t, views) @ self.keys(views).t()


class SingleTokenDecoderLayer(torch.nn.Module):
    r"""Exact simplification of a post-norm :class:`torch.nn.TransformerDecoderLayer` on one token
    and a zero memory.

    With one query and one key the attention weight is 1: self-attention is
    :math:`\mathbf{W}_o(\mathbf{W}_v \mathbf{h} + \mathbf{b}_v) + \mathbf{b}_o`, and cross-attention
    over a zero memory is :math:`\mathbf{W}_o \mathbf{b}_v + \mathbf{b}_o`. Query and key
    projections vanish; attention dropout is one Bernoulli draw per head and row.

    Args:
        channels: Width of the token.
        num_heads: Heads, relevant to attention dropout only.
        feedforward_channels: Width of the feed-forward layer.
        dropout: Dropout probability.
    """

    def __init__(
        self,
        channels: int = 512,
        num_heads: int = 8,
        feedforward_channels: int = 512,
        dropout: float = 0.2,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.self_value = Linear(channels, channels)
        self.self_output = Linear(channels, channels)
        self.cross_value_bias = Parameter(torch.empty(channels))
        self.cross_output = Linear(channels, channels)
        self.linear1 = Linear(channels, feedforward_channels)
        self.linear2 = Linear(feedforward_channels, channels)
        self.norms = torch.nn.ModuleList([LayerNorm(channels) for _ in range(3)])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Linear weights Xavier uniform with bias 0.01; value projections as in
        :class:`torch.nn.MultiheadAttention`, where the three input projections are one matrix of
        three times the height and the biases zero.
        """
        channels = self.self_value.in_features
        bound = math.sqrt(6 / (channels + 3 * channels))
        torch.nn.init.uniform_(self.self_value.weight, -bound, bound)
        torch.nn.init.zeros_(self.self_value.bias)
        torch.nn.init.zeros_(self.cross_value_bias)
        for linear in (self.self_output, self.cross_output, self.linear1, self.linear2):
            _init_linear(linear)
        for norm in self.norms:
            norm.reset_parameters()

    @torch.no_grad()
    def load_decoder_layer(
        self, layer: torch.nn.TransformerDecoderLayer
    ) -> SingleTokenDecoderLayer:
        r"""Copies the weights of a :class:`torch.nn.TransformerDecoderLayer` of the same widths."""
        channels = self.self_value.in_features
        self.self_value.weight.copy_(layer.self_attn.in_proj_weight[2 * channels :])
        self.self_value.bias.copy_(layer.self_attn.in_proj_bias[2 * channels :])
        self.cross_value_bias.copy_(layer.multihead_attn.in_proj_bias[2 * channels :])
        for own, other in (
            (self.self_output, layer.self_attn.out_proj),
            (self.cross_output, layer.multihead_attn.out_proj),
            (self.linear1, layer.linear1),
            (self.linear2, layer.linear2),
            (self.norms[0], layer.norm1),
            (self.norms[1], layer.norm2),
            (self.norms[2], layer.norm3),
        ):
            own.load_state_dict(other.state_dict())
        return self

    def forward(self, h: Tensor) -> Tensor:
        r"""Maps ``[B, channels]`` to ``[B, channels]``."""
        attended = self.self_output(self._drop_heads(self.self_value(h)))
        h = self.norms[0](h + F.dropout(attended, self.dropout, self.training))
        h = self.norms[1](h + F.dropout(self._cross_attention(h), self.dropout, self.training))
        hidden = F.dropout(F.relu(self.linear1(h)), self.dropout, self.training)
        return self.norms[2](h + F.dropout(self.linear2(hidden), self.dropout, self.training))

    def _cross_attention(self, h: Tensor) -> Tensor:
        # Every row sees the same value, so each head adds one constant vector, or nothing where it
        # is dropped.
        value = self.cross_value_bias.view(self.num_heads, -1)
        heads = torch.einsum(
            'hc,ohc->ho', value, self.cross_output.weight.view(h.size(1), self.num_heads, -1)
        )
        keep = F.dropout(h.new_ones(h.size(0), self.num_heads), self.dropout, self.training)
        return torch.addmm(self.cross_output.bias, keep, heads)

    def _drop_heads(self, value: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return value
        keep = F.dropout(value.new_ones(value.size(0), self.num_heads, 1), self.dropout)
        return (value.view(value.size(0), self.num_heads, -1) * keep).view_as(value)


class TransformerDenoiser(Denoiser):
    r"""Denoiser of `GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_, with the
    exact single-token simplification.

    Its first layer reads sparse rows as a gather, its last one has a row per item: parameters grow
    with ``I``.

    Args:
        num_items: Number of items ``I``.
        channels: Transformer width.
        num_layers: Decoder layers.
        num_heads: Attention heads.
        output_channels: Width before the output layer.
        step_channels: Width of the step embedding.
        dropout: Dropout probability.
    """

    def __init__(
        self,
        num_items: int,
        channels: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        output_channels: int = 256,
        step_channels: int = 10,
        dropout: float = 0.2,
    ):
        super().__init__()
        self.step_channels = step_channels
        self.item_weight = Parameter(torch.empty(num_items, channels))
        self.step = Linear(step_channels, step_channels)
        self.input = Linear(step_channels, channels)
        self.modulation = Linear(step_channels, 2 * channels)
        self.layers = torch.nn.ModuleList(
            [
                SingleTokenDecoderLayer(channels, num_heads, channels, dropout)
                for _ in range(num_layers)
            ]
        )
        self.hidden = Linear(channels, output_channels)
        self.norm = LayerNorm(output_channels)
        self.output = Linear(output_channels, num_items)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Linear weights Xavier uniform, biases 0.01; the first layer is one matrix of
        ``I + step_channels`` inputs.
        """
        num_items, channels = self.item_weight.shape
        bound = math.sqrt(6 / (num_items + self.step_channels + channels))
        torch.nn.init.uniform_(self.item_weight, -bound, bound)
        for linear in (self.step, self.input, self.modulation, self.hidden, self.output):
            _init_linear(linear)
        torch.nn.init.uniform_(self.input.weight, -bound, bound)
        for layer in self.layers:
            layer.reset_parameters()
        self.norm.reset_parameters()

    def query(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Last hidden layer and a one for the bias ``[B, output_channels + 1]``; ``views`` are not
        used.
        """
        step = self.step(step_embedding(t, self.step_channels).to(self.item_weight.dtype))
        h = row_product(state, self.item_weight) + self.input(step)
        shift, scale = self.modulation(F.silu(step)).chunk(2, dim=1)
        h = h * (1 + scale) + shift
        for layer in self.layers:
            h = layer(h)
        h = F.gelu(self.norm(self.hidden(h)))
        return torch.cat([h, h.new_ones(h.size(0), 1)], dim=1)

    def keys(self, views: ItemViews) -> Tensor:
        r"""Rows of the output layer with their bias ``[I, output_channels + 1]``."""
        return torch.cat([self.output.weight, self.output.bias.unsqueeze(1)], dim=1)

    def forward(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Logits ``[B, I]`` of the clean rows, without joining weight and bias."""
        return self.output(self.query(state, t, views)[:, :-1])


class PerceptronDenoiser(Denoiser):
    r"""Denoiser of DiffMM, one hidden layer:

    .. math::
        \hat{\mathbf{x}}_0 = \mathbf{W}_2 \tanh(\mathbf{W}_1 [\mathrm{dropout}(\mathbf{x}_t) ;
        \tau(t)] + \mathbf{b}_1) + \mathbf{b}_2

    Args:
        num_items: Number of items ``I``.
        channels: Hidden width.
        step_channels: Width of the step embedding.
        dropout: Dropout probability of the input.
        normalize: Whether rows are l2-normalized first.
    """

    def __init__(
        self,
        num_items: int,
        channels: int = 1000,
        step_channels: int = 10,
        dropout: float = 0.5,
        normalize: bool = False,
    ):
        super().__init__()
        self.step_channels = step_channels
        self.dropout = dropout
        self.normalize = normalize
        self.item_weight = Parameter(torch.empty(num_items, channels))
        self.step = Linear(step_channels, step_channels)
        self.input = Linear(step_channels, channels)
        self.output = Linear(channels, num_items)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights normal with variance 2 / (inputs + outputs), biases with standard deviation
        0.001; the first layer is one matrix of ``I + step_channels`` inputs.
        """
        num_items, channels = self.item_weight.shape
        deviation = math.sqrt(2 / (num_items + self.step_channels + channels))
        torch.nn.init.normal_(self.item_weight, std=deviation)
        torch.nn.init.normal_(self.input.weight, std=deviation)
        for linear in (self.step, self.output):
            torch.nn.init.normal_(
                linear.weight, std=math.sqrt(2 / (linear.in_features + linear.out_features))
            )
        for linear in (self.step, self.input, self.output):
            torch.nn.init.normal_(linear.bias, std=0.001)

    def query(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Hidden layer and a one for the bias ``[B, channels + 1]``; ``views`` are not used."""
        step = self.step(step_embedding(t, self.step_channels).to(self.item_weight.dtype))
        h = torch.tanh(self._product(state) + self.input(step))
        return torch.cat([h, h.new_ones(h.size(0), 1)], dim=1)

    def _product(self, state: RowState) -> Tensor:
        if not self.normalize and not (self.training and self.dropout > 0):
            return row_product(state, self.item_weight)
        if not isinstance(state, SparseRows):
            x = F.normalize(dense_rows(state), dim=1) if self.normalize else dense_rows(state)
            return row_product(F.dropout(x, self.dropout, self.training), self.item_weight)
        value = self.item_weight.new_ones(state.col.numel())
        if self.normalize:
            value = state.count().to(value.dtype).rsqrt()[state.row()]
        return row_product(state, self.item_weight, F.dropout(value, self.dropout, self.training))

    def keys(self, views: ItemViews) -> Tensor:
        r"""Rows of the output layer with their bias ``[I, channels + 1]``."""
        return torch.cat([self.output.weight, self.output.bias.unsqueeze(1)], dim=1)

    def forward(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Estimate ``[B, I]`` of the clean rows, without joining weight and bias."""
        return self.output(self.query(state, t, views)[:, :-1])


class TiedDenoiser(Denoiser):
    r"""Denoiser whose input and output layers are the item embeddings: no parameter depends on the
    number of items.

    .. math::
        \mathbf{h} &= \mathbf{W}_{in} \, \bigl\Vert_m \mathrm{norm}\Bigl( \sum_{i \in \mathbf{x}_t}
        \mathbf{V}_{m,i} \Bigr) + \tau(t), \qquad \mathbf{V}_m = \mathbf{E}_i \odot \mathbf{F}_m \\
        \mathrm{logit}_i &= \frac{1}{M} \sum_m \mathbf{o}_m \cdot \mathbf{V}_{m,i} + b_i, \qquad
        b_i = \beta_0 + \beta_1 \log(1 + \mathrm{deg}_i)

    with residual blocks between :math:`\mathbf{h}` and :math:`\mathbf{o}`. The bias of an item is
    an affine function of its log popularity, so that an item never seen in training is scored as
    well.

    Args:
        num_modalities: Number ``M`` of item views.
        channels: Width ``d`` of a view.
        num_blocks: Residual blocks of width ``4 d``.
        step_channels: Width of the step embedding.
        dropout: Dropout probability inside the blocks.
    """

    def __init__(
        self,
        num_modalities: int,
        channels: int = 64,
        num_blocks: int = 2,
        step_channels: int = 10,
        dropout: float = 0.2,
    ):
        super().__init__()
        width = 4 * channels
        self.step_channels = step_channels
        self.num_modalities = num_modalities
        self.step = Linear(step_channels, width)
        self.input = Linear(num_modalities * channels, width)
        self.blocks = torch.nn.ModuleList(
            [_ResidualBlock(width, dropout) for _ in range(num_blocks)]
        )
        self.output = Linear(width, num_modalities * channels)
        self.bias = Parameter(torch.empty(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Linear weights Xavier uniform, biases 0.01, item bias zero."""
        for linear in (self.step, self.input, self.output):
            _init_linear(linear)
        for block in self.blocks:
            block.reset_parameters()
        torch.nn.init.zeros_(self.bias)

    def query(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Queries per modality side by side, then two for the popularity bias
        ``[B, M * d + 2]``.
        """
        profile = row_product(state, views.embedding).view(t.numel(), self.num_modalities, -1)
        profile = F.normalize(profile, dim=2).view(t.numel(), -1)
        h = self.input(profile) + self.step(step_embedding(t, self.step_channels).to(profile.dtype))
        for block in self.blocks:
            h = block(h)
        return torch.cat(
            [self.output(h) / self.num_modalities, self.bias.expand(t.numel(), 2)], dim=1
        )

    def keys(self, views: ItemViews) -> Tensor:
        r"""Item views, one and log popularity ``[I, M * d + 2]``."""
        log_degree = views.log_degree.unsqueeze(1)
        return torch.cat([views.embedding, torch.ones_like(log_degree), log_degree], dim=1)


class _ResidualBlock(torch.nn.Module):
    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.norm = LayerNorm(channels)
        self.linear1 = Linear(channels, channels)
        self.linear2 = Linear(channels, channels)
        self.dropout = dropout

    def reset_parameters(self) -> None:
        self.norm.reset_parameters()
        _init_linear(self.linear1)
        _init_linear(self.linear2)

    def forward(self, h: Tensor) -> Tensor:
        hidden = F.dropout(F.silu(self.linear1(self.norm(h))), self.dropout, self.training)
        return h + self.linear2(hidden)


def _init_linear(linear: Linear) -> None:
    torch.nn.init.xavier_uniform_(linear.weight)
    torch.nn.init.constant_(linear.bias, 0.01)
