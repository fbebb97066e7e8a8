r"""Trained models as tables: what a bundle holds of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import MASKS, has_split, split_edges
from genrec_pyg.nn.closed_form import HistoryTerm, LinearFilter
from genrec_pyg.nn.history_embedding import HistoryEmbedding
from genrec_pyg.nn.models import Recommender
from genrec_pyg.nn.models.blend import Blend
from genrec_pyg.nn.models.history import HistoryRecommender
from genrec_pyg.nn.models.reference.popularity import Popularity
from genrec_pyg.nn.models.sequential.sequence_recommender import SequenceRecommender
from genrec_pyg.ops import Adjacency
from genrec_pyg.retrieval.new_items import new_item_embedding
from genrec_pyg.serving.history_encoder import ROLE
from genrec_pyg.serving.history_program import history_program


class ModelTables(NamedTuple):
    r"""A model as tables.

    Args:
        manifest: Their description: ``members``, ``standardized``, ``fold_in``, ``rank``,
            ``unable``.
        tables: Arrays by name.
        programs: What writes the network of a sequence model, by role.
    """

    manifest: dict[str, Any]
    tables: dict[str, np.ndarray]
    programs: dict[str, Callable[[Path], Any]]


@torch.no_grad()
def model_tables(model: Recommender, data: HeteroData) -> ModelTables:
    r"""Tables from which the lists of a model follow, for users of ``data``, for histories and for
    new items.

    A model that reads histories knows all interactions of ``data``, as in
    :func:`genrec_pyg.reporting.lists.top_items` with its defaults.

    Raises:
        ConfigError: If the scores of the model are no function of tables.
    """
    known = [name for name in MASKS if has_split(data, name)]
    out = _Tables()
    blend = isinstance(model, Blend)
    models = list(zip(model.weights.values(), model.members)) if blend else [(1.0, model)]
    with model.known_edges(data, known), model.cached_embeddings():
        members = [
            {'weight': weight, 'parts': _parts(member, out, f'm{number}')}
            for number, (weight, member) in enumerate(models)
        ]
        unable, fold_in, rank, programs = {}, None, None, {}
        if blend:
            reason = 'a blend knows the users and items of its members alone'
            unable = {'similar': reason, 'fold_in': reason, 'rank': reason}
        else:
            fold_in = _fold_in(model, out, unable, programs)
            rank = _rank(model, out, unable)
            if isinstance(model, Popularity):
                unable['similar'] = (
                    'Popularity has the same scores for everybody and resembles no item to another'
                )
    out.csr('known', _known(data, model, known))
    edges = Adjacency.from_edge_index(
        model.graph.edge_index.cpu(), size=(model.num_users, model.num_items)
    )
    out.csr('trained', edges)
    manifest = {
        'members': members,
        'standardized': blend,
        'fold_in': fold_in,
        'rank': rank,
        'unable': unable,
    }
    return ModelTables(manifest, out, programs)


class _Tables(dict):
    def put(self, name: str, x: Tensor | None) -> None:
        if x is not None:
            self[name] = x.detach().float().cpu().contiguous().numpy()

    def csr(self, name: str, matrix: Adjacency) -> None:
        self[f'{name}.rowptr'] = matrix.rowptr.long().cpu().numpy()
        self[f'{name}.col'] = matrix.col.int().cpu().numpy()
        if matrix.value is not None:
            self.put(f'{name}.value', matrix.value)


def _known(data: HeteroData, model: Recommender, names: list[str]) -> Adjacency:
    edges = torch.cat(
        [torch.empty(2, 0, dtype=torch.long), *(split_edges(data, name) for name in names)], dim=1
    )
    return Adjacency.from_edge_index(edges.cpu(), size=(model.num_users, model.num_items))


def _parts(model: Recommender, out: _Tables, prefix: str) -> list[dict[str, Any]]:
    r"""Descriptions of the parts whose sum the scores of a model are."""
    if isinstance(model, Popularity):
        out.put(f'{prefix}.constant', model.popularity)
        return [{'kind': 'constant', 'name': f'{prefix}.constant'}]
    if (
        isinstance(model, HistoryRecommender)
        and type(model).score_rows is HistoryRecommender.score_rows
    ):
        return [
            _term(term, out, f'{prefix}.k{number}')
            for number, term in enumerate(model.history_terms())
        ]
    interest = model.interest_in_use()
    if not model.has_embeddings or (model.has_sparse_scores and interest is None):
        raise ConfigError(
            f'{type(model).__name__} cannot be exported: its scores are neither inner products of '
            f'embeddings nor a sum of terms over the items of a user; accepted are models with '
            f'embeddings (Recommender.embed) or with HistoryRecommender.history_terms'
        )
    users, items = model.embeddings()
    out.put(f'{prefix}.users', users)
    out.put(f'{prefix}.items', items)
    parts = [{'kind': 'inner', 'name': prefix}]
    if model.has_sparse_scores:
        module, weight = interest
        name = f'{prefix}.sparse'
        out.csr(name, module.neighbors)
        scale = module.inverse_deviation(module.interactions, module.interactions @ module.query)
        out.put(f'{name}.scale', weight * scale.squeeze(1))
        parts.append({'kind': 'kernel', 'name': name, 'hops': 1, 'weight': 1.0})
    return parts


def _term(term: HistoryTerm, out: _Tables, name: str) -> dict[str, Any]:
    kernel = term.kernel
    out.put(f'{name}.item_weight', term.item_weight)
    if isinstance(kernel, LinearFilter):
        out.csr(name, kernel.scaled)
        out.put(f'{name}.diagonal', kernel.diagonal)
        return {'kind': 'filter', 'name': name, 'hops': term.hops, 'weight': term.weight}
    for part in ('weight', 'query', 'key'):
        out.put(f'{name}.{part}', getattr(kernel, part))
    if kernel.neighbors is not None:
        out.csr(name, kernel.neighbors.t())  # row j: what history item j adds
    return {'kind': 'kernel', 'name': name, 'hops': term.hops, 'weight': term.weight}


def _fold_in(
    model: Recommender,
    out: _Tables,
    unable: dict[str, str],
    programs: dict[str, Callable[[Path], Any]],
) -> dict[str, Any] | None:
    r"""What makes scores from a history; :obj:`None`, with a reason, where nothing does."""
    if isinstance(model, (HistoryRecommender, Popularity)):
        return {'kind': 'parts'}
    if isinstance(model, SequenceRecommender):
        if not all(map(find_spec, ('onnx', 'onnxscript'))):
            unable['fold_in'] = (
                f'{type(model).__name__} encodes histories by a network, which is exported where '
                f'onnx and onnxscript are installed (pip install "genrec_pyg[onnx]")'
            )
            return None
        programs[ROLE] = history_program(model)
        return {
            'kind': 'network',
            'length': model.history_length,
            'align': model.align,
            'repeats': bool(model.repeats),
        }
    users, items = model.embeddings()
    if model.reads_history or users.dim() != 2:
        unable['fold_in'] = (
            f'{type(model).__name__} encodes histories by a network, which is no table; accepted '
            'are models with one embedding per user or with weights per item'
        )
        return None
    size = (model.num_users, model.num_items)
    embed = HistoryEmbedding(
        users, items, Adjacency.from_edge_index(model.graph.edge_index, size=size)
    )
    out.put('fold_in.map', embed.weight)
    out.put('fold_in.degree', embed.degree)
    interest = model.interest_in_use()
    if interest is None:
        return {'kind': 'embedding'}
    module, weight = interest
    centered = module.key - module.key.mean(dim=0)
    out.put('fold_in.query', module.query)
    out.put('fold_in.covariance', centered.t() @ centered / module.key.size(0))
    if module.neighbors is not None:
        squares = module.query.new_zeros(model.num_items)
        squares.index_add_(0, module.neighbors.row(), module.neighbors.value.square())
        out.put('fold_in.squares', squares / model.num_items)
    return {'kind': 'embedding', 'interest_weight': weight}


def _rank(model: Recommender, out: _Tables, unable: dict[str, str]) -> dict[str, Any] | None:
    try:
        embed = new_item_embedding(model)
    except ConfigError as error:
        unable['rank'] = str(error).removeprefix('features: ')
        return None
    out.put('rank.map', embed.weight)
    return {'widths': embed.widths, 'ridge': embed.ridge}
