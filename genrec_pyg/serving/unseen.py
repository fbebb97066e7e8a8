r"""Embeddings for users and items that the training has not seen, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genrec_pyg.exceptions import DataError
from genrec_pyg.serving.parts import Inner
from genrec_pyg.serving.table_reader import TableReader


class FoldIn:
    r"""Embeddings of histories, see :class:`genrec_pyg.nn.history_embedding.HistoryEmbedding`, the
    last channels replaced by the queries of the generated interest where the model has one.
    """

    def __init__(self, spec: Any, reader: TableReader, inner: Inner | None, num_items: int):
        kind = spec.get('kind') if isinstance(spec, dict) else None
        if kind not in ('parts', 'embedding') or (kind == 'embedding') != (inner is not None):
            raise DataError(
                f'manifest: fold_in is {str(spec)[:80]!r}, accepted is what an export writes'
            )
        if inner is None:
            return
        width = inner.items.shape[1]
        self.items, self.map = inner.items, reader.get('fold_in.map', 2 * width, width)
        degree = reader.get('fold_in.degree', num_items)
        self.scaled = inner.items / np.sqrt(np.maximum(degree, 1))[:, None]
        self.weight = spec.get('interest_weight')
        if self.weight is not None:
            self.query = reader.get('fold_in.query', num_items, None)
            rank = self.query.shape[1]
            self.covariance = reader.get('fold_in.covariance', rank, rank)
            self.squares = reader.optional('fold_in.squares', num_items)
            if rank > width or type(self.weight) not in (int, float):
                raise DataError('manifest: fold_in: interest_weight and the tables do not fit')

    def __call__(self, history: np.ndarray) -> tuple[np.ndarray, float | None]:
        r"""Embedding ``[d]`` of a history and the factor of its sparse rows."""
        count = np.float32(max(history.size, 1))
        inputs = np.concatenate(
            [
                self.scaled[history].sum(axis=0) / np.sqrt(count),
                self.items[history].sum(axis=0) / count,
            ]
        )
        out = inputs @ self.map
        if self.weight is None:
            return out, None
        query = self.query[history].sum(axis=0)
        variance = (query @ self.covariance) @ query
        if self.squares is not None:
            variance += self.squares[history].sum()
        tiny = np.finfo(np.float32).tiny
        scale = np.float32(self.weight / np.sqrt(variance) if variance > tiny else 0)
        out[-query.size :] = query * scale
        return out, scale


class NewItems:
    r"""Embeddings of new items, see :class:`genrec_pyg.retrieval.new_items.FeatureEmbedding`."""

    def __init__(self, spec: Any, reader: TableReader, inner: Inner | None):
        widths = spec.get('widths') if isinstance(spec, dict) else None
        if (
            not isinstance(widths, dict)
            or not widths
            or inner is None
            or not all(type(width) is int and 0 < width < 1 << 20 for width in widths.values())
        ):
            raise DataError(
                f'manifest: rank is {str(spec)[:80]!r}, accepted are the widths of the modalities'
            )
        self.widths = widths
        self.map = reader.get('rank.map', sum(widths.values()) + len(widths), inner.items.shape[1])

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        r"""Embeddings ``[n, d]`` of items with ``features`` ``[n, d_m]``; a row of NaN is a missing
        modality.
        """
        count = next(iter(features.values())).shape[0]
        blocks = []
        for name, width in self.widths.items():
            x = features.get(name)
            x = np.full((count, width), np.nan) if x is None else x
            present = ~np.isnan(x).any(axis=1, keepdims=True)
            x = np.where(present, x, 0.0)
            norm = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
            blocks += [
                np.divide(x, norm, out=np.zeros_like(x), where=norm > 0),
                present.astype(x.dtype),
            ]
        return np.concatenate(blocks, axis=1) @ self.map.astype(np.float64)
