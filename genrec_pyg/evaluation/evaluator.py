r"""Ranks all items for all users with held-out items and measures the lists."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.metrics import (
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
)

from genrec_pyg.evaluation.lists import Lists
from genrec_pyg.evaluation.metrics import find_metrics
from genrec_pyg.evaluation.metrics import measure as measure_lists
from genrec_pyg.evaluation.metrics.registry import Metric
from genrec_pyg.evaluation.per_user import PerUser, per_user
from genrec_pyg.exceptions import ConfigError, DataError, GenRecError
from genrec_pyg.graph import (
    HISTORY,
    ITEM,
    USER,
    TrainingGraph,
    check_graph,
    check_held_out,
    has_split,
    held_out_digests,
    known_masks,
    raw_ids,
    split_edges,
    training_graph,
)
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency, rows_per_block
from genrec_pyg.utils.collectives import ALONE, Processes

#: ``validation``: selection on validation, training and validation items masked at test.
#: ``published``: selection on test,
#: training items masked, as DiffMM and GenRec-V1 report.
PROTOCOLS = ('validation', 'published')

#: Recall is computed here, in float64 and for parts of the labels too.
_RANKING_METRICS = {
    'ndcg': LinkPredNDCG,
    'precision': LinkPredPrecision,
    'map': LinkPredMAP,
    'hit': LinkPredHitRatio,
    'mrr': LinkPredMRR,
}


class Measurement(NamedTuple):
    r"""Everything that is measured of a trained model on one split.

    Args:
        figures: As :meth:`Evaluator.figures` gives them.
        further: Those of metrics beyond accuracy.
        users: Values of every user, of all processes.
    """

    figures: dict[str, float]
    further: dict[str, float]
    users: PerUser


class Evaluator:
    r"""Full-ranking evaluation of one split; the masks are built once and serve every epoch.

    All items are candidates, known ones are masked: training items, and at test under the
    ``validation`` protocol validation items too. Means run over the users with at least one
    held-out item. Recall is hits over held-out items, the ideal of NDCG has ``min(n, k)``
    positions, MAP divides by ``min(n, k)`` (these through :mod:`torch_geometric.metrics`). Equal
    scores rank by lower item id; a user with fewer than ``k`` candidates gets a shorter list.

    Args:
        data: Canonical graph with splits.
        split: ``'val'`` or ``'test'``.
        ks: Lengths of the lists.
        protocol: ``'validation'`` or ``'published'``.
        batch_size: Users per block; fewer where the block would hold more than 2^23 scores.
        processes: Processes over which the users are split; all of them call the evaluator and get
            the same figures.

    Raises:
        ConfigError: On unknown arguments.
        DataError: If the graph is not canonical or the split is empty.

    Examples:
        >>> from genrec_pyg.evaluation import Evaluator
        >>> from genrec_pyg.nn import Popularity
        >>> from genrec_pyg.testing import toy_graph
        >>> data = toy_graph()
        >>> Evaluator(data, 'test', ks=(5,))(Popularity(data))['recall@5']
        1.0
    """

    def __init__(
        self,
        data: HeteroData,
        split: str = 'test',
        ks: Sequence[int] = (10, 20),
        protocol: str = 'validation',
        batch_size: int = 1024,
        processes: Processes = ALONE,
    ):
        if protocol not in PROTOCOLS:
            raise ConfigError(
                f'protocol: got {protocol!r}, accepted are {", ".join(map(repr, PROTOCOLS))}'
            )
        ks = [ks] if isinstance(ks, int) else list(ks)
        if not ks or any(int(k) != k or k < 1 for k in ks):
            raise ConfigError(f'ks: got {list(ks)}, accepted are integers from 1')
        if batch_size < 1:
            raise ConfigError(f'batch_size: got {batch_size}, accepted are integers from 1')
        check_graph(data, finite=False)
        self.split, self.protocol = split, protocol
        self.ks = sorted({int(k) for k in ks})
        self.num_items = int(data[ITEM].num_nodes)
        self.batch_size = rows_per_block(self.num_items, batch_size)
        held_out = split_edges(data, split)
        if held_out.size(1) == 0:
            raise DataError(f'graph: the {split} split has no interaction to evaluate on')
        train = split_edges(data, 'train')
        self._known_masks = known_masks(data, split, protocol == 'validation')
        known = torch.cat([split_edges(data, name) for name in self._known_masks], dim=1)
        self.known = Adjacency.from_edge_index(
            known, size=(int(data[USER].num_nodes), self.num_items)
        )
        self.processes = processes
        user, row = held_out[0].unique(return_inverse=True)
        self._all_users, self._all_labels = user.cpu(), torch.stack([row, held_out[1]]).cpu()
        part = processes.slice(user.numel())
        mine = (row >= part.start) & (row < part.stop)
        self.user = user[part]
        self.label = torch.stack([row[mine] - part.start, held_out[1, mine]])
        self.popularity = torch.bincount(train[1], minlength=self.num_items)
        self._data = data
        self._checked: TrainingGraph | None = None

    def check(self, model: Recommender) -> None:
        r"""Refuses a model of another split, which was trained on what it is asked for.

        Raises:
            DataError: If the model has other users or items, or held-out pairs of this split are
                training pairs of it.
        """
        if self._checked is not model.graph:  # once, not every epoch
            check_held_out(model.graph, self._data, (self.split,))
            self._checked = model.graph

    @torch.no_grad()
    def top_k(self, model: Recommender) -> tuple[Tensor, Tensor]:
        r"""Scores and items ``[n, min(max(ks), I)]`` of the ``n`` users with held-out items (of
        this process), padded as :func:`genrec_pyg.ops.topk_excluding` does.

        Raises:
            DataError: If the model was made from another split.
            GenRecError: If a listed score is NaN or infinite.
        """
        self.check(model)
        self._to(model.graph.edge_index.device)
        score, item = self._lists_of(model, self.user)
        check_scores(score, self.user)
        return score, item

    @torch.no_grad()
    def lists_of(self, model: Recommender, user: Tensor) -> tuple[Tensor, Tensor]:
        r"""Scores and items ``[n, min(max(ks), I)]`` of users ``[n]``, on the CPU, as :meth:`top_k`
        has them.
        """
        self.check(model)
        self._to(model.graph.edge_index.device)
        score, item = self._lists_of(model, user.to(self.user.device))
        return score.cpu(), item.cpu()

    def _lists_of(self, model: Recommender, user: Tensor) -> tuple[Tensor, Tensor]:
        parts = []
        with model.known_edges(self._data, self._known_masks), model.cached_embeddings():
            for block in user.split(self.batch_size):
                parts.append(
                    model.top_k(
                        block, min(self.ks[-1], self.num_items), *self.known.select_rows(block)
                    )
                )
        score, item = (torch.cat(column) for column in zip(*parts))
        return score, item

    def measure(
        self, model: Recommender, metrics: Mapping[str, Metric] | None = None
    ) -> Measurement:
        r"""Measures ``model`` once for all time: with metrics beyond accuracy, and the values of
        every user.

        Args:
            model: Trained model.
            metrics: Functions by name, see :mod:`genrec_pyg.evaluation.metrics`; :obj:`None` takes
                those of this package and of installed ones.
        """
        item = self.top_k(model)[1]
        lists = self.lists(item)
        everything = training_graph(self._data, [])
        origin = {
            'training': everything.fingerprint(),
            'held_out': held_out_digests(self._data)[self.split],
            'split': self.split,
            'protocol': self.protocol,
            'k': self.ks[-1],
            'model': type(model).__name__,
        }
        activity = everything.user_degree().cpu()
        if has_split(self._data, HISTORY):
            activity += torch.bincount(
                split_edges(self._data, HISTORY)[0].cpu(), minlength=activity.numel()
            )
        further, values = measure_lists(
            lists, self._all_labels, self.ks, find_metrics() if metrics is None else metrics
        )
        users = per_user(
            lists, self._all_labels, self.ks, raw_ids(self._data, USER), activity, origin, values
        )
        return Measurement(self.figures(item), further, users)

    @property
    def all_users(self) -> Tensor:
        r"""Users with held-out items, those of all processes, ascending."""
        return self._all_users

    @functools.cached_property
    def graph(self) -> TrainingGraph:
        r"""Training graph with all modalities of the data, on the CPU."""
        return training_graph(self._data).to(torch.device('cpu'))

    def held_out(self, user: int) -> set[int]:
        r"""Held-out items of a user."""
        row = int(torch.searchsorted(self._all_users, user))
        if row == self._all_users.numel() or int(self._all_users[row]) != user:
            return set()
        return set(self._all_labels[1, self._all_labels[0] == row].tolist())

    def lists(self, item: Tensor) -> Lists:
        r"""Lists of all processes, on the CPU, from those of this one.

        Args:
            item: Lists from :meth:`top_k`.
        """
        whole = item.new_zeros(self._all_users.numel(), item.size(1))
        whole[self.processes.slice(whole.size(0))] = item
        return Lists(self._all_users, self.processes.sum(whole).cpu(), self.ks[-1], self.graph)

    def per_user_recall(self, item: Tensor, k: int, label: Tensor) -> tuple[Tensor, Tensor]:
        r"""Recall@k of every user (float64 ``[n]``) and the number of labels it is measured on
        ``[n]``.

        Args:
            item: Lists from :meth:`top_k`.
            k: Length of the list.
            label: Held-out pairs (row of the list, item) ``[2, L]``.
        """
        found = (item[label[0], :k] == label[1].unsqueeze(1)).any(dim=1)
        count = torch.bincount(label[0], minlength=item.size(0))
        hit = torch.bincount(label[0][found], minlength=item.size(0))
        return hit.double() / count.clamp(min=1), count

    def user_recall(self, model: Recommender, k: int) -> tuple[Tensor, Tensor]:
        r"""Users with held-out items ``[n]`` (of this process), ascending, and the Recall@k of
        each, float64 ``[n]``, for paired tests between models.

        Raises:
            ConfigError: If ``k`` is none of ``ks``.
        """
        if k not in self.ks:
            raise ConfigError(f'k: got {k}, accepted are {self.ks}')
        item = self.top_k(model)[1]
        return self.user, self.per_user_recall(item, k, self.label)[0]

    def __call__(self, model: Recommender) -> dict[str, float]:
        r"""Figures of ``model``, as :meth:`figures` gives them."""
        return self.figures(self.top_k(model)[1])

    def figures(self, item: Tensor) -> dict[str, float]:
        r"""Figures of lists: for each ``k`` ``recall@k``, ``ndcg@k``, ``precision@k``, ``map@k``,
        ``hit@k``, ``mrr@k``, ``coverage@k`` (share of items that appear in any list) and
        ``popularity@k`` (mean training users of a listed item); ``recall_warm`` and ``recall_cold``
        at the largest ``k`` on items with and without training interactions; and ``num_users``.

        Args:
            item: Lists from :meth:`top_k`, ``[n, min(max(ks), I)]``.
        """
        means = self._sums(item)
        listed = torch.stack(
            [
                torch.bincount(item[:, :k].reshape(-1), minlength=self.num_items + 1)[:-1]
                for k in self.ks
            ]
        )
        total = self.processes.sum(
            torch.stack([torch.stack(pair) for pair in means.values()])
        ).tolist()
        figures = {name: value / count for name, (value, count) in zip(means, total) if count > 0}
        warm_and_cold = {name: figures.pop(name) for name in list(figures) if '_' in name}
        for k, count in zip(self.ks, self.processes.sum(listed)):
            figures[f'coverage@{k}'] = float((count > 0).sum()) / self.num_items
            figures[f'popularity@{k}'] = float((count * self.popularity).sum()) / max(
                int(count.sum()), 1
            )
        return {**figures, **warm_and_cold, 'num_users': total[0][1]}

    def _sums(self, item: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        r"""Per mean its sum over the users of this process and their number, float64."""
        num_users = torch.tensor(float(item.size(0)), dtype=torch.float64, device=item.device)
        sums: dict[str, tuple[Tensor, Tensor]] = {}
        for k in self.ks:
            # Beyond the number of items only precision hangs on k; NDCG keeps a discount for every
            # position.
            lengths = {
                name: k if name == 'precision' else min(k, self.num_items)
                for name in _RANKING_METRICS
            }
            metrics = LinkPredMetricCollection(
                {name: metric(lengths[name]) for name, metric in _RANKING_METRICS.items()}
            )
            metrics = metrics.to(item.device)
            if item.size(0) > 0:
                metrics.update(item[:, :k], self.label)
            sums[f'recall@{k}'] = (self.per_user_recall(item, k, self.label)[0].sum(), num_users)
            sums.update(
                {
                    f'{name}@{k}': (value.double() * num_users, num_users)
                    for name, value in metrics.compute().items()
                }
            )
        warm = self.popularity[self.label[1]] > 0
        for name, mask in (('warm', warm), ('cold', ~warm)):
            recall, count = self.per_user_recall(item, self.ks[-1], self.label[:, mask])
            sums[f'recall_{name}@{self.ks[-1]}'] = (
                recall[count > 0].sum(),
                (count > 0).sum().double(),
            )
        return sums

    def _to(self, device: torch.device) -> None:
        if self.user.device != device:
            self.known = self.known.to(device)
            self.user, self.label, self.popularity = (
                x.to(device) for x in (self.user, self.label, self.popularity)
            )


def check_scores(score: Tensor, user: Tensor) -> None:
    r"""Refuses lists that rank by what is no number.

    Args:
        score: Scores of lists ``[n, k]``, padded with :math:`-\infty`.
        user: Users of the lists ``[n]``.

    Raises:
        GenRecError: If a score is NaN or :math:`+\infty`.
    """
    bad = (torch.isnan(score) | (score == torch.inf)).any(dim=1)
    if bool(bad.any()):
        raise GenRecError(
            f'the scores of {int(bad.sum())} users are NaN or infinite, the first is user '
            f'{int(user[bad][0])}: the model has diverged. Train it with a lower learning rate or '
            f'a gradient clip'
        )


def evaluate(
    model: Recommender,
    data: HeteroData,
    split: str = 'test',
    ks: Sequence[int] = (10, 20),
    protocol: str = 'validation',
    batch_size: int = 1024,
    processes: Processes = ALONE,
) -> dict[str, float]:
    r"""Evaluates ``model`` on one split of ``data``; arguments and figures as in
    :class:`Evaluator`.
    """
    return Evaluator(data, split, ks, protocol, batch_size, processes)(model)
