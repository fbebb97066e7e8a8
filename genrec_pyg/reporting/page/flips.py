r"""What flip diffusion added to the histories of users and removed, and what debiasing undid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genrec_pyg.nn.diffusion.generator import Changes
from genrec_pyg.nn.models import GenRec, Recommender


class Flips:
    r"""Generated interests of GenRec, and the changes behind them.

    The edges are those that the chosen epoch had. Changes are replayed from the trained model:
    debiasing checks a random share of them, drawn here from a seed of its own.

    Args:
        model: Trained model with a generator.
    """

    def __init__(self, model: GenRec):
        self.model, self.generator = model, model.generator
        self.edges = self.generator.edges
        was_training = model.training
        model.eval()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            self.changes = self.generator.changes(model.item_views())
        model.train(was_training)

    def summary(self) -> dict[str, Any]:
        r"""Counts over all users, by cluster of the first modality too."""
        changes, debias = self.changes, self.generator.debias
        found = {
            'added': int((changes.changed & changes.added).sum()),
            'removed': int((changes.changed & ~changes.added).sum()),
            'undone_added': int((changes.undone & changes.added).sum()),
            'undone_removed': int((changes.undone & ~changes.added).sum()),
            'checked': None if debias is None else debias.sample_ratio,
            'edges': 0 if self.edges is None else self.edges.edge_index.size(1),
            'users': self.model.num_users,
        }
        if debias is not None:
            name, label = next(iter(debias.labels.items()))
            found['chart'] = _by_cluster(name, label, debias.num_clusters[name], changes)
        return found

    def of_user(self, user: int) -> dict[str, list[list[Any]]]:
        r"""Generated edges of a user with their probabilities, and the changes: item,
        probability.
        """
        changes = self.changes
        mine = changes.user == user
        found = {
            'generated': [],
            'added': _rows(changes, mine & changes.changed & changes.added),
            'removed': _rows(changes, mine & changes.changed & ~changes.added),
            'undone': _rows(changes, mine & changes.undone),
        }
        if self.edges is not None:
            edge = (self.edges.edge_index[0] == user).nonzero().view(-1)
            found['generated'] = _pairs(
                self.edges.edge_index[1][edge], self.edges.probability[edge]
            )
        return found


def flips_of(model: Recommender) -> Flips | None:
    r"""The flips of a model, if it generates interests by flips."""
    if not isinstance(model, GenRec) or model.generator is None:
        return None
    return Flips(model) if model.generator.process.binary else None


def _by_cluster(name: str, label: Tensor, count: int, changes: Changes) -> dict[str, Any]:
    series = []
    for kind, mask in (('changed', changes.changed), ('undone', changes.undone)):
        cluster = label[changes.item[mask]]
        number = torch.bincount(cluster[cluster >= 0], minlength=count)
        series.append({'name': kind, 'values': number.tolist()})
    groups = [str(cluster) for cluster in range(count)]
    return {
        'kind': 'bar',
        'title': f'changes by {name} cluster',
        'groups': groups,
        'series': series,
    }


def _rows(changes: Changes, mask: Tensor) -> list[list[Any]]:
    return _pairs(changes.item[mask], changes.probability[mask])


def _pairs(item: Tensor, probability: Tensor) -> list[list[Any]]:
    return [[i, round(p, 4)] for i, p in zip(item.tolist(), probability.tolist())]
