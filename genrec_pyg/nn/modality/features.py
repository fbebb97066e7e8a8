r"""Item features in the form that models take, and their projection."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Linear

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.embedding import init_table
from genrec_pyg.ops import unit_rows


class ItemFeatures(NamedTuple):
    r"""Features ``x`` ``[I, d_m]`` of one modality, zero where an item lacks it, and the mask of
    items that have it, ``present`` ``[I, 1]``.
    """

    x: Tensor
    present: Tensor

    def rows(self, item: Tensor) -> ItemFeatures:
        r"""Those of the items ``item`` ``[n]``."""
        return ItemFeatures(self.x[item], self.present[item])


def item_features(graph: TrainingGraph, normalize: bool = True) -> dict[str, ItemFeatures]:
    r"""Features per modality and item; several nodes of an item are averaged.

    Args:
        graph: Training graph.
        normalize: Whether rows are l2-normalized.
    """
    found = {}
    for name, modality in graph.modalities.items():
        x = modality.item_features()
        found[name] = ItemFeatures(
            unit_rows(x) if normalize else x, modality.present().unsqueeze(1)
        )
    return found


def centered_unit_rows(x: Tensor) -> Tensor:
    r"""Rows ``[I, d]`` minus the mean of the rows that are not zero, l2-normalized. A zero row (an
    item without the modality) stays zero, and so becomes one that differs from the mean by rounding
    alone (constant features).
    """
    largest = x.abs().amax(dim=1, keepdim=True) if x.size(1) > 0 else x.new_zeros(x.size(0), 1)
    present = largest > 0
    mean = x.double().sum(dim=0) / present.sum().clamp(min=1)
    centered = torch.where(present, x.double() - mean, 0)
    differs = centered.abs() > 1e-6 * largest.double()
    return unit_rows(torch.where(differs.any(dim=1, keepdim=True), centered, 0).to(x.dtype))


def concatenated_features(graph: TrainingGraph, normalize: bool = True) -> ItemFeatures:
    r"""Features of all modalities side by side ``[I, sum d_m]``, and who has at least one;
    arguments as in :func:`item_features`.

    A linear map of them is the sum of one linear map per modality.
    """
    blocks = item_features(graph, normalize).values()
    return ItemFeatures(
        torch.cat([block.x for block in blocks], dim=1),
        torch.cat([block.present for block in blocks], dim=1).any(dim=1, keepdim=True),
    )


def require_modalities(graph: TrainingGraph, model: str) -> None:
    r"""Raises :class:`~genrec_pyg.exceptions.ConfigError` if the graph has no modality."""
    if not graph.modalities:
        raise ConfigError(
            f'modalities: got none, accepted for {model} is a graph with at least one modality'
        )


def modality_shares(argument: str, weights: dict[str, float] | None, names: list[str]) -> Tensor:
    r"""Weights ``[M]`` of the modalities ``names``, summing to 1.

    Args:
        argument: Name of the argument, for errors.
        weights: Weight of each modality up to a common factor, 0 where it is not named; equal ones
            if :obj:`None`. Other modalities are passed over, so that one setting serves graphs with
            fewer.
        names: Modalities of the graph.

    Raises:
        ConfigError: If a weight is negative or infinite or none is positive.
    """
    share = (
        torch.ones(len(names))
        if weights is None
        else torch.tensor([float(weights.get(name, 0)) for name in names])
    )
    if bool((share < 0).any()) or not 0 < float(share.sum()) < float('inf'):
        raise ConfigError(
            f'{argument}: got {weights}, accepted are finite numbers from 0, one of them '
            f'positive, for {", ".join(names)}'
        )
    return share / share.sum()


class FeatureProjection(torch.nn.Module):
    r"""Linear map of one modality; an item without the modality gets a zero row.

    Args:
        in_channels: Feature width ``d_m``.
        out_channels: Embedding width ``d``.
        bias: Whether there is a bias.
        init: Start of the weights, see :func:`~genrec_pyg.nn.embedding.init_table`; :obj:`None`
            keeps the framework's default, uniform in :math:`\pm 1 / \sqrt{d_m}`.
        zero_bias: Whether the bias starts from zero or as the framework's default.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        init: str | None = 'xavier',
        zero_bias: bool = True,
    ):
        super().__init__()
        self.linear = Linear(in_channels, out_channels, bias=bias)
        self.init, self.zero_bias = init, zero_bias
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws weights and bias."""
        self.linear.reset_parameters()
        if self.init is not None:
            init_table(self.linear.weight, self.init)
        if self.linear.bias is not None and self.zero_bias:
            torch.nn.init.zeros_(self.linear.bias)

    def forward(self, features: ItemFeatures, columns: slice | None = None) -> Tensor:
        r"""Maps features of items ``[n, d_m]`` to ``[n, d]``, or to some columns of it."""
        if columns is None or columns == slice(0, self.linear.out_features):
            out = self.linear(features.x)
        else:
            bias = None if self.linear.bias is None else self.linear.bias[columns]
            out = torch.nn.functional.linear(features.x, self.linear.weight[columns], bias)
        return out if self.linear.bias is None else out * features.present
