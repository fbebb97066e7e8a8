r"""Late fusion of trained models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.recommender import Recommender


class Blend(Recommender):
    r"""Weighted sum of the standardized scores of trained models (CombSUM of
    `Fox and Shaw, TREC 1993 <https://trec.nist.gov/pubs/trec2/papers/txt/23.txt>`_ after a z-score
    per user).

    .. math::
        \mathrm{score}_{ui} = \sum_m w_m \frac{s^m_{ui}
        - \mathrm{mean}_j\, s^m_{uj}}{\mathrm{std}_j\, s^m_{uj}}

    It is not registered: ``python -m genrec_pyg.blend`` makes one from finished runs. It has no
    embeddings, so that all items are ranked.

    Args:
        data: Canonical graph or training graph.
        members: Trained models by name.
        weights: Weight of every member; those of weight 0 are left out.

    Raises:
        ConfigError: If names differ, a weight is negative or not finite, all are 0, or a member has
            other users or items.
    """

    trainable = False

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        members: Mapping[str, Recommender],
        weights: Mapping[str, float],
    ):
        super().__init__(data, modalities=[])
        check_weights(weights)
        if members.keys() != weights.keys():
            raise ConfigError(
                f'weights: got {list(weights)}, accepted are those of {list(members)}'
            )
        for name, member in members.items():
            if (member.num_users, member.num_items) != (self.num_users, self.num_items):
                raise ConfigError(
                    f'members: {name} has {member.num_users} users and {member.num_items} items, '
                    f'accepted are {self.num_users} and {self.num_items}'
                )
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
        self.members = torch.nn.ModuleList(members[name] for name in self.weights)
        self.reads_history = any(member.reads_history for member in self.members)

    def score(self, user: Tensor) -> Tensor:
        r"""Scores ``[B, I]`` of all items for users ``user`` ``[B]``."""
        total = 0
        for weight, member in zip(self.weights.values(), self.members):
            total = standardized(member.score(user)) * weight + total
        return total

    @contextmanager
    def known_edges(self, data: HeteroData, masks: Sequence[str]) -> Iterator[None]:
        r"""Within this context all members know the interactions ``masks`` of ``data``."""
        with _all(member.known_edges(data, masks) for member in self.members):
            yield

    @contextmanager
    def cached_embeddings(self) -> Iterator[None]:
        r"""Within this context every member computes its embeddings once."""
        with _all(member.cached_embeddings() for member in self.members):
            yield


def check_weights(weights: Mapping[str, float]) -> None:
    r"""Refuses weights that are no mixture.

    Raises:
        ConfigError: If one is negative or not finite, or none is positive.
    """
    numbers = all(
        isinstance(weight, (int, float)) and 0 <= weight < float('inf')
        for weight in weights.values()
    )
    if not numbers or not any(weights.values()):
        raise ConfigError(
            f'weights: got {dict(weights)}, accepted are numbers from 0, at least one above it'
        )


def standardized(scores: Tensor) -> Tensor:
    r"""Rows of mean 0 and deviation 1, from scores ``[B, I]``; a row of equal scores becomes 0.

    Args:
        scores: Finite scores.
    """
    centered = scores - scores.mean(dim=1, keepdim=True)
    deviation = centered.square().mean(dim=1, keepdim=True).sqrt()
    # Equal scores differ by rounding, which would otherwise be blown up to a ranking.
    floor = torch.finfo(scores.dtype).eps * 8 * scores.abs().amax(dim=1, keepdim=True)
    return torch.where(deviation > floor, centered / deviation, torch.zeros_like(centered))


@contextmanager
def _all(contexts: Iterator[AbstractContextManager]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield
