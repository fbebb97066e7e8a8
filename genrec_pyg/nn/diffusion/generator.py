r"""Generates interactions for every user with a diffusion and turns them into a graph."""
from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Optional, Protocol

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import UserRowLoader
from genrec_pyg.nn.diffusion import objective as objectives
from genrec_pyg.nn.diffusion.linear import LinearDenoiser
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.diffusion.states import ItemKeys, ItemViews, RowState, SparseRows
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, bipartite_adjacency, rows_per_block, topk_excluding
from genrec_pyg.optim import MirrorGradient
from genrec_pyg.utils.precision import full_precision, widened


class Debias(Protocol):
    r"""Decides which changed entries stay, as :class:`~genrec_pyg.nn.cluster.InterestDebias` does."""

    def filter(self, user: Tensor, item: Tensor, added: Tensor) -> Tensor:
        r"""Boolean ``[n]``: keep the change of entry ``(user, item)``; ``added`` marks 0 to 1, the others are 1 to 0."""


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


class GeneratedEdges(NamedTuple):
    r"""Edges made by a generator.

    Args:
        edge_index: Users and items ``[2, G]``.
        probability: Predicted probability ``[G]``.
        kept: Boolean, survives edge dropout in this epoch: ``[G]`` per edge, or per stored entry of the adjacency matrix where
            the generator drops entries.
    """
    edge_index: Tensor
    probability: Tensor
    kept: Tensor


class InterestGenerator(GraphModule):
    r"""Interest diffusion: trains a denoiser on noisy rows and rebuilds a graph (`GenRec-V1, ACM MM 2025
    <https://doi.org/10.1145/3746027.3755734>`_; `DiffMM, ACM MM 2024 <https://arxiv.org/abs/2406.11781>`_).

    Once per epoch, :meth:`fit` makes one pass over all users and :meth:`generate` runs the reverse chain from
    :math:`\mathbf{x}_T \sim q(\cdot | \mathbf{x}_0)` for every user, then chooses edges: among the ``gen_topk`` entries of
    largest probability the generated value replaces the observed one, changes pass the debiasing, and the ``rebuild_k``
    entries of largest probability become the user's generated edges.

    Args:
        graph: Training graph.
        denoiser: Module ``(state, t, views) -> logits [B, I]``.
        process: Diffusion process; flips or Gaussian noise.
        objective: ``'multinomial'``, ``'focal'``, ``'bce'`` or ``'squared'``, the squared error with the process's weight of
            the step; released GenRec-V1 always takes its own focal loss.
        focal_alpha: Share of the weight on ones in the focal loss.
        variational_weight: Weight of the variational term, 0 for none.
        contrast_weight: Weight of the modality-aware contrastive term, per modality.
        contrast_temperature: Its temperature.
        signal_weight: Weight of the modality signal injection; views then need ``features`` and ``items``.
        gen_topk: Entries per user that may take a generated value.
        rebuild_k: Generated edges per user.
        candidates: ``'new'`` generates only items that the user has not interacted with, ``'all'`` also observed ones
            (then a user with a long history mostly receives edges that exist already).
        final: The last reverse step: ``'mode'`` takes the most probable entries, ``'sample'`` draws each one, which leaves
            nearly no new edge where probabilities are calibrated (about 0.01).
        edge_weight: ``'probability'`` weighs an edge by its probability relative to the user's best, ``'binary'`` by 1.
        keep: Probability with which an edge survives in the training of an epoch; survivors are divided by it.
        drop: What edge dropout removes: ``'pairs'``, undirected edges with both directions together, self loops untouched, in
            training only; ``'entries'``, every stored entry of the adjacency matrix by itself, self loops among them, also in
            evaluation (released GenRec-V1).
        start: Where the reverse chain starts: ``'diffused'`` from :math:`\mathbf{x}_T`, ``'observed'`` with a single
            prediction from :math:`\mathbf{x}_0` at the first step, ``'clean'`` from :math:`\mathbf{x}_0` taken for
            :math:`\mathbf{x}_T`, without noise (DiffMM).
        debias: Filter of changed entries or none.
        num_negatives: Items sampled per batch to estimate the normalizer of the multinomial objective; 0 takes all items.
        lr: Learning rate of the denoiser's Adam.
        batch_size: Users per batch.

    Raises:
        ConfigError: On an option outside its accepted values.
    """

    def __init__(self, graph: TrainingGraph, denoiser: torch.nn.Module, process: DiffusionProcess,
                 objective: str = 'multinomial',
                 focal_alpha: float = 0.25, variational_weight: float = 0.0, contrast_weight: float = 0.01,
                 contrast_temperature: float = 0.2, gen_topk: int = 5, rebuild_k: int = 1, candidates: str = 'new',
                 final: str = 'mode', edge_weight: str = 'probability', keep: float = 0.5, drop: str = 'pairs',
                 start: str = 'diffused', debias: Optional[Debias] = None, num_negatives: int = 0, lr: float = 1e-3,
                 batch_size: int = 1024, signal_weight: float = 0.0):
        super().__init__()
        for name, value, accepted in (('objective', objective, objectives.OBJECTIVES),
                                      ('candidates', candidates, ('new', 'all')), ('drop', drop, ('pairs', 'entries')),
                                      ('final', final, ('mode', 'sample')),
                                      ('start', start, ('diffused', 'observed', 'clean')),
                                      ('edge_weight', edge_weight, ('probability', 'binary'))):
            if value not in accepted:
                raise ConfigError(f"{name}: got {value!r}, accepted are {', '.join(map(repr, accepted))}")
        if not 0 < keep <= 1:
            raise ConfigError(f'keep: got {keep}, accepted are numbers in (0, 1]')
        if num_negatives < 0 or num_negatives > 0 and (objective != 'multinomial' or variational_weight > 0):
            raise ConfigError(f"num_negatives: got {num_negatives}, accepted are 0, or with objective 'multinomial' and "
                              'variational_weight 0 integers from 1')
        if not 1 <= rebuild_k <= gen_topk:
            raise ConfigError(f'rebuild_k: got {rebuild_k}, accepted are 1 to gen_topk = {gen_topk}')
        self.graph = graph
        self.denoiser = denoiser
        self.process = process
        self.objective = 'focal' if process.released else denoiser.objective or objective
        self.focal_alpha = focal_alpha
        self.variational_weight = variational_weight
        self.contrast_weight = contrast_weight
        self.contrast_temperature = contrast_temperature
        self.signal_weight = signal_weight
        self.gen_topk = min(gen_topk, graph.num_items)
        self.rebuild_k = min(rebuild_k, graph.num_items)
        self.candidates = candidates
        self.final = final
        self.edge_weight = edge_weight
        self.keep = keep
        self.drop = drop
        self.start = start
        self.debias = debias
        self.num_negatives = num_negatives
        self.lr = lr
        self.batch_size = batch_size
        self.interactions = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
        self.log_degree = torch.log1p(graph.item_degree().float())
        self.edges: Optional[GeneratedEdges] = None
        self._optimizer: Optional[torch.optim.Optimizer] = None
        self._wrap: Optional[Callable[[torch.optim.Optimizer], MirrorGradient]] = None
        self._optimizer_state: Optional[dict[str, Any]] = None
        self._adjacencies: dict[bool, Adjacency] = {}
        self._candidates: Optional[Candidates] = None

    def reset_parameters(self) -> None:
        r"""Redraws the denoiser and forgets its optimizer and the generated edges."""
        self.denoiser.reset_parameters()
        self._optimizer = self._optimizer_state = self._candidates = None
        self._set_edges(None)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        r"""The denoiser's own Adam, made on first use so that it sees the parameters on their final device, and wrapped as
        :meth:`wrap_optimizer` says."""
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(self.denoiser.parameters(), lr=self.lr, fused=True)
            if self._wrap is not None:
                self._optimizer = self._wrap(self._optimizer)
            if self._optimizer_state is not None:
                self._optimizer.load_state_dict(self._optimizer_state)
                self._optimizer_state = None
        return self._optimizer

    def wrap_optimizer(self, wrap: Optional[Callable[[torch.optim.Optimizer], MirrorGradient]]) -> None:
        r"""Recreates the optimizer at its next use, within ``wrap`` unless it is :obj:`None`."""
        self._wrap, self._optimizer, self._optimizer_state = wrap, None, None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InterestGenerator:
        super()._apply(fn, recurse)
        self._adjacencies, self._candidates = {}, None  # made again where the graph has moved to
        return self

    def rows(self, user: Tensor) -> SparseRows:
        r"""Training rows ``[B, I]`` of the users ``user`` ``[B]``."""
        return SparseRows(*self.interactions.select_rows(user), self.graph.num_items)

    def fit(self, views: ItemViews) -> dict[str, float]:
        r"""One pass of denoiser training over all users in random order; returns mean loss terms and seconds."""
        if not self.denoiser.trainable:
            return {}
        begin = time.perf_counter()
        self.denoiser.train()
        if isinstance(self.optimizer, MirrorGradient):
            self.optimizer.start_epoch()
        totals: dict[str, Tensor] = {}
        keys = self.denoiser.keys(views)
        keys = None if keys.requires_grad else keys  # keys without parameters serve all batches
        for user, rowptr, col in UserRowLoader(self.interactions, self.batch_size, shuffle=True):
            for name, term in self._step(SparseRows(rowptr, col, self.graph.num_items), views, keys).items():
                totals[name] = totals.get(name, 0) + term * user.numel()
        figures = {name: float(total) / self.graph.num_users for name, total in totals.items()}
        return {**figures, 'seconds_denoiser': time.perf_counter() - begin}

    def _step(self, rows: SparseRows, views: ItemViews, keys: Optional[Tensor]) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            found = self.loss(rows, views, keys)
            loss = sum(found.values())
            with full_precision(loss):
                loss.backward()
            # Autocast caches cast weights until its context ends; the cache is cleared because the weights change here.
            torch.clear_autocast_cache()
            for name, term in found.items():  # of the first time: what the batch found before its step
                terms.setdefault(name, term.detach())
            return loss

        self.optimizer.step(closure)
        self.optimizer.zero_grad(set_to_none=True)  # now, so that no gradient is held through the next forward pass
        return terms

    def loss(self, rows: SparseRows, views: ItemViews, keys: Optional[Tensor] = None) -> dict[str, Tensor]:
        r"""Loss terms for clean rows: the objective, the variational, the modality-aware contrastive and the signal term.

        Args:
            rows: Clean rows.
            views: Item views.
            keys: The denoiser's keys where they are already known; they are read by sampled objectives only.
        """
        t = torch.randint(self.process.num_steps, (rows.num_rows,), device=rows.col.device)
        rates = self.process.rates(rows)
        noisy = self.process.diffuse(rows, t, rates)
        if 0 < self.num_negatives < rows.num_items:
            keys = self.denoiser.keys(views) if keys is None else keys
            query = self.denoiser.query(noisy, t, views)
            with full_precision(query):
                return self._sampled_loss(widened(query), widened(keys), rows, views)
        logits = widened(self.denoiser(noisy, t, views))
        if self.process.released:
            return {'denoiser_focal': objectives.released_focal_loss(logits, rows)}
        if self.objective == 'squared':
            weight = self.process.step_weight(rows, rates).to(logits)[t]
            terms = {'denoiser_squared': objectives.squared_error(logits, rows, weight)}
        else:
            terms = {f'denoiser_{self.objective}': self._objective(logits, rows)}
        if self.variational_weight > 0:
            terms['denoiser_variational'] = self.variational_weight * self.process.variational(
                self._estimate(logits, rows), rows, noisy, t, rates)
        if self.contrast_weight > 0 and views.num_modalities > 0:
            terms['denoiser_contrast'] = self.contrast_weight * objectives.modality_contrast(
                self._expected(logits) @ views.embedding, rows, views, self.contrast_temperature)
        if self.signal_weight > 0:
            terms['denoiser_signal'] = self.signal_weight * objectives.signal_error(self._expected(logits), rows, views)
        return terms

    def _expected(self, logits: Tensor) -> Tensor:
        r"""Clean rows up to a factor per row that the objective leaves open."""
        if self.objective == 'multinomial':
            return logits.softmax(dim=1)
        return logits if self.objective == 'squared' else logits.sigmoid()

    def _estimate(self, logits: Tensor, rows: SparseRows) -> Tensor:
        r"""Estimate of the clean rows as the process wants it."""
        if self.objective == 'squared' and not self.process.binary:
            return logits
        return objectives.clean_probability(logits, rows.count(), self.objective)

    def _sampled_loss(self, query: Tensor, keys: Tensor, rows: SparseRows, views: ItemViews) -> dict[str, Tensor]:
        sample = torch.randperm(rows.num_items, device=query.device)[:self.num_negatives].sort().values
        loss, ones, others = objectives.sampled_multinomial(query, keys, rows, sample)
        terms = {'denoiser_multinomial': loss}
        if self.contrast_weight > 0 and views.num_modalities > 0:
            profile = others @ views.embedding[sample]
            profile = profile.index_add(0, rows.row(), ones.unsqueeze(1) * views.embedding[rows.col.long()])
            terms['denoiser_contrast'] = self.contrast_weight * objectives.modality_contrast(
                profile, rows, views, self.contrast_temperature)
        return terms

    def _objective(self, logits: Tensor, rows: SparseRows) -> Tensor:
        if self.objective == 'multinomial':
            return objectives.multinomial_loss(logits, rows)
        if self.objective == 'focal':
            return objectives.focal_loss(logits, rows, self.focal_alpha)
        return objectives.binary_cross_entropy(logits, rows)

    @property
    def _factored(self) -> bool:
        r"""Whether the estimate itself, of which queries and keys are factors, is what a linear process takes."""
        return self.process.linear and self.objective == 'squared'

    def _keys(self, views: ItemViews) -> ItemKeys:
        return ItemKeys(widened(self.denoiser.keys(views)))

    @torch.no_grad()
    def sample(self, rows: SparseRows, views: ItemViews, keys: Optional[ItemKeys] = None) -> Tensor:
        r"""Reverse chain for clean rows; returns the logits ``[B, I]`` of the last prediction.

        Args:
            rows: Clean rows.
            views: Item views.
            keys: The denoiser's keys, where several blocks of rows share them.
        """
        keys = keys or self._keys(views)
        rates = self.process.rates(rows)
        state: RowState = rows
        last = 0 if self.start == 'observed' else self.process.num_steps - 1
        if self.start == 'diffused':
            state = self.process.diffuse(rows, torch.full_like(rows.rowptr[1:], last, dtype=torch.long), rates)
        for step in range(last, -1, -1):
            t = torch.full((rows.num_rows,), step, dtype=torch.long, device=rows.col.device)
            query = self.denoiser.query(state, t, views)
            if step > 0 and self._factored:
                with full_precision(query):
                    state = self.process.reverse_factored(state, widened(query), keys, step, rates)
                continue
            if step == 0:  # these are ranked: in eight bits many would be equal
                with full_precision(query):
                    return widened(query) @ keys.key.t()
            logits = widened(query @ keys.key.t())
            state = self.process.reverse(state, self._estimate(logits, rows), step, rates)

    @torch.no_grad()
    def predict(self, views: ItemViews) -> tuple[Tensor, Tensor]:
        r"""Queries ``[U, q]`` of all users' observed rows and keys ``[I, q]``: the prediction that enters scores."""
        self.denoiser.eval()  # no dropout in scores, even when requested in the middle of training
        users = torch.arange(self.graph.num_users, device=views.embedding.device)
        query = torch.cat([self._query(self.rows(user), views) for user in users.split(self.batch_size)])
        return query, self.denoiser.keys(views)

    def _query(self, rows: SparseRows, views: ItemViews) -> Tensor:
        if isinstance(self.denoiser, LinearDenoiser):
            return self.denoiser.clean_query(rows)
        return self.denoiser.query(rows, rows.count().new_zeros(rows.num_rows), views)

    @torch.no_grad()
    def generate(self, views: ItemViews) -> dict[str, float]:
        r"""Rebuilds the generated edges of all users; returns the share of new edges and seconds."""
        begin = time.perf_counter()
        # The model is in training mode here; edges are still chosen without dropout, except in the released variant.
        self.denoiser.train(self.process.released)
        constant = not self.denoiser.trainable and self.start == 'observed'
        candidates = self._candidates if constant else None
        if candidates is None:
            users = torch.arange(self.graph.num_users, device=views.embedding.device)
            block = rows_per_block(self.graph.num_items, self.batch_size)
            keys = self._keys(views)  # once: they are far larger than a block's queries
            parts = [self._rank(user, views, keys) for user in users.split(block)]
            candidates = Candidates(*(torch.cat(column) for column in zip(*parts)))
            self._candidates = candidates if constant else None
        user, item, probability, observed = self._choose(candidates)
        num_entries = 2 * user.numel() + self.graph.num_users + self.graph.num_items
        kept = torch.rand(user.numel() if self.drop == 'pairs' else num_entries, device=user.device) < self.keep
        self._set_edges(GeneratedEdges(torch.stack([user, item]), probability, kept))
        share = float((~observed).float().mean()) if observed.numel() else 0.0
        return {'generated_edges': float(user.numel()), 'share_new_edges': share,
                'seconds_rebuild': time.perf_counter() - begin}

    def _rank(self, user: Tensor, views: ItemViews, keys: ItemKeys) -> Candidates:
        rows = self.rows(user)
        exclude = (rows.rowptr, rows.col) if self.candidates == 'new' else (None, None)
        logits = self.sample(rows, views, keys)
        log_z = logits.logsumexp(dim=1, keepdim=True) if self.objective == 'multinomial' else None
        best, item = topk_excluding(logits, self.gen_topk, *exclude)  # probabilities rise with the logits of a row
        probability = objectives.clean_probability(best, rows.count(), self.objective, log_z)
        row = torch.arange(rows.num_rows, device=user.device).unsqueeze(1).expand_as(item)
        valid = item < rows.num_items
        row, item = row[valid], item[valid]
        return Candidates(user[row], item, probability[valid], rows.contains(row, item))

    def _choose(self, candidates: Candidates) -> Candidates:
        user, item, probability, observed = candidates
        one = torch.rand_like(probability) < probability if self.final == 'sample' else probability > 0
        changed = one != observed
        if self.debias is not None and bool(changed.any()):
            undone = ~self.debias.filter(user[changed], item[changed], one[changed])
            one[changed] = one[changed] ^ undone
        user, item, probability, observed = (column[one] for column in candidates)
        # Within a user candidates descend in probability, so the first rebuild_k are the best.
        count = torch.bincount(user, minlength=self.graph.num_users)
        rank = torch.arange(user.numel(), device=user.device) - (count.cumsum(0) - count)[user]
        best = rank < self.rebuild_k
        return Candidates(user[best], item[best], probability[best], observed[best])

    def adjacency(self) -> Optional[Adjacency]:
        r"""Normalized adjacency of the generated graph with self loops, or none before the first :meth:`generate`.

        What was dropped this epoch is missing and the rest divided by ``keep``; with ``drop='pairs'`` all edges are present in
        evaluation mode.
        """
        if self.edges is None:
            return None
        dropped = self.keep < 1 and (self.training or self.drop == 'entries')
        if dropped not in self._adjacencies:
            edges, graph = self.edges, self.graph
            weight = None
            if self.edge_weight == 'probability':
                best = torch.zeros(graph.num_users, device=edges.probability.device, dtype=edges.probability.dtype)
                best = best.scatter_reduce(0, edges.edge_index[0], edges.probability, 'amax')
                weight = edges.probability / best[edges.edge_index[0]].clamp(min=torch.finfo(best.dtype).tiny)
            adjacency = bipartite_adjacency(edges.edge_index, graph.num_users, graph.num_items, self_loops=True,
                                            edge_weight=weight)
            if dropped:
                adjacency = self._drop(adjacency)
            self._adjacencies[dropped] = adjacency
        return self._adjacencies[dropped]

    def _drop(self, adjacency: Adjacency) -> Adjacency:
        edges, graph = self.edges, self.graph
        (row, col), value = adjacency.to_edge_index()
        if self.drop == 'entries':
            survives = edges.kept
            index, value = torch.stack([row, col])[:, survives], value[survives] / self.keep
            return Adjacency.from_edge_index(index, value, adjacency.size)
        key = edges.edge_index[0] * graph.num_items + edges.edge_index[1]
        alive = key[edges.kept].sort().values
        user, item = torch.minimum(row, col), torch.maximum(row, col) - graph.num_users
        loop = row == col
        survives = loop | torch.isin(user * graph.num_items + item, alive)
        value = torch.where(loop, value, value / self.keep)[survives]
        return Adjacency.from_edge_index(torch.stack([row, col])[:, survives], value, adjacency.size, symmetric=True)

    def _set_edges(self, edges: Optional[GeneratedEdges]) -> None:
        self.edges = edges
        self._adjacencies = {}

    def get_extra_state(self) -> dict[str, Any]:
        r"""Generated edges and optimizer, so that a checkpoint continues and evaluates exactly as the run did."""
        optimizer = self._optimizer.state_dict() if self._optimizer is not None else self._optimizer_state
        return {'edges': None if self.edges is None else list(self.edges), 'optimizer': optimizer}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        r"""Restores what :meth:`get_extra_state` returned."""
        device = self.graph.edge_index.device
        self._set_edges(None if state['edges'] is None else GeneratedEdges(*(x.to(device) for x in state['edges'])))
        self._optimizer, self._optimizer_state = None, copy.deepcopy(state['optimizer'])
