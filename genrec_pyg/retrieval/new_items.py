r"""Embeddings for items that came after the training, from their features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.modality.features import item_features
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import unit_rows

#: Ridges that are tried, as shares of the mean square of the features.
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
#: Every so many-th item is held out to choose among them.
_HELD_OUT = 10


class FeatureEmbedding:
    r"""Item embeddings from features, next to a trained model that stays as it is.

    A ridge regression from the l2-normalized features of all modalities, side by side, to the
    trained embeddings of the items that have training interactions (the linear attribute-to-factor
    map of Gantner, Drumond, Freudenthaler, Rendle and Schmidt-Thieme, "Learning
    Attribute-to-Feature Mappings for Cold-Start Recommendations", ICDM 2010,
    https://doi.org/10.1109/ICDM.2010.129). The ridge is the one that reproduces held-out items
    best. A modality that an item lacks is a block of zeros, and a flag per modality is one more
    feature.

    Args:
        graph: Training graph of the model, with at least one modality.
        items: Trained item embeddings ``[I, d]``.

    Raises:
        ConfigError: If the graph has no modality.
    """

    def __init__(self, graph: TrainingGraph, items: Tensor):
        if not graph.modalities:
            raise ConfigError(
                'features: the model was trained without modalities, so it knows new items by '
                'nothing; accepted is a model with at least one'
            )
        self.widths = {name: modality.x.size(1) for name, modality in graph.modalities.items()}
        features = item_features(graph)
        x = self._inputs(
            {name: block.x for name, block in features.items()},
            {name: block.present.squeeze(1) for name, block in features.items()},
        )
        present = torch.cat([block.present for block in features.values()], dim=1).any(dim=1)
        rows = ((graph.item_degree() > 0) & present).nonzero().view(-1)
        x, y = x[rows].double(), items[rows].double()
        held_out = torch.arange(rows.numel(), device=rows.device) % _HELD_OUT == _HELD_OUT - 1
        errors = {}
        for share in _RIDGES if bool(held_out.any()) else ():
            weight = _ridge(x[~held_out], y[~held_out], share)
            errors[share] = float((x[held_out] @ weight - y[held_out]).square().sum())
        self.ridge = min(errors, key=errors.__getitem__) if errors else 1.0
        self.weight = _ridge(x, y, self.ridge).to(items.dtype)

    def __call__(self, features: Mapping[str, Tensor]) -> Tensor:
        r"""Embeddings ``[n, d]`` of new items.

        Args:
            features: Raw features ``[n, d_m]`` by modality; a row of NaN is an item without that
                modality.

        Raises:
            ConfigError: If none is given or one is not a modality of the model.
            DataError: If a width differs, numbers of rows differ, or a value is infinite or partly
                NaN.
        """
        if not features or not features.keys() <= self.widths.keys():
            raise ConfigError(
                f'features: got {", ".join(features) or "none"}, accepted are '
                f'{", ".join(self.widths)}'
            )
        count = next(iter(features.values())).size(0)
        blocks, present = {}, {}
        for name, width in self.widths.items():
            x = features.get(name)
            x = torch.full((count, width), torch.nan) if x is None else x
            if x.dim() != 2 or tuple(x.shape) != (count, width):
                raise DataError(
                    f'features: {name} has shape {tuple(x.shape)}, accepted is {(count, width)}'
                )
            missing = x.isnan()
            if bool(x.isinf().any()) or bool((missing.any(dim=1) != missing.all(dim=1)).any()):
                raise DataError(
                    f'features: {name} has infinite values or rows that are NaN in part, accepted '
                    'are finite rows'
                )
            present[name] = ~missing.any(dim=1)
            blocks[name] = unit_rows(x.nan_to_num(0.0).to(self.weight))
        return self._inputs(blocks, present) @ self.weight

    def by_modality(self, graph: TrainingGraph) -> dict[str, Tensor]:
        r"""What each modality adds to the embeddings of the items of a graph: ``[I, d]`` each."""
        features, start, found = item_features(graph), 0, {}
        for name, width in self.widths.items():
            weight = self.weight[start : start + width + 1]
            block = torch.cat(
                [features[name].x, features[name].present.to(features[name].x.dtype)], dim=1
            )
            found[name] = block @ weight
            start += width + 1
        return found

    def _inputs(self, blocks: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        columns = [
            torch.cat([blocks[name], present[name].to(blocks[name].dtype).unsqueeze(1)], dim=1)
            for name in self.widths
        ]
        return torch.cat(columns, dim=1)


def new_item_embedding(model: Recommender) -> FeatureEmbedding:
    r"""The map from features to item embeddings of a model; call it within
    :meth:`~genrec_pyg.nn.models.Recommender.cached_embeddings`.

    Raises:
        ConfigError: If its scores are no inner products of embeddings, or it was trained without
            modalities.
    """
    if not model.has_embeddings:
        raise ConfigError(
            f'features: {type(model).__name__} has no item embeddings, so it knows only the items '
            f'that it was trained with; accepted are models that have'
        )
    return FeatureEmbedding(model.graph, model.embeddings()[1])


def _ridge(x: Tensor, y: Tensor, share: float) -> Tensor:
    r"""Weights ``[F, d]`` of a ridge regression, in the smaller of its two forms."""
    ridge = share * x.square().sum() / max(1, min(x.shape))
    ridge = ridge.clamp(min=torch.finfo(x.dtype).tiny)
    if x.size(0) < x.size(1):
        gram = x @ x.t()
        gram.diagonal().add_(ridge)
        return x.t() @ torch.linalg.solve(gram, y)
    gram = x.t() @ x
    gram.diagonal().add_(ridge)
    return torch.linalg.solve(gram, x.t() @ y)
