r"""GenRec-V1: flip interest diffusion for multimodal recommendation."""
from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.cluster import InterestDebias, interest_labels
from genrec_pyg.nn.diffusion import DENOISERS, PROCESSES, InterestGenerator, ItemViews, make_denoiser, make_process
from genrec_pyg.nn.interest import GeneratedInterest, HeldOutLists, InterestConfig, choose_interest
from genrec_pyg.nn.losses import bpr_loss, grouped_info_nce, loss_in_parts, shared_negatives_softmax, squared_norm
from genrec_pyg.nn.modality.graph_encoder import GraphViews, MultimodalGraphEncoder
from genrec_pyg.nn.models.pairwise import check_choice, check_range
from genrec_pyg.nn.models.recommender import ENCODER_GRID, Recommender, Replaced
from genrec_pyg.ops import Adjacency, rows_per_block, spmm, unit_rows
from genrec_pyg.utils.collectives import batch_rows

#: A number, or ``'auto'``: found on validation.
Auto = Union[float, str]
#: Weight of the generated interest where nothing can be chosen.
DEFAULT_INTEREST_WEIGHT = 0.5


class GenRec(Recommender):
    r"""GenRec-V1 (He, Xie, Li, Zhu, Li, "Flip is Better than Noise: Unbiased Interest Generation for Multimedia
    Recommendation", ACM MM 2025).

    Once per epoch a flip diffusion (:class:`~genrec_pyg.nn.diffusion.InterestGenerator`) generates interactions, clusters of
    modality features debias them (:class:`~genrec_pyg.nn.cluster.InterestDebias`), and a graph encoder
    (:class:`~genrec_pyg.nn.modality.graph_encoder.MultimodalGraphEncoder`) learns from the observed and the
    generated graph with

    .. math::
        \mathcal{L} = \mathrm{rank} + \lambda \Vert \mathbf{E} \Vert^2 +
        \lambda_1 [\mathrm{NCE}(\mathrm{side}_i, \mathrm{content}_i) + \mathrm{NCE}(\mathrm{side}_u, \mathrm{content}_u)] +
        \lambda_2 [\mathrm{NCE}(\mathbf{Z}_u, \mathrm{content}_i) + \mathrm{NCE}(\mathbf{Z}_u, \mathrm{side}_i)]

    ``variant='principled'`` (default) has correct probabilities and gradients, ``variant='released'`` is what the published
    code computes, difference by difference in the section GenRec of ``docs/``.

    **The score** is the weighted sum of two parts, each at unit standard deviation over the items of a user: the graph
    encoder (content + side), and the generated interest (:class:`~genrec_pyg.nn.interest.GeneratedInterest`). The interest is
    the closed-form flip denoiser, whose schedule is found on the validation split before training, together with a graph
    filter and the content neighbors of every modality, mixed by weights found there too. The weight of the interest is found
    at every evaluation, 0 and 1 included, so that on validation the whole is at least as good as its parts. Every choice can
    be pinned by its argument; ``interest_weight=0`` is the score of the paper.

    **The graph encoder** is trained by a sampled softmax over cosine scores (``ranking='softmax'``); ``'bpr'`` is the paper's.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use; :obj:`None` takes all of the graph.
        variant: ``'principled'`` or ``'released'``.
        hidden_channels: Embedding width ``d``.
        num_layers: Layers of the collaborative view.
        num_item_layers: Layers of the item-item graphs.
        num_neighbors: Neighbours per item in the item-item graphs, itself included.
        dropout: Dropout of the modality encoders.
        svt: Singular value soft-thresholding of raw features as a fraction of the largest singular value;
            0 for none.
        side_in_score: Whether the score uses content + side or content alone.
        specific: Modalities whose specific part enters the side view; :obj:`None` takes all.
        merge: How observed and generated graph combine, ``'softmax'`` or ``'sum'``.
        l2: :math:`\lambda`, on whole tables.
        contrast: Whether the contrastive terms of the recommender are used.
        lambda1: Weight of the side-content terms.
        lambda2: Weight of the user-item terms.
        temperature: Temperature of these terms.
        contrast_rows: Rows within which a batch is contrasted; a larger batch is cut into groups of about this size, so that
            the cost stays linear in the batch. 1024, the paper's batch, by default.
        loss_rows: Most rows whose loss terms are held at a time, see :func:`~genrec_pyg.nn.losses.loss_in_parts`.
        generation: Whether interactions are generated at all.
        denoiser: ``'linear'`` (closed form), ``'transformer'`` (the paper's), ``'tied'`` (no parameter per item) or
            ``'perceptron'`` (that of DiffMM).
        denoiser_layers: Transformer layers (0: none, a perceptron) or residual blocks of the tied denoiser.
        denoiser_rank: Rank of the linear denoiser.
        modality_weight: Weight of the modality rows in the linear denoiser.
        denoiser_lr: Learning rate of a trained denoiser.
        denoiser_batch_size: Users per batch of the generator.
        denoiser_negatives: Items sampled per batch for the multinomial objective of a trained denoiser; 0 takes all.
        num_steps: Diffusion steps ``T``.
        noise_scale: Factor on the flip rates, or on the variances of Gaussian noise.
        flip_temp: Temperature of the released flips.
        objective: Objective of a trained denoiser: ``'multinomial'``, ``'focal'``, ``'bce'`` or ``'squared'``.
        variational_weight: Weight of the variational term.
        modality_contrast: Weight of the modality-aware contrastive term, per modality.
        gen_topk: Entries per user that may take a generated value.
        rebuild_k: Generated edges per user; 0 builds no graph.
        candidates: ``'new'`` or ``'all'`` entries can be generated.
        final: ``'mode'`` or ``'sample'``, the last reverse step.
        edge_weight: ``'probability'`` or ``'binary'`` weights of generated edges.
        keep: Share of generated edges that survive the edge dropout of an epoch.
        start: Start of the reverse chain: ``'diffused'``, ``'observed'`` or ``'clean'``.
        interest_weight: Weight in [0, 1] of the generated interest in the score, or ``'auto'``.
        debias: Whether clusters debias generated changes; :obj:`None` means on, and off in the released variant.
        sample_ratio: Share of changes that debiasing checks.
        debias_decision: ``'largest'`` or ``'majority'``, which modality decides over removed clicks.
        clusters: Interest clusters: a number for every modality, ``'auto'``, a mapping from modality to either, or of the
            fused features ``'spectral'`` or ``'eigengap'``, see :func:`~genrec_pyg.nn.cluster.interest_labels`.
        process: ``'flip'`` (the paper's) or ``'gaussian'``, the noise of DiffMM, whose ridge is constant.
        ranking: ``'softmax'`` over shared negatives, or ``'bpr'``.
        ranking_temperature: Temperature of the softmax.
        num_negatives: Negatives that a batch shares, at most its size.
        ridge: See :class:`~genrec_pyg.nn.interest.FlipSchedule`, or ``'auto'``; so the next three.
        ridge_power: Power of the popularity in the ridge.
        row_weight: By how much long histories count less.
        discount: Power of the popularity that divides a generated interest.
        view_weights: Weights of the views of the interest, see :class:`~genrec_pyg.nn.interest.InterestConfig`.
        interest_rank: Rank of the interest.
        interest_neighbors: Sparse entries per item of the interest.

    Raises:
        ConfigError: On an option outside its accepted values, or one that another takes the place of: the released variant
            fixes what the table says, ``generation=False`` leaves no prediction to weigh, no clusters and no process, and
            the linear denoiser has an objective of its own.
    """
    splits_batch = True
    grid = ENCODER_GRID

    def __init__(self, data: Union[HeteroData, TrainingGraph], modalities: Optional[Iterable[str]] = None,
                 variant: str = 'principled', hidden_channels: int = 64, num_layers: int = 1, num_item_layers: int = 1,
                 num_neighbors: int = 5, dropout: float = 0.1, svt: float = 0.0, side_in_score: bool = True,
                 specific: Optional[Sequence[str]] = None, merge: str = 'softmax', l2: float = 1e-5, contrast: bool = True,
                 lambda1: float = 0.1, lambda2: float = 0.1, temperature: float = 0.5, contrast_rows: int = 1024,
                 loss_rows: int = 65_536, generation: bool = True, denoiser: str = 'linear', denoiser_layers: int = 6,
                 denoiser_rank: int = 256, modality_weight: float = 50.0, denoiser_lr: float = 1e-3,
                 denoiser_batch_size: int = 1024, denoiser_negatives: int = 0, num_steps: int = 5, noise_scale: float = 1.0,
                 flip_temp: float = 1.0, objective: str = 'multinomial',
                 variational_weight: float = 0.0, modality_contrast: float = 0.01, gen_topk: int = 5, rebuild_k: int = 5,
                 candidates: str = 'new', final: str = 'mode', edge_weight: str = 'probability', keep: float = 1.0,
                 start: str = 'observed', interest_weight: Auto = 'auto', debias: Optional[bool] = None,
                 sample_ratio: float = 0.1, debias_decision: str = 'largest',
                 clusters: Union[int, str, dict[str, Union[int, str]]] = 20, process: str = 'flip',
                 ranking: str = 'softmax', ranking_temperature: float = 0.2, num_negatives: int = 512,
                 ridge: Auto = 'auto', ridge_power: Auto = 'auto', row_weight: Auto = 'auto', discount: Auto = 'auto',
                 view_weights: Union[str, dict[str, float]] = 'auto', interest_rank: int = 256,
                 interest_neighbors: int = 20):
        super().__init__(data, modalities)
        GenRec.check_options(locals())
        if variant not in ('principled', 'released'):
            raise ConfigError(f"variant: got {variant!r}, accepted are 'principled' and 'released'")
        check_choice('denoiser', denoiser, DENOISERS)
        check_choice('process', process, PROCESSES)
        check_choice('ranking', ranking, ('softmax', 'bpr'))
        check_range('ranking_temperature', ranking_temperature, 0, open_low=True)
        check_range('num_negatives', num_negatives, 1)
        if interest_weight != 'auto' and not (isinstance(interest_weight, (int, float)) and 0 <= interest_weight <= 1):
            raise ConfigError(f"interest_weight: got {interest_weight!r}, accepted are 'auto' and numbers in [0, 1]")
        if not 0 <= rebuild_k <= gen_topk:
            raise ConfigError(f'rebuild_k: got {rebuild_k}, accepted are 0 to gen_topk = {gen_topk}')
        self.variant = variant
        self.ranking, self.ranking_temperature, self.num_negatives = ranking, ranking_temperature, num_negatives
        self.l2 = l2
        self.contrast = contrast
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.temperature = temperature
        self.contrast_rows = contrast_rows
        self.loss_rows = loss_rows
        self.rebuild_k = rebuild_k
        released = variant == 'released'
        if released:
            denoiser, candidates, final, edge_weight, start = 'transformer', 'all', 'sample', 'binary', 'diffused'
            self.ranking = 'bpr'
            if 'audio' in self.graph.modalities:
                if specific not in (None, ['audio']):
                    raise ConfigError(f"specific: got {list(specific)} with variant='released', accepted is ['audio']")
                specific = ['audio']
        #: Weight of the generated interest in the score, and whether it is found on validation.
        self.chooses_weight = interest_weight == 'auto' and generation and not released
        if released or not generation:
            interest_weight = 0.0
        self.interest_weight = DEFAULT_INTEREST_WEIGHT if interest_weight == 'auto' else float(interest_weight)
        self.interest: Optional[GeneratedInterest] = None
        if generation and not released and denoiser == 'linear':
            self.interest = GeneratedInterest(self.graph)
            self.interest_config = InterestConfig(ridge, 0.0 if process == 'gaussian' else ridge_power, row_weight,
                                                  0.0 if process == 'gaussian' else discount, view_weights, interest_rank,
                                                  interest_neighbors)
            if self.num_items <= 4 * interest_rank:  # the interest is kept whole then, and the generator takes it
                denoiser_rank = max(denoiser_rank, self.num_items)
        self._held_out: Optional[tuple[HeteroData, HeldOutLists]] = None
        self.encoder = MultimodalGraphEncoder(
            self.graph, hidden_channels, num_layers, num_item_layers, num_neighbors, dropout, side_in_score=side_in_score,
            specific=specific, merge=merge, svt=svt, joint_norm=not released)
        self.generator: Optional[InterestGenerator] = None
        if generation:
            diffusion = make_process(process, num_steps, noise_scale, flip_temp, variant)
            if not diffusion.binary:  # dense states: a batch holds no more than a block of scores
                denoiser_batch_size = rows_per_block(self.num_items, denoiser_batch_size)
            uses_debias = self.graph.modalities and (not released if debias is None else debias) and rebuild_k > 0
            interests = None
            if uses_debias:
                labels = interest_labels(self.graph.modalities, clusters, variant=variant)
                interests = InterestDebias(labels, self.graph.edge_index, self.num_users, sample_ratio, debias_decision,
                                           variant)
            self.generator = InterestGenerator(
                self.graph, make_denoiser(denoiser, self.graph, diffusion, hidden_channels, denoiser_layers, denoiser_rank,
                                          modality_weight),
                diffusion, objective, variational_weight=variational_weight, contrast_weight=modality_contrast,
                gen_topk=gen_topk, rebuild_k=max(rebuild_k, 1), candidates=candidates, final=final, edge_weight=edge_weight,
                keep=keep, drop='entries' if released else 'pairs', start=start, lr=denoiser_lr,
                batch_size=denoiser_batch_size, num_negatives=denoiser_negatives, debias=interests)

    @classmethod
    def replaced_options(cls, options: Mapping[str, Any]) -> dict[str, Replaced]:
        r"""What the released variant, the linear denoiser and the absence of generation fix."""
        values: dict[str, Replaced] = {}

        def fix(by: str, **fixed: Any) -> None:
            values.update({name: Replaced(value, by) for name, value in fixed.items()})

        if options['variant'] == 'released':
            fix("variant='released'", ranking='bpr', denoiser='transformer', candidates='all', final='sample',
                edge_weight='binary', start='diffused', interest_weight=0.0, objective='focal',
                variational_weight=0.0, modality_contrast=0.0, denoiser_negatives=0, process='flip')
        else:
            fix("variant='principled'", flip_temp=1.0)
            if options['denoiser'] == 'linear':
                fix("denoiser='linear'", objective='squared', variational_weight=0.0, denoiser_negatives=0)
        if options['ranking'] == 'bpr' or options['variant'] == 'released':
            fix("ranking='bpr'", ranking_temperature=0.2, num_negatives=512)
        if options['denoiser'] != 'linear' or options['variant'] == 'released' or not options['generation']:
            fix('no interest in closed form', ridge='auto', ridge_power='auto', row_weight='auto', discount='auto',
                view_weights='auto', interest_rank=256, interest_neighbors=20)
        else:  # the schedule and the views found for the interest take the place of the noise
            fix("denoiser='linear'", modality_weight=50.0)
            if options['start'] == 'observed':
                fix("denoiser='linear'", noise_scale=1.0)
            if options['process'] == 'gaussian':
                fix("process='gaussian'", ridge_power=0.0, discount=0.0)
        if not options['generation']:
            fix('generation=False', interest_weight=0.0, debias=False, process='flip')
        return values

    def train(self, mode: bool = True) -> GenRec:
        r"""Sets training or evaluation mode; the released encoder is always in training mode."""
        super().train(mode)
        if self.variant == 'released':
            self.encoder.train()
        return self

    def reset_parameters(self) -> None:
        r"""Draws encoder and denoiser again and forgets generated edges and what was chosen of the interest."""
        self.encoder.reset_parameters()
        if self.interest is not None:
            self.interest.set_kernel(None)
        if self.generator is not None:
            self.generator.reset_parameters()

    def trained_parameters(self) -> Iterator[torch.nn.Parameter]:
        r"""Parameters of the encoder; the denoiser has its own optimiser."""
        return self.encoder.parameters()

    def item_views(self) -> ItemViews:
        r"""Item embeddings times encoded features per modality, detached; the plain embeddings if there is no modality."""
        was_training = self.encoder.training
        self.encoder.eval()  # views are keys of the denoiser, the same for all its batches: without dropout
        with torch.no_grad():
            items = self.encoder.item_embedding
            encoded = self.encoder.encode_modalities()
            views = torch.cat([items * features for features in encoded.values()] or [items], dim=1).detach()
        self.encoder.train(was_training)
        return ItemViews(views, max(len(encoded), 1), self.generator.log_degree)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Trains the denoiser for one pass over the users, then regenerates the graph."""
        if self.generator is None:
            return {}
        views = self.item_views()
        figures = self.generator.fit(views)
        if self.rebuild_k > 0:
            figures.update(self.generator.generate(views))
        return figures

    def views(self) -> GraphViews:
        r"""Content, side and final embeddings of all nodes on the observed and the generated graph."""
        return self.encoder(None if self.generator is None else self.generator.adjacency())

    def choose(self, data: HeteroData) -> dict[str, Any]:
        r"""Finds the schedule of the flips and the views of the interest, see :func:`~genrec_pyg.nn.interest.choose_interest`;
        the generated graph is made from the same interest."""
        if self.interest is None:
            return {}
        choice = choose_interest(self.graph, self._validation(data), self.interest_config)
        self.interest.set_kernel(choice.kernel)
        # The generator takes estimates for probabilities, which end at 1, and compares those of a user.
        users = torch.arange(0, self.num_users, max(1, self.num_users // 512), device=self.interest.key.device)
        query = spmm(self.interest.interactions, self.interest.query)[users]
        largest = (query @ self.interest.key.t()).amax().clamp(min=1e-6)
        rank = self.generator.denoiser.rank
        self.generator.denoiser.set_solution(self.interest.query[:, :rank] / (2 * largest), self.interest.key[:, :rank])
        return choice.report()

    def refine(self, data: HeteroData) -> dict[str, float]:
        r"""Finds the weight of the interest in the score: with 0 and 1 among the weights, the score is on the users measured
        at least as good as either part."""
        held_out = self._validation(data) if self.chooses_weight else None
        if held_out is None:
            return {}
        scores = []
        for name, part in self.parts().items():
            with part, self.cached_embeddings():
                scores.append((name, self._cached))
        weights = [step / 10 for step in range(11)]
        functions = [self._score_of(name, cached) for name, cached in scores]
        candidates = held_out.candidates(functions)
        found = {weight: candidates.recall([1 - weight, weight]) for weight in weights}
        best = max(found.values())
        # The middle of what is equally good.
        equal = [weight for weight, value in found.items() if value == best]
        self.interest_weight = equal[len(equal) // 2]
        return {'interest_weight': self.interest_weight}

    def _score_of(self, name: str, embeddings: tuple[Tensor, Tensor]) -> Callable[[Tensor], Tensor]:
        def score(user: Tensor) -> Tensor:
            found = embeddings[0][user] @ embeddings[1].t()
            return self.interest.add_sparse_scores(found, user) if name == 'interest' and self.has_sparse_scores else found
        return score

    def _validation(self, data: HeteroData) -> Optional[HeldOutLists]:
        if self._held_out is None or self._held_out[0] is not data:
            self._held_out = data, HeldOutLists(data).to(self.graph.edge_index.device)
        return self._held_out[1] if self._held_out[1].suffices else None

    def parts(self) -> dict[str, contextlib.AbstractContextManager]:
        r"""The graph encoder alone and the generated interest alone."""
        if self.generator is None or self.variant == 'released' or self.interest is not None and not self.interest.is_fitted:
            return {}
        return {'graph': self._only(0.0), 'interest': self._only(1.0)}

    @contextlib.contextmanager
    def _only(self, weight: float) -> Iterator[None]:
        before, self.interest_weight = self.interest_weight, weight
        try:
            yield
        finally:
            self.interest_weight = before

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d + q]`` and items ``[I, d + q]``, ``q`` the rank of the interest (0 without it)."""
        users, items = self.views().embedding.split([self.num_users, self.num_items])
        if self.ranking == 'softmax':
            items = unit_rows(items)
        weight = self.interest_weight
        if weight == 0 or self.interest is not None and not self.interest.is_fitted:
            return unit_scores(users, items), items
        if self.interest is not None:
            query, keys = self.interest.embeddings()
        else:
            query, keys = self.generator.predict(self.item_views())
            query = unit_scores(query, keys)
        return (torch.cat([(1 - weight) * unit_scores(users, items), weight * query], dim=1), torch.cat([items, keys], dim=1))

    @property
    def has_sparse_scores(self) -> bool:
        r"""Whether the interest has a sparse part."""
        return (self.interest is not None and self.interest.neighbors is not None and self.interest_weight > 0)

    def add_sparse_scores(self, scores: Tensor, user: Tensor) -> Tensor:
        r"""Adds the sparse part of the interest."""
        return self.interest.add_sparse_scores(scores, user, self.interest_weight) if self.has_sparse_scores else scores

    def interest_in_use(self) -> Optional[tuple[GeneratedInterest, float]]:
        r"""The interest and its weight, where it is fitted and counts."""
        if self.interest is None or not self.interest.is_fitted or self.interest_weight == 0:
            return None
        return self.interest, self.interest_weight

    def history_embeddings(self, approximate: Tensor, histories: Adjacency) -> Tensor:
        r"""Takes the generated interest of the histories, which is exact."""
        if self.interest is None or not self.interest.is_fitted or self.interest_weight == 0:
            return approximate
        query = self.interest_weight * self.interest.user_queries(histories)
        return torch.cat([approximate[:, :-query.size(1)], query], dim=1)

    def add_sparse_history_scores(self, scores: Tensor, histories: Adjacency) -> Tensor:
        r"""Adds the sparse part of the interest of the histories."""
        if not self.has_sparse_scores:
            return scores
        return self.interest.add_history_scores(scores, histories.rowptr.long(), histories.col.long(), self.interest_weight)

    def get_extra_state(self) -> dict[str, Any]:
        r"""The weight of the interest."""
        return {'interest_weight': self.interest_weight}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        r"""Restores what :meth:`get_extra_state` returned."""
        self.interest_weight = float(state['interest_weight'])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, L2 and the contrastive terms on a batch of triples."""
        views = self.views()
        # The same for every part of the batch and every process; indices pass between processes as exact floats.
        shared = batch_rows(batch.neg.unsqueeze(1).double())[0].squeeze(1)[:self.num_negatives].long()
        with self.layout.own_slice(batch) as (own, share):
            tables, own, shared = self.encoder.batch_views(views, own, shared)
            terms = loss_in_parts(functools.partial(self._batch_terms, shared=shared), sum(tables, ()),
                                  torch.stack(own, dim=1), self.loss_rows)
        if share != 1:
            terms = {name: share * term for name, term in terms.items()}
        terms['l2'] = self.l2 * squared_norm(self.encoder.user_embedding, self.encoder.item_embedding)
        return terms

    def _batch_terms(self, tables: Sequence[Tensor], triples: Tensor, shared: Tensor) -> dict[str, Tensor]:
        content, side, embedding = tables[:2], tables[2:4], tables[4:]
        user, positive, negative = triples.unbind(dim=1)
        users = embedding[0][user]
        if self.ranking == 'softmax':
            terms = {'softmax': shared_negatives_softmax(users, embedding[1][positive], embedding[1][shared],
                                                         self.ranking_temperature)}
        else:
            terms = {'bpr': bpr_loss(users, embedding[1][positive], embedding[1][negative])}
        if self.contrast and self.graph.modalities:
            def contrast(x: Tensor, y: Tensor) -> Tensor:
                return grouped_info_nce(x, y, self.temperature, self.contrast_rows)
            content_items, side_items = content[1][positive], side[1][positive]
            terms['contrast_views'] = self.lambda1 * (contrast(side_items, content_items) +
                                                      contrast(side[0][user], content[0][user]))
            terms['contrast_pairs'] = self.lambda2 * (contrast(users, content_items) + contrast(users, side_items))
        return terms


def unit_scores(query: Tensor, keys: Tensor) -> Tensor:
    r"""Scales each query so that its inner products with all ``keys`` have standard deviation 1 over the items.

    The deviation of user ``u`` is :math:`\sqrt{\mathbf{q}_u^{\top} \mathrm{Cov}(\mathbf{K}) \mathbf{q}_u}`: no score is
    computed.

    Args:
        query: Queries ``[U, q]``.
        keys: Keys ``[I, q]``.
    """
    centred = keys - keys.mean(dim=0)
    covariance = centred.t() @ centred / keys.size(0)
    variance = ((query @ covariance) * query).sum(dim=1, keepdim=True)
    return query * variance.clamp(min=torch.finfo(query.dtype).tiny).rsqrt() * (variance > 0)
