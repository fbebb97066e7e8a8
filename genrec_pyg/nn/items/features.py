r"""Item rows from features that an encoder wrote before the training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import GELU, Dropout, Linear, Sequential

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.items.table import ItemRows
from genrec_pyg.nn.modality.features import item_features, require_modalities


class FeatureRows(ItemRows):
    r"""Learned map of fixed features, the two-stage item side of Yuan et al. (SIGIR 2023, Sec. 5.3,
    https://arxiv.org/abs/2303.13835).

    .. math::
        \mathbf{e}_i = \mathrm{MLP}_l \Bigl( \frac{1}{|M_i|} \sum_{m \in M_i}
        \mathrm{GELU}(\mathbf{W}_m \mathbf{x}_{im} + \mathbf{b}_m) \Bigr)

    with :math:`M_i` the modalities that the item has and a perceptron of :math:`l` layers [dropout,
    linear, GELU]. The paper has one modality. An item without any starts from a row of zeros.

    Args:
        graph: Training graph with at least one modality.
        channels: Width ``d``.
        num_layers: Layers :math:`l` after the projection.
        dropout: Dropout of these layers.

    Raises:
        ConfigError: If the graph has no modality.
    """

    def __init__(
        self, graph: TrainingGraph, channels: int, num_layers: int = 0, dropout: float = 0.1
    ):
        super().__init__(graph.num_items, channels)
        require_modalities(graph, "item_side.kind='frozen'")
        self.features = item_features(graph, normalize=False)
        self.projections = ModuleDict(
            {name: Linear(found.x.size(1), channels) for name, found in self.features.items()}
        )
        self.layers = gelu_layers([channels] * (num_layers + 1), dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws all weights, normal with variance 2 over the sum of both widths; biases become
        0.
        """
        xavier_layers(self)

    def compute(self, item: Tensor) -> Tensor:
        r"""Rows ``[n, d]`` of items ``[n]``."""
        total = count = 0
        for name, found in self.features.items():
            x, present = found.x[item], found.present[item]
            total = total + torch.nn.functional.gelu(self.projections[name](x)) * present
            count = count + present.to(x)
        return self.layers(total / count.clamp(min=1))

    def new_rows(self, content: Mapping[str, Tensor]) -> Tensor:
        r"""Rows ``[n, d]`` of items that are not in the graph, given their features ``[n, d_m]`` by
        modality.

        Raises:
            ConfigError: If none is given, or one that the graph does not have or of another width.
        """
        widths = {name: found.x.size(1) for name, found in self.features.items()}
        if not content or any(
            x.dim() != 2 or x.size(1) != widths.get(name) for name, x in content.items()
        ):
            given = ', '.join(f'{name} {tuple(x.shape)}' for name, x in content.items())
            raise ConfigError(
                f'content: got {given or "none"}, accepted are features of width '
                f'{", ".join(f"{width} of {name}" for name, width in widths.items())}'
            )
        found = [torch.nn.functional.gelu(self.projections[name](x)) for name, x in content.items()]
        return self.layers(sum(found) / len(found))


def gelu_layers(widths: list[int], dropout: float) -> Sequential:
    r"""Perceptron of layers [dropout, linear, GELU] between the given widths."""
    return Sequential(
        *(
            layer
            for before, after in zip(widths, widths[1:])
            for layer in (Dropout(dropout), Linear(before, after), GELU())
        )
    )


def xavier_layers(module: torch.nn.Module) -> None:
    r"""Redraws all linear maps of ``module``, normal with variance 2 over the sum of both widths;
    biases become 0.
    """
    for layer in module.modules():
        if isinstance(layer, Linear):
            torch.nn.init.xavier_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
