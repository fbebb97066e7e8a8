r"""Scores of users and histories as torch has them, from the tables of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError

#: Most entries of sparse rows once they are padded to one length.
_MOST_ENTRIES = 1 << 26


class Unsupported(ConfigError):
    r"""Scores that no program is made of."""


class _Rows(torch.nn.Module):
    r"""Sparse rows, padded to one length: row ``M`` is empty, and column ``N`` is none."""

    def __init__(self, tables: Mapping[str, np.ndarray], name: str, num_columns: int):
        super().__init__()
        rowptr, col = tables[f'{name}.rowptr'], tables[f'{name}.col']
        count = np.diff(rowptr)
        width = int(max(count.max(initial=0), 1))
        if (count.size + 1) * width > _MOST_ENTRIES:
            raise Unsupported(
                f'sparse rows of up to {width} entries take too much memory once padded'
            )
        row = np.repeat(np.arange(count.size), count)
        place = np.arange(col.size) - np.repeat(rowptr[:-1], count)
        columns = np.full((count.size + 1, width), num_columns, dtype=np.int64)
        columns[row, place] = col
        self.register_buffer('column', torch.from_numpy(columns))
        if f'{name}.value' in tables:
            values = np.zeros(columns.shape, dtype=np.float32)
            values[row, place] = tables[f'{name}.value']
            self.register_buffer('value', torch.from_numpy(values))


class Scores(torch.nn.Module):
    r"""Scores ``[B, I]`` of users or histories, from the tables of one model.

    Histories ``[B, n]`` are padded with ``I``.
    """

    def __init__(
        self, manifest: Mapping[str, Any], tables: Mapping[str, np.ndarray], of_users: bool
    ):
        super().__init__()
        if manifest['standardized']:
            raise Unsupported('a blend standardizes the scores of its members')
        if not of_users and 'fold_in' in manifest['unable']:
            raise Unsupported(manifest['unable']['fold_in'])
        if not of_users and manifest['fold_in']['kind'] == 'network':
            raise Unsupported('histories are encoded by a network, the file history_encoder')
        self.num_items = manifest['num_items']
        self.kernels = []
        parts = manifest['members'][0]['parts']
        self.has_inner = parts[0]['kind'] == 'inner'
        for part in parts:
            self._add(part, tables)
        if self.has_inner and of_users:
            self._keep('users', tables['m0.users'])
        elif self.has_inner:
            self._fold_in(manifest['fold_in'], tables)
        self.trained = (
            _Rows(tables, 'trained', self.num_items) if of_users and self.kernels else None
        )

    def of_users(self, user: Tensor) -> Tensor:
        r"""Scores of users ``[B]``."""
        history = None if self.trained is None else self.trained.column[user]
        scores = self._inner(self.users[user]) if self.has_inner else self._constant(user)
        scale = self.scale[user] if hasattr(self, 'scale') else None
        return self._kernels(scores, history, scale)

    def of_histories(self, history: Tensor) -> Tensor:
        r"""Scores of histories ``[B, n]``."""
        if not self.has_inner:
            return self._kernels(self._constant(history[:, 0]), history, None)
        count = (history < self.num_items).sum(dim=1, keepdim=True).clamp(min=1).to(self.items)
        inputs = [
            self.scaled[history].sum(dim=1) / count.sqrt(),
            self.rows[history].sum(dim=1) / count,
        ]
        query, scale = torch.cat(inputs, dim=1) @ self.map, None
        if self.interest_weight is not None:
            interest = self.query[history].sum(dim=1)
            variance = ((interest @ self.covariance) * interest).sum(dim=1)
            variance = variance + self.squares[history].sum(dim=1)
            tiny = torch.finfo(torch.float32).tiny
            scale = self.interest_weight * variance.clamp(min=tiny).rsqrt() * (variance > tiny)
            query = torch.cat([query[:, : -interest.size(1)], interest * scale.unsqueeze(1)], dim=1)
        return self._kernels(self._inner(query), history, scale)

    def _keep(self, name: str, x: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(x)))

    def _add(self, part: Mapping[str, Any], tables: Mapping[str, np.ndarray]) -> None:
        kind, name = part['kind'], part['name']
        if kind == 'inner':
            self._keep('items', tables[f'{name}.items'])
        elif kind == 'constant':
            self._keep('constant', tables[name])
        elif kind != 'kernel' or part['hops'] > 1:
            raise Unsupported('the model applies its filter several times to whole rows')
        else:
            kernel = torch.nn.Module()
            for key in ('weight', 'query', 'key', 'item_weight'):
                x = tables.get(f'{name}.{key}')
                kernel.register_buffer(key, None if x is None else torch.from_numpy(np.array(x)))
            kernel.rows = (
                _Rows(tables, name, self.num_items) if f'{name}.rowptr' in tables else None
            )
            kernel.factor = part['weight']
            self.kernels.append(kernel)
            self.add_module(f'kernel{len(self.kernels)}', kernel)
            if f'{name}.scale' in tables:
                self._keep('scale', tables[f'{name}.scale'])

    def _fold_in(self, spec: Mapping[str, Any], tables: Mapping[str, np.ndarray]) -> None:
        items = tables['m0.items']
        degree = np.maximum(tables['fold_in.degree'], 1)
        self._keep('rows', _padded(items))
        self._keep('scaled', _padded(items / np.sqrt(degree)[:, None]))
        self._keep('map', tables['fold_in.map'])
        self.interest_weight = spec.get('interest_weight')
        if self.interest_weight is not None:
            self._keep('query', _padded(tables['fold_in.query']))
            self._keep('covariance', tables['fold_in.covariance'])
            squares = tables.get('fold_in.squares', np.zeros(len(items), dtype=np.float32))
            self._keep('squares', _padded(squares))

    def _constant(self, like: Tensor) -> Tensor:
        constant = getattr(self, 'constant', None)
        if constant is None:
            return torch.zeros(like.size(0), self.num_items)
        return constant.expand(like.size(0), -1)

    def _inner(self, query: Tensor) -> Tensor:
        if query.dim() == 2:
            return query @ self.items.t()
        return (query @ self.items.t()).amax(dim=1)

    def _kernels(self, scores: Tensor, history: Tensor | None, scale: Tensor | None) -> Tensor:
        for kernel in self.kernels:
            own = torch.zeros(history.size(0), self.num_items + 1)
            if kernel.rows is not None:
                column, value = kernel.rows.column[history], kernel.rows.value[history]
                if scale is not None:
                    value = value * scale.view(-1, 1, 1)
                own = own.scatter_add(1, column.flatten(1), value.flatten(1))
            own = own[:, : self.num_items]
            if kernel.weight is not None or kernel.query is not None:
                one_hot = torch.zeros(history.size(0), self.num_items + 1)
                x = one_hot.scatter(1, history, 1.0)[:, : self.num_items]
                own = own if kernel.weight is None else own + x @ kernel.weight
                own = own if kernel.query is None else own + x @ kernel.query @ kernel.key.t()
            own = own if kernel.item_weight is None else own * kernel.item_weight
            scores = scores + kernel.factor * own
        return scores


def _padded(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.zeros_like(x[:1])]).astype(np.float32)
