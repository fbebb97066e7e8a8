r"""GenRec-V1: flip interest diffusion for multimodal recommendation."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.cluster import DebiasConfig
from genrec_pyg.nn.diffusion import (
    DenoiserConfig,
    DenoiserTrainingConfig,
    DiffusionConfig,
    GenerationConfig,
    ItemViews,
)
from genrec_pyg.nn.interest import (
    GeneratedInterest,
    HeldOutLists,
    InterestConfig,
    UserInterestsConfig,
    best_share,
    choose_interest,
)
from genrec_pyg.nn.interest.deviation import standardized, unit_scores
from genrec_pyg.nn.interest.held_out import MAX_SCORES, Score
from genrec_pyg.nn.items import BY_ID, ItemSide, make_items
from genrec_pyg.nn.losses import (
    bpr_loss,
    grouped_info_nce,
    loss_in_parts,
    shared_negatives_softmax,
    squared_norm,
)
from genrec_pyg.nn.losses.config import ContrastConfig, RankingConfig
from genrec_pyg.nn.modality.graph_encoder import GraphEncoderConfig, GraphViews
from genrec_pyg.nn.models.multimodal.genrec_parts import GenRecParts
from genrec_pyg.nn.models.multimodal.genrec_released import ReleasedParts
from genrec_pyg.nn.models.multimodal.genrec_settings import (
    FORMER_SETTINGS,
    PartSettings,
    replaced_settings,
)
from genrec_pyg.nn.models.recommender import (
    ENCODER_GRID,
    Recommender,
    Replaced,
    best_inner_products,
)
from genrec_pyg.ops import Adjacency, rows_per_block, unit_rows
from genrec_pyg.utils.collectives import batch_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: What makes the parts of each variant.
VARIANTS = {'principled': GenRecParts, 'released': ReleasedParts}
#: Weight of the generated interest where nothing can be chosen.
DEFAULT_INTEREST_WEIGHT = 0.5


class GenRec(Recommender):
    r"""GenRec-V1
    (`He, Xie, Li, Zhu, Li, "Flip is Better than Noise: Unbiased Interest Generation for Multimedia
    Recommendation", ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_).

    Once per epoch a flip diffusion (:class:`~genrec_pyg.nn.diffusion.InterestGenerator`) generates
    interactions, clusters of modality features debias them
    (:class:`~genrec_pyg.nn.cluster.InterestDebias`), and a graph encoder
    (:class:`~genrec_pyg.nn.modality.graph_encoder.MultimodalGraphEncoder`) learns from the observed
    and the generated graph with

    .. math::
        \mathcal{L} = \mathrm{rank} + \lambda \Vert \mathbf{E} \Vert^2
        + \lambda_1 [\mathrm{NCE}(\mathrm{side}_i, \mathrm{content}_i)
        + \mathrm{NCE}(\mathrm{side}_u, \mathrm{content}_u)]
        + \lambda_2 [\mathrm{NCE}(\mathbf{Z}_u, \mathrm{content}_i)
        + \mathrm{NCE}(\mathbf{Z}_u, \mathrm{side}_i)]

    The score is the weighted sum of two parts, each at unit standard deviation over the items of a
    user: the graph encoder, and the generated interest
    (:class:`~genrec_pyg.nn.interest.GeneratedInterest`), the closed-form flip denoiser mixed with a
    graph filter and content neighbors. Its schedule and mixture are found on the validation split
    before training, its weight at every evaluation, 0 and 1 included. A user without a training
    interaction, of whom nothing is known, gets what is popular. ``interest={'weight': 0}`` is
    the score of the paper, ``ranking={'loss': 'bpr'}`` its loss; ``variant='released'`` is what its
    program computes, see ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use; :obj:`None` takes all of the graph.
        variant: ``'principled'``, with correct probabilities and gradients, or ``'released'``.
        hidden_channels: Embedding width ``d``.
        l2: :math:`\lambda`, on whole tables.
        encoder: Graph encoder. Groups of settings may be given as mappings, here and below.
        ranking: Ranking term of the loss.
        contrast: Contrastive terms, :math:`\lambda_1` and :math:`\lambda_2`.
        denoiser: Denoiser of the diffusion.
        denoiser_training: How a denoiser with parameters is trained.
        diffusion: Noise and reverse chain.
        generation: Generated edges.
        debias: Debiasing by clusters; on unless ``variant='released'``.
        interest: Generated interest and its weight in the score.
        user_interests: Several interests per user and their training; one by default.
        loss_rows: Most rows whose loss terms are held at a time, see
            :func:`~genrec_pyg.nn.losses.loss_in_parts`.
        item_side: Where the first rows of items in the graph encoder come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On a setting outside its accepted values, or one that has no effect with the
            others.

    Examples:
        >>> from genrec_pyg import Trainer
        >>> from genrec_pyg.nn import GenRec
        >>> from genrec_pyg.testing import toy_graph
        >>> data = toy_graph()
        >>> model = GenRec(data, debias={'clusters': 2}, interest={'weight': 0.3})
        >>> result = Trainer(epochs=1, progress=False, device='cpu').fit(model, data)
        >>> sorted(result.parts)
        ['graph', 'interest']
    """

    splits_batch = True
    grid = ENCODER_GRID
    FORMER_SETTINGS = FORMER_SETTINGS

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        variant: str = 'principled',
        hidden_channels: int = 64,
        l2: float = 1e-5,
        encoder: GraphEncoderConfig = GraphEncoderConfig(),
        ranking: RankingConfig = RankingConfig(),
        contrast: ContrastConfig = ContrastConfig(),
        denoiser: DenoiserConfig = DenoiserConfig(),
        denoiser_training: DenoiserTrainingConfig = DenoiserTrainingConfig(),
        diffusion: DiffusionConfig = DiffusionConfig(),
        generation: GenerationConfig = GenerationConfig(),
        debias: DebiasConfig = DebiasConfig(),
        interest: InterestConfig = InterestConfig(),
        user_interests: UserInterestsConfig = UserInterestsConfig(),
        loss_rows: int = 65_536,
        item_side: ItemSide = BY_ID,
    ):
        side = ItemSide.of(item_side)
        super().__init__(data, modalities, side.contents())
        GenRec.check_options(locals())
        check_choice('variant', variant, VARIANTS)
        check_range('l2', l2, 0)
        check_range('loss_rows', loss_rows, 1)
        parts = VARIANTS[variant](
            self.graph,
            hidden_channels,
            PartSettings(
                encoder,
                ranking,
                denoiser,
                denoiser_training,
                diffusion,
                generation,
                debias,
                interest,
            ),
        )
        self.variant, self.l2, self.loss_rows = variant, l2, loss_rows
        self.ranking, self.contrast = parts.settings.ranking, contrast
        self.rebuilds = generation.enabled and generation.rebuild_k > 0
        #: Whether the score may have a part of the generated interest, and whether its weight is
        #: found on validation.
        self.scores_interest = generation.enabled and parts.scores_interest
        self.chooses_weight = self.scores_interest and interest.weight == 'auto'
        #: Weight of the generated interest in the score.
        self.interest_weight = 0.0
        if self.scores_interest:
            self.interest_weight = (
                DEFAULT_INTEREST_WEIGHT if self.chooses_weight else float(interest.weight)
            )
        self.user_interests = parts.make_user_interests(user_interests)
        if self.user_interests is not None:
            self.grid = None  # clusters of a user are sums over whole rows of items
        self.interest, self.interest_config = parts.make_interest(), parts.interest_config
        self.encoder = parts.make_encoder(
            make_items(self.graph, hidden_channels, side) if side.has_content else None
        )
        self.generator = parts.make_generator()
        #: Users without a training interaction, if there are such and the variant serves them.
        self.newcomers: Tensor | None = None
        if variant == 'principled' and bool((self.graph.user_degree() == 0).any()):
            self.newcomers = self.graph.user_degree() == 0
            self.popularity = standardized(self.graph.item_degree().double().log1p()).float()
        self._held_out: tuple[HeteroData, HeldOutLists] | None = None
        # keys of the interest, and its scores of the users measured
        self._kept: tuple[Tensor, Tensor] | None = None

    @classmethod
    def replaced_options(cls, options: Mapping[str, Any]) -> dict[str, Replaced]:
        r"""What variant, denoiser, objective, ranking loss and the absence of generation fix."""
        return replaced_settings(options)

    def reset_parameters(self) -> None:
        r"""Draws encoder and denoiser again and forgets generated edges and what was chosen of the
        interest.
        """
        self.encoder.reset_parameters()
        if self.user_interests is not None:
            self.user_interests.reset_parameters()
        if self.interest is not None:
            self.interest.set_kernel(None)
        if self.chooses_weight:
            self.interest_weight = DEFAULT_INTEREST_WEIGHT
        if self.generator is not None:
            self.generator.reset_parameters()

    def trained_parameters(self) -> Iterator[torch.nn.Parameter]:
        r"""Parameters of the encoder and of the interests of users; the denoiser has its own
        optimizer.
        """
        yield from self.encoder.parameters()
        if self.user_interests is not None:
            yield from (p for p in self.user_interests.parameters() if p.requires_grad)

    def item_views(self) -> ItemViews:
        r"""What the denoiser may know of the items, see
        :meth:`~genrec_pyg.nn.modality.graph_encoder.MultimodalGraphEncoder.item_views`.
        """
        views, num_modalities = self.encoder.item_views()
        return ItemViews(views, num_modalities, self.generator.log_degree)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Trains the denoiser for one pass over the users, then regenerates the graph."""
        if self.generator is None:
            return {}
        views = self.item_views()
        metrics = self.generator.fit(views)
        if self.rebuilds:
            metrics.update(self.generator.generate(views))
        return metrics

    def views(self) -> GraphViews:
        r"""Content, side and final embeddings of all nodes on the observed and the generated
        graph.
        """
        return self.encoder(None if self.generator is None else self.generator.adjacency())

    def choose(self, data: HeteroData) -> dict[str, Any]:
        r"""Finds the schedule of the flips and the views of the interest, see
        :func:`~genrec_pyg.nn.interest.choose_interest`; the generated graph is made from the same
        interest.
        """
        if self.interest is None:
            return {}
        choice = choose_interest(self.graph, self._validation(data), self.interest_config)
        self.interest.set_kernel(choice.kernel)
        # The generator takes estimates for probabilities, which end at 1, and compares those of a
        # user.
        largest = max(self.interest.largest_score(), 1e-6)
        denoiser = self.generator.denoiser
        denoiser.set_solution(
            self.interest.query[:, : denoiser.rank] / (2 * largest),
            self.interest.key[:, : denoiser.rank],
        )
        return choice.report()

    def refine(self, data: HeteroData) -> dict[str, float]:
        r"""Finds the weight of the interest in the score: with 0 and 1 among the weights, the score
        is on the users measured at least as good as either part.
        """
        held_out = self._validation(data) if self.chooses_weight else None
        if held_out is None:
            return {}
        with self._only(0.0), self.cached_embeddings():
            graph = self._cached
        if self.interest is None:
            with self._only(1.0), self.cached_embeddings():
                interest = self._cached
            functions = [inner_products(graph), inner_products(interest)]
        elif self.interest.is_fitted:
            functions = [inner_products(graph), self._interest_on(held_out)]
        else:
            return {}
        self.interest_weight = best_share(held_out.candidates(functions))
        return {'interest_weight': self.interest_weight}

    def _interest_on(self, held_out: HeldOutLists) -> Score:
        r"""Scores of the interest, which no step changes: those of the users measured are kept
        where they are few.
        """
        if held_out.user.numel() * self.num_items > MAX_SCORES:
            return self.interest.score
        if self._kept is None or self._kept[0] is not self.interest.key:
            blocks = held_out.user.split(rows_per_block(self.num_items))
            self._kept = (
                self.interest.key,
                torch.cat([self.interest.score(user) for user in blocks]),
            )
        return lambda user: self._kept[1][torch.searchsorted(held_out.user, user)]

    def _validation(self, data: HeteroData) -> HeldOutLists | None:
        if self._held_out is None or self._held_out[0] is not data:
            self._held_out = data, HeldOutLists(data)
        held_out = self._held_out[1].to(self.graph.edge_index.device)  # where the model is now
        return held_out if held_out.suffices else None

    def parts(self) -> dict[str, contextlib.AbstractContextManager]:
        r"""The graph encoder alone and the generated interest alone."""
        if not self.scores_interest or self.interest is not None and not self.interest.is_fitted:
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
        r"""Users ``[U, d + q]``, or ``[U, K, d + q]`` with several interests, and items
        ``[I, d + q]``, ``q`` the rank of the generated interest (0 without it).

        Where there are users without a training interaction, of whom nothing is known, there is one
        channel more, by which these, and only these, score items by the logarithm of their
        popularity.
        """
        users, items = self.views().embedding.split([self.num_users, self.num_items])
        if self.ranking.loss == 'softmax':
            items = unit_rows(items)
        if self.user_interests is not None:
            users = self.user_interests(users, items)
        users = unit_scores(users, items)
        weight = self.interest_weight
        uses_interest = weight != 0 and (self.interest is None or self.interest.is_fitted)
        if uses_interest:
            users = (1 - weight) * users
        if self.newcomers is not None:
            new = self.newcomers.view(-1, *[1] * (users.dim() - 1)).to(users)
            users = torch.cat([users * (1 - new), new.expand(*users.shape[:-1], 1)], dim=-1)
            items = torch.cat([items, self.popularity.to(items).unsqueeze(1)], dim=1)
        if not uses_interest:
            return users, items
        if self.interest is not None:
            query, keys = self.interest.embeddings()
        else:
            query, keys = self.generator.predict(self.item_views())
            query = unit_scores(query, keys)
            if self.newcomers is not None:
                query = query * ~self.newcomers.unsqueeze(1)
        if users.dim() == 3:
            query = query.unsqueeze(1).expand(-1, users.size(1), -1)
        return torch.cat([users, weight * query], dim=-1), torch.cat([items, keys], dim=1)

    @property
    def has_sparse_scores(self) -> bool:
        r"""Whether the interest has a sparse part."""
        in_use = self.interest_in_use()
        return in_use is not None and in_use[0].neighbors is not None

    def add_sparse_scores(self, scores: Tensor, user: Tensor) -> Tensor:
        r"""Adds the sparse part of the interest."""
        if not self.has_sparse_scores:
            return scores
        return self.interest.add_sparse_scores(scores, user, self.interest_weight)

    def interest_in_use(self) -> tuple[GeneratedInterest, float] | None:
        r"""The interest and its weight, where it is fitted and counts."""
        if self.interest is None or not self.interest.is_fitted or self.interest_weight == 0:
            return None
        return self.interest, self.interest_weight

    def history_embeddings(self, approximate: Tensor, histories: Adjacency) -> Tensor:
        r"""Takes the generated interest of the histories, which is exact."""
        in_use = self.interest_in_use()
        if in_use is None:
            return approximate
        interest, weight = in_use
        query = weight * interest.user_queries(histories)
        return torch.cat([approximate[:, : -query.size(1)], query], dim=1)

    def add_sparse_history_scores(self, scores: Tensor, histories: Adjacency) -> Tensor:
        r"""Adds the sparse part of the interest of the histories."""
        if not self.has_sparse_scores:
            return scores
        return self.interest.add_history_scores(
            scores, histories.rowptr.long(), histories.col.long(), self.interest_weight
        )

    def get_extra_state(self) -> dict[str, Any]:
        r"""The weight of the interest."""
        return {'interest_weight': self.interest_weight}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        r"""Restores what :meth:`get_extra_state` returned."""
        self.interest_weight = float(state['interest_weight'])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Ranking, L2 and contrastive terms on a batch of triples."""
        views = self.views()
        # The same for every part of the batch and every process; indices pass between processes as
        # exact floats.
        negatives = batch_rows(batch.neg.unsqueeze(1).double())[0].squeeze(1)
        shared = negatives[: self.ranking.num_negatives].long()
        with self.layout.own_slice(batch) as (own, share):
            tables, own, shared = self.encoder.batch_views(views, own, shared)
            sums: tuple[Tensor, ...] = ()
            if self.user_interests is not None:
                sums = (self.user_interests.sums(unit_rows(tables[2][1])),)
            terms = loss_in_parts(
                functools.partial(self._batch_terms, shared=shared),
                sum(tables, ()) + sums,
                torch.stack(own, dim=1),
                self.loss_rows,
            )
        if share != 1:
            terms = {name: share * term for name, term in terms.items()}
        terms['l2'] = self.l2 * squared_norm(
            self.encoder.user_embedding, self.encoder.learned_items()
        )
        return terms

    def _batch_terms(
        self, tables: Sequence[Tensor], triples: Tensor, shared: Tensor
    ) -> dict[str, Tensor]:
        content, side, embedding = tables[:2], tables[2:4], tables[4:6]
        user, positive, negative = triples.unbind(dim=1)
        users = embedding[0][user]
        if self.user_interests is not None:
            terms = self.user_interests.loss(
                user,
                users,
                tables[6][user],
                positive,
                unit_rows(embedding[1][positive]),
                unit_rows(embedding[1][shared]),
                self.ranking.temperature,
            )
        elif self.ranking.loss == 'softmax':
            terms = {
                'softmax': shared_negatives_softmax(
                    users, embedding[1][positive], embedding[1][shared], self.ranking.temperature
                )
            }
        else:
            terms = {'bpr': bpr_loss(users, embedding[1][positive], embedding[1][negative])}
        if self.graph.modalities:

            def contrast(x: Tensor, y: Tensor) -> Tensor:
                return grouped_info_nce(x, y, self.contrast.temperature, self.contrast.group_size)

            content_items, side_items = content[1][positive], side[1][positive]
            if self.contrast.view_weight > 0:
                terms['contrast_views'] = self.contrast.view_weight * (
                    contrast(side_items, content_items) + contrast(side[0][user], content[0][user])
                )
            if self.contrast.pair_weight > 0:
                terms['contrast_pairs'] = self.contrast.pair_weight * (
                    contrast(users, content_items) + contrast(users, side_items)
                )
        return terms


def inner_products(embeddings: tuple[Tensor, Tensor]) -> Score:
    r"""Scores of users by embeddings ``[U, d]`` or ``[U, K, d]`` and ``[I, d]``."""
    return lambda user: best_inner_products(embeddings[0][user], embeddings[1])
