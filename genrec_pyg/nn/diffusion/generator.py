r"""Generates interactions for every user with a diffusion and turns them into a graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.diffusion.config import DenoiserTrainingConfig, GenerationConfig
from genrec_pyg.nn.diffusion.denoiser import Denoiser
from genrec_pyg.nn.diffusion.denoiser_training import DenoiserTraining, Wrap
from genrec_pyg.nn.diffusion.factory import make_objective
from genrec_pyg.nn.diffusion.generated_graph import GeneratedEdges, GeneratedGraph
from genrec_pyg.nn.diffusion.linear import LinearDenoiser
from genrec_pyg.nn.diffusion.objectives import Objective
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.diffusion.reverse_chain import ReverseChain
from genrec_pyg.nn.diffusion.states import ItemKeys, ItemViews, SparseRows
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, rows_per_block, topk_excluding


class Debias(Protocol):
    r"""Decides which changed entries stay, as :class:`~genrec_pyg.nn.cluster.InterestDebias`
    does.
    """

    def filter(self, user: Tensor, item: Tensor, added: Tensor) -> Tensor:
        r"""Boolean ``[n]``: keep the change of entry ``(user, item)``; ``added`` marks 0 to 1, the
        others are 1 to 0.
        """


class Candidates(NamedTuple):
    r"""Entries that may take a generated value, descending in probability within a user.

    Args:
        user: Users ``[n]``, ascending.
        item: Items ``[n]``.
        probability: Predicted probability of a clean one ``[n]``.
        observed: Boolean ``[n]``: the training rows have a one here.
    """

    user: Tensor
    item: Tensor
    probability: Tensor
    observed: Tensor


class Changes(NamedTuple):
    r"""Candidates and what became of them, as :meth:`InterestGenerator.changes` gives them.

    Args:
        user: Users ``[n]``, ascending.
        item: Items ``[n]``.
        probability: Predicted probability of a clean one ``[n]``.
        changed: Boolean ``[n]``: the generated value is not the observed one.
        added: Boolean ``[n]``: there is no one here in the training rows, so that a change adds it.
        undone: Boolean ``[n]``: the debiasing undid the change.
    """

    user: Tensor
    item: Tensor
    probability: Tensor
    changed: Tensor
    added: Tensor
    undone: Tensor


class InterestGenerator(GraphModule):
    r"""Interest diffusion: trains a denoiser on noisy rows and rebuilds a graph
    (`GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_;
    `DiffMM, ACM MM 2024 <https://arxiv.org/abs/2406.11781>`_).

    Once per epoch, :meth:`fit` makes one pass over all users and :meth:`generate` runs the reverse
    chain for every user, then chooses edges: among the ``topk`` entries of largest probability the
    generated value replaces the observed one, changes pass the debiasing, and the ``rebuild_k``
    entries of largest probability become the user's generated edges.

    Args:
        graph: Training graph.
        denoiser: Denoiser, whose own objective wins where it has one.
        process: Diffusion process; flips or Gaussian noise.
        training: How the denoiser is trained.
        generation: Which entries become edges.
        start: Where the reverse chain starts, see
            :class:`~genrec_pyg.nn.diffusion.DiffusionConfig`.
        objective: Objective in place of that of ``training``.
        debias: Filter of changed entries or none.
        signal_weight: Weight of the modality signal injection of DiffMM.
    """

    #: Class of the graph that is rebuilt.
    graph_class: type[GeneratedGraph] = GeneratedGraph
    #: Whether the denoiser drops out where edges are generated, as where it is trained.
    generates_with_dropout: bool = False

    def __init__(
        self,
        graph: TrainingGraph,
        denoiser: Denoiser,
        process: DiffusionProcess,
        training: DenoiserTrainingConfig = DenoiserTrainingConfig(),
        generation: GenerationConfig = GenerationConfig(),
        start: str = 'diffused',
        objective: Objective | None = None,
        debias: Debias | None = None,
        signal_weight: float = 0.0,
    ):
        super().__init__()
        objective = (
            objective
            or denoiser.objective
            or make_objective(training.objective, training.focal_alpha)
        )
        self.graph = graph
        self.denoiser = denoiser
        self.process = process
        self.objective = objective
        self.generation = generation
        self.debias = debias
        self.denoiser_training = DenoiserTraining(
            denoiser, process, objective, training, signal_weight
        )
        self.chain = ReverseChain(denoiser, process, objective, start)
        self.generated = self.graph_class(graph, generation.edge_weight, generation.edge_dropout)
        self.interactions = Adjacency.from_edge_index(
            graph.edge_index, size=(graph.num_users, graph.num_items)
        )
        self.log_degree = torch.log1p(graph.item_degree().float())
        self._candidates: Candidates | None = None

    def reset_parameters(self) -> None:
        r"""Redraws the denoiser and forgets its optimizer and the generated edges."""
        self.denoiser.reset_parameters()
        self.denoiser_training.forget()
        self._candidates = None
        self.generated.replace(None)

    def wrap_optimizer(self, wrap: Wrap | None) -> None:
        r"""Recreates the optimizer at its next use, within ``wrap`` unless it is :obj:`None`."""
        self.denoiser_training.wrap_optimizer(wrap)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InterestGenerator:
        super()._apply(fn, recurse)
        self._candidates = None  # made again where the graph has moved to
        return self

    @property
    def edges(self) -> GeneratedEdges | None:
        r"""Generated edges of this epoch."""
        return self.generated.edges

    def adjacency(self) -> Adjacency | None:
        r"""Normalized adjacency of the generated graph, or none before the first :meth:`generate`;
        see :class:`~genrec_pyg.nn.diffusion.GeneratedGraph`.
        """
        return self.generated.adjacency()

    def rows(self, user: Tensor) -> SparseRows:
        r"""Training rows ``[B, I]`` of the users ``user`` ``[B]``."""
        return SparseRows(*self.interactions.select_rows(user), self.graph.num_items)

    def fit(self, views: ItemViews) -> dict[str, float]:
        r"""Trains the denoiser for one pass over all users; returns mean loss terms and seconds."""
        return (
            self.denoiser_training.epoch(self.interactions, views)
            if self.denoiser.trainable
            else {}
        )

    def loss(self, rows: SparseRows, views: ItemViews) -> dict[str, Tensor]:
        r"""Loss terms of the denoiser for clean rows."""
        return self.denoiser_training.loss(rows, views)

    def sample(self, rows: SparseRows, views: ItemViews, keys: ItemKeys | None = None) -> Tensor:
        r"""Logits ``[B, I]`` at the end of the reverse chain, see
        :meth:`~genrec_pyg.nn.diffusion.reverse_chain.ReverseChain.sample`.
        """
        return self.chain.sample(rows, views, keys)

    @torch.no_grad()
    def predict(self, views: ItemViews) -> tuple[Tensor, Tensor]:
        r"""Queries ``[U, q]`` of all users' observed rows and keys ``[I, q]``: the prediction that
        enters scores.
        """
        self.denoiser.eval()  # no dropout in scores, even when requested in the middle of training
        users = torch.arange(self.graph.num_users, device=views.embedding.device)
        query = torch.cat(
            [self._query(self.rows(user), views) for user in users.split(self._batch_size)]
        )
        return query, self.denoiser.keys(views)

    @property
    def _batch_size(self) -> int:
        return self.denoiser_training.config.batch_size

    def _query(self, rows: SparseRows, views: ItemViews) -> Tensor:
        if isinstance(self.denoiser, LinearDenoiser):
            return self.denoiser.clean_query(rows)
        return self.denoiser.query(rows, rows.count().new_zeros(rows.num_rows), views)

    @torch.no_grad()
    def generate(self, views: ItemViews) -> dict[str, float]:
        r"""Rebuilds the generated edges of all users; returns the share of new edges and
        seconds.
        """
        begin = time.perf_counter()
        self.denoiser.train(self.generates_with_dropout)  # the model is in training mode here
        candidates = self._candidates if self.chain.is_constant else None
        if candidates is None:
            candidates = self._all_candidates(views)
            self._candidates = candidates if self.chain.is_constant else None
        user, item, probability, observed = self._choose(candidates)
        self.generated.rebuild(torch.stack([user, item]), probability)
        share = float((~observed).float().mean()) if observed.numel() else 0.0
        return {
            'generated_edges': float(user.numel()),
            'share_new_edges': share,
            'seconds_rebuild': time.perf_counter() - begin,
        }

    @torch.no_grad()
    def changes(self, views: ItemViews) -> Changes:
        r"""What a generation changes and what the debiasing undoes of it, for people to look at;
        nothing is kept of it. Its random numbers are those of torch's global generator.
        """
        self.denoiser.train(self.generates_with_dropout)
        candidates = self._all_candidates(views)
        one, undone = self._flip(candidates)
        return Changes(
            candidates.user,
            candidates.item,
            candidates.probability,
            (one != candidates.observed) | undone,
            ~candidates.observed,
            undone,
        )

    def _all_candidates(self, views: ItemViews) -> Candidates:
        users = torch.arange(self.graph.num_users, device=views.embedding.device)
        block = rows_per_block(self.graph.num_items, self._batch_size)
        keys = self.chain.keys(views)  # once: they are far larger than a block's queries
        parts = [self._rank(user, views, keys) for user in users.split(block)]
        return Candidates(*(torch.cat(column) for column in zip(*parts)))

    def _rank(self, user: Tensor, views: ItemViews, keys: ItemKeys) -> Candidates:
        rows = self.rows(user)
        exclude = (rows.rowptr, rows.col) if self.generation.candidates == 'new' else (None, None)
        logits = self.sample(rows, views, keys)
        log_z = self.objective.log_normalizer(logits)
        # Probabilities rise with the logits of a row.
        best, item = topk_excluding(logits, min(self.generation.topk, rows.num_items), *exclude)
        probability = self.objective.probability(best, rows.count(), log_z)
        row = torch.arange(rows.num_rows, device=user.device).unsqueeze(1).expand_as(item)
        valid = item < rows.num_items
        row, item = row[valid], item[valid]
        return Candidates(user[row], item, probability[valid], rows.contains(row, item))

    def _flip(self, candidates: Candidates) -> tuple[Tensor, Tensor]:
        r"""Generated values after the debiasing, and which changes it undid."""
        probability, observed = candidates.probability, candidates.observed
        one = (
            torch.rand_like(probability) < probability
            if self.generation.final == 'sample'
            else probability > 0
        )
        changed, undone = one != observed, torch.zeros_like(one)
        if self.debias is not None and bool(changed.any()):
            undone[changed] = ~self.debias.filter(
                candidates.user[changed], candidates.item[changed], one[changed]
            )
        return one ^ undone, undone

    def _choose(self, candidates: Candidates) -> Candidates:
        one, _ = self._flip(candidates)
        user, item, probability, observed = (column[one] for column in candidates)
        # Within a user candidates descend in probability, so the first rebuild_k are the best.
        count = torch.bincount(user, minlength=self.graph.num_users)
        rank = torch.arange(user.numel(), device=user.device) - (count.cumsum(0) - count)[user]
        best = rank < self.generation.rebuild_k
        return Candidates(user[best], item[best], probability[best], observed[best])

    def get_extra_state(self) -> dict[str, Any]:
        r"""Generated edges and optimizer, so that a checkpoint continues and evaluates exactly as
        the run did.
        """
        return {
            'edges': None if self.edges is None else list(self.edges),
            'optimizer': self.denoiser_training.state_dict(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        r"""Restores what :meth:`get_extra_state` returned."""
        device = self.graph.edge_index.device
        edges = state['edges']
        self.generated.replace(
            None if edges is None else GeneratedEdges(*(x.to(device) for x in edges))
        )
        self.denoiser_training.load_state_dict(state['optimizer'])
