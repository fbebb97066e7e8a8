r"""What the comparisons with public implementations share (``agreement.py``): the toy graph that
both sides get, equal weights, equal random draws, and the figures of a comparison.

The adapter of a toolbox is a module with ``REPOSITORY``, its owner, name and license, and
``MODELS``: command-line name of our model to a function from the folder of a checkout to a list of
:class:`Agreement`. It imports the toolbox inside :func:`foreign_code`, in a process of its own, by
the names of modules, classes and settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from benchmarks.common.foreign import foreign_code
from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn import bootstrap
from genrec_pyg.nn.modality import encoder

__all__ = [
    'TOLERANCE',
    'Agreement',
    'Tables',
    'copy_weights',
    'fixed_dropout',
    'foreign_code',
    'layer_tables',
    'loss_agreements',
    'pair_agreements',
    'randomize',
    'toy_batch',
    'toy_graph',
]

#: Largest relative difference of quantities that agree, by type of number.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-6}

#: Tables that both sides have: name to theirs and ours.
Tables = Mapping[str, tuple[Tensor, Tensor]]


class Agreement(NamedTuple):
    r"""One quantity as both sides compute it.

    Args:
        quantity: What it is.
        theirs: Value of the public implementation.
        ours: Value of this package, of the same shape.
        note: Under which settings, and how the two programs differ beyond them.
    """

    quantity: str
    theirs: Tensor
    ours: Tensor
    note: str = ''

    @property
    def difference(self) -> float:
        r"""Largest absolute difference; not a number if either side has one that is none.

        Raises:
            ValueError: If the shapes differ.
        """
        if self.theirs.shape != self.ours.shape:
            raise ValueError(
                f'{self.quantity}: theirs has shape {tuple(self.theirs.shape)}, ours '
                f'{tuple(self.ours.shape)}'
            )
        return float((self.theirs - self.ours).abs().max())

    @property
    def relative(self) -> float:
        r"""Largest absolute difference over the largest absolute value of either side; 0 where all
        are zero.
        """
        largest = max(float(value.abs().max()) for value in (self.theirs, self.ours))
        return self.difference / largest if largest != 0 else 0.0

    @property
    def agrees(self) -> bool:
        r"""Whether the relative difference is within the tolerance of the coarser of the two types
        of numbers.
        """
        return self.relative <= max(TOLERANCE[value.dtype] for value in (self.theirs, self.ours))


def toy_graph(modalities: Iterable[str] = ('image', 'text'), seed: int = 0) -> HeteroData:
    r"""Canonical graph of 30 users, 20 items and 150 interactions, 120 of them for training.

    Popularity is skewed. Every node has a training interaction; the last three users and items have
    exactly one, where normalization by degrees is at its edge. Widths of the modalities differ.

    Args:
        modalities: Names, in the order of the graph.
        seed: Seed; equal seeds give equal graphs.
    """
    num_users, num_items, num_edges, num_single = 30, 20, 150, 3
    rng = np.random.default_rng(seed)
    users, items = num_users - num_single, num_items - num_single
    # Every node once, then popular items more often, until the training part is full; the rest is
    # held out.
    pairs = {(user, user % items): 0 for user in range(users)}
    pairs.update({(users + n, n): 0 for n in range(num_single)})
    pairs.update({(n, items + n): 0 for n in range(num_single)})
    share = 1 / np.arange(1, items + 1)
    while len(pairs) < num_edges:
        pair = int(rng.integers(users)), int(rng.choice(items, p=share / share.sum()))
        pairs.setdefault(pair, 0 if len(pairs) < 120 else 1 + len(pairs) % 2)
    edges = np.array(list(pairs)).T
    features = {
        name: rng.standard_normal((num_items, 5 + 2 * number))
        for number, name in enumerate(modalities)
    }
    return build_graph(
        *edges, np.array(list(pairs.values())), num_users, num_items, features, 'toy graph'
    )


def toy_batch(graph: TrainingGraph, num_triples: int = 64, seed: int = 0) -> Triples:
    r"""The same triples ``[B]`` for both sides; users and items occur several times, negatives have
    no training edge.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(graph.num_edges, (num_triples,), generator=generator)
    seen = torch.zeros(graph.num_users, graph.num_items).index_put_(
        tuple(graph.edge_index), torch.ones(graph.num_edges)
    )
    user, positive = graph.edge_index[:, chosen]
    return Triples(user, positive, torch.multinomial(1 - seen[user], 1, generator=generator)[:, 0])


def randomize(tensors: Iterable[Tensor], scale: float = 0.3, seed: int = 0) -> None:
    r"""Fills ``tensors`` with normal numbers, so that also what starts from zero, such as a bias,
    takes part.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))


def copy_weights(tables: Tables) -> None:
    r"""Copies theirs to ours.

    Raises:
        ValueError: If the shapes of a pair differ.
    """
    with torch.no_grad():
        for name, (theirs, ours) in tables.items():
            if theirs.shape != ours.shape:
                raise ValueError(
                    f'{name}: theirs has shape {tuple(theirs.shape)}, ours {tuple(ours.shape)}'
                )
            ours.copy_(theirs)


def layer_tables(
    layers: Mapping[str, tuple[torch.nn.Linear, torch.nn.Linear]],
) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Tables of linear layers: name to theirs and ours, with or without bias."""
    return {
        f'{name} {kind}': (getattr(theirs, kind), getattr(ours, kind))
        for name, (theirs, ours) in layers.items()
        for kind in ('weight', 'bias')
        if getattr(theirs, kind) is not None
    }


def pair_agreements(
    theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor], note: str = ''
) -> list[Agreement]:
    r"""Of the final user and item embeddings."""
    return [
        Agreement(f'{name} embeddings', *(value.detach() for value in pair), note)
        for name, *pair in zip(('user', 'item'), theirs, ours)
    ]


def loss_agreements(
    theirs: Tensor, ours: Tensor, tables: Tables, note: str = '', name: str = 'loss'
) -> list[Agreement]:
    r"""Of a loss and of its gradients with respect to ``tables``; a table that it does not depend
    on has the gradient zero.

    Args:
        theirs: Their loss, of one element.
        ours: Ours.
        tables: Tables with gradient; none where only the loss is compared.
        note: As in :class:`Agreement`, told once, with the loss.
        name: What the loss is called.
    """
    gradients = [
        torch.autograd.grad(loss.sum(), side, allow_unused=True, materialize_grads=True)
        for loss, side in zip((theirs, ours), zip(*tables.values()))
    ]
    return [
        Agreement(name, theirs.detach().view(()), ours.detach().view(()), note),
        *(
            Agreement(f'gradient of the {name}: {table}', *pair)
            for table, *pair in zip(tables, *gradients)
        ),
    ]


@contextmanager
def fixed_dropout() -> Iterator[None]:
    r"""Within this context ``torch.nn.functional.dropout`` drops the negative entries and scales up
    the others, so that both sides draw the same, whether they drop entries of a table before or
    after taking the rows of a batch.
    """

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return x * (x > 0) / (1 - p) if training and p > 0 else x

    def keyed(x: Tensor, p: float, training: bool, first_row: int = 0) -> Tensor:
        return dropout(x, p, training)

    with (
        patch.object(F, 'dropout', dropout),
        patch.object(encoder, 'keyed_dropout', keyed),
        patch.object(bootstrap, 'keyed_dropout', keyed),
    ):
        yield
