r"""DiffMM: a diffusion per modality generates the graphs that contrastive views are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.diffusion import (
    DenoiserTrainingConfig,
    GenerationConfig,
    InterestGenerator,
    ItemViews,
    make_denoiser,
    make_process,
)
from genrec_pyg.nn.losses import bank_contrast
from genrec_pyg.nn.modality.encoder import ProjectionBlock
from genrec_pyg.nn.models.multimodal.diffmm_settings import (
    FORMER_SETTINGS,
    ModalityDenoiserConfig,
    ModalityDiffusionConfig,
    ModalityGenerationConfig,
    ModalityTrainingConfig,
)
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.nn.models.recommender import Replaced
from genrec_pyg.ops import Adjacency, bipartite_adjacency, rows_per_block, spmm, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted maps from features to embeddings.
TRANSFORMS = ('bilinear', 'linear', 'mixed')
#: Accepted pairs of views that are contrasted.
CONTRAST_METHODS = ('pairs', 'final')


class DiffMM(PairwiseRecommender):
    r"""DiffMM
    (`Jiang, Xia, Wei, Luo, Lin, Huang, "DiffMM: Multi-Modal Diffusion Model for Recommendation",
    ACM MM 2024 <https://arxiv.org/abs/2406.11781>`_);
    other programs: ``docs/parity.md``.

    Before every epoch an :class:`~genrec_pyg.nn.diffusion.InterestGenerator` of each modality is
    trained and generates a graph :math:`\mathbf{G}_m`. With :math:`\mathbf{A}` the normalized
    training graph with self loops, :math:`\mathbf{F}_m` the transformed features,
    :math:`w = \mathrm{softmax}(\omega)`, :math:`\overline{\,\cdot\,}` row normalization and
    :math:`\mathbf{H} = \sum_m w_m \mathbf{H}_m`,

    .. math::
        \mathbf{H}_m &= \mathbf{A} [\mathbf{E}_u ; \overline{\mathbf{F}_m}], \quad
        \mathbf{H}_m \leftarrow \mathbf{H}_m + \mathbf{A} [\mathbf{H}_m^{\mathrm{users}} ;
        \mathbf{E}_i], \quad \mathbf{H}_m \leftarrow \mathbf{H}_m
        + \lambda_g \mathbf{G}_m [\mathbf{E}_u ; \mathbf{E}_i] \\
        \mathbf{Z} &= \sum_{l=0}^{L} \mathbf{A}^l \mathbf{H}
        + \lambda_r \overline{\mathbf{H}}, \qquad
        \mathbf{C}_m = \sum_{l=0}^{L} \mathbf{A}^l \mathbf{G}_m [\mathbf{E}_u ;
        \overline{\mathbf{F}_m}] \\
        \mathcal{L} &= \mathrm{BPR} + \lambda \Vert \mathbf{E} \Vert^2
        + c \sum_{(\mathbf{X}, \mathbf{Y})} [\mathrm{NCE}(\mathbf{X}_{u_k}, \mathbf{Y}_u)
        + \mathrm{NCE}(\mathbf{X}_{i^+_k}, \mathbf{Y}_i)]

    over the pairs of :math:`\mathbf{C}_m` or of :math:`\mathbf{Z}` with each of them. All but the
    contrast is linear in :math:`\mathbf{H}_m`, so the sum over modalities is taken first: two
    products with :math:`\mathbf{A}` in all.

    Args:
        data, modalities: Canonical graph or training graph, and the modalities to use (:obj:`None`
            takes all).
        hidden_channels, num_layers: Width ``d`` and layers ``L``.
        l2: :math:`\lambda`, on whole tables.
        transform: Features to embeddings: ``'bilinear'``,
            :math:`\mathrm{LeakyReLU}_{0.2}(\mathbf{X} \mathbf{W})`; ``'linear'``, with bias;
            ``'mixed'``, the image bilinear and the others linear.
        diffusion, denoiser, denoiser_training, generation: Groups of settings, each a mapping or
            the data class of its default.
        residual_weight: :math:`\lambda_r`.
        contrast_method, contrast_weight, temperature: ``'pairs'`` of modalities or the ``'final'``
            view against each; weight ``c``; temperature.

    Raises:
        ConfigError: On an argument outside its accepted values, or a graph without modalities.

    Examples:
        >>> from genrec_pyg.nn import DiffMM
        >>> from genrec_pyg.testing import toy_graph
        >>> DiffMM(toy_graph())
        DiffMM(users=8, items=7, modalities=[image, text])
    """

    splits_batch = True
    FORMER_SETTINGS = FORMER_SETTINGS

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 1,
        l2: float = 1e-5,
        transform: str = 'bilinear',
        diffusion: ModalityDiffusionConfig = ModalityDiffusionConfig(),
        denoiser: ModalityDenoiserConfig = ModalityDenoiserConfig(),
        denoiser_training: ModalityTrainingConfig = ModalityTrainingConfig(),
        generation: ModalityGenerationConfig = ModalityGenerationConfig(),
        residual_weight: float = 0.5,
        contrast_method: str = 'pairs',
        contrast_weight: float = 0.01,
        temperature: float = 0.5,
    ):
        super().__init__(data, modalities, hidden_channels, l2, penalty_rows='table')
        DiffMM.check_options(locals())
        if not self.graph.modalities:
            raise ConfigError(
                'modalities: got none, accepted is at least one: each has a diffusion of its own'
            )
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('residual_weight', residual_weight, 0),
            ('contrast_weight', contrast_weight, 0),
        ):
            check_range(name, value, low)
        check_range('temperature', temperature, 0, open_low=True)
        check_choice('transform', transform, TRANSFORMS)
        check_choice('contrast_method', contrast_method, CONTRAST_METHODS)
        self.num_layers = num_layers
        self.generated_weight, self.residual_weight = generation.weight, residual_weight
        self.contrast_method = contrast_method
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.adjacency = bipartite_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=True
        )
        self.conv = LightConv(num_layers)
        self.log_degree = torch.log1p(self.graph.item_degree().float())
        self.modal_logits = Parameter(torch.empty(len(self.graph.modalities)))
        self.encoders = ModuleDict(
            {
                name: feature_transform(transform, name, modality.x.size(1), hidden_channels)
                for name, modality in self.graph.modalities.items()
            }
        )
        self.generators = ModuleDict(
            {
                name: _generator(
                    TrainingGraph(
                        self.num_users, self.num_items, self.graph.edge_index, {name: modality}
                    ),
                    hidden_channels,
                    diffusion,
                    denoiser,
                    denoiser_training,
                    generation,
                )
                for name, modality in self.graph.modalities.items()
            }
        )
        self._reset_weights()

    @classmethod
    def replaced_options(cls, options: Mapping[str, Any]) -> dict[str, Replaced]:
        r"""The linear denoiser is solved for the squared error; each denoiser has settings of its
        own.
        """
        name, default = options['denoiser.name'], ModalityDenoiserConfig()
        by = f'denoiser.name={name!r}'
        own = {
            'perceptron': ('channels', 'dropout', 'normalize'),
            'linear': ('rank',),
        }.get(name, ('num_layers',))
        values = {
            f'denoiser.{field}': Replaced(getattr(default, field), by)
            for field in ('num_layers', 'rank', 'channels', 'dropout', 'normalize')
            if field not in own
        }
        if name == 'linear':
            values['denoiser_training.objective'] = Replaced('squared', by)
            values['denoiser_training.lr'] = Replaced(ModalityTrainingConfig().lr, by)
        return values

    def reset_parameters(self) -> None:
        r"""Redraws tables, transforms and denoisers and forgets the generated edges."""
        super().reset_parameters()
        for module in [*self.encoders.values(), *self.generators.values()]:
            module.reset_parameters()
        self._reset_weights()

    def _reset_weights(self) -> None:
        torch.nn.init.constant_(self.modal_logits, 1 / self.modal_logits.numel())

    def trained_parameters(self) -> Iterator[Parameter]:
        r"""All but the denoisers, which have optimizers of their own."""
        return (
            parameter
            for name, parameter in self.named_parameters()
            if not name.startswith('generators.')
        )

    def features(self) -> dict[str, Tensor]:
        r"""Transformed features per item ``[I, d]``, zero where an item lacks the modality."""
        dtype = self.modal_logits.dtype
        return {
            name: modality.pool(self.encoders[name](modality.x.to(dtype)))
            for name, modality in self.graph.modalities.items()
        }

    @torch.no_grad()
    def item_views(self) -> dict[str, ItemViews]:
        r"""What the denoiser of each modality may know of the items."""
        items = self.embedding.item.detach()
        return {
            name: ItemViews(items * features, 1, self.log_degree, features, items)
            for name, features in self.features().items()
        }

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Trains every denoiser for one pass over the users, then regenerates its graph."""
        figures = {}
        for name, views in self.item_views().items():
            generator = self.generators[name]
            found = {**generator.fit(views), **generator.generate(views)}
            figures.update({f'{name}_{key}': value for key, value in found.items()})
        return figures

    def generated(self) -> dict[str, Adjacency]:
        r"""Normalized generated graph of every modality; empty before the first epoch."""
        graphs = {name: generator.adjacency() for name, generator in self.generators.items()}
        return {name: graph for name, graph in graphs.items() if graph is not None}

    def propagate(self, x: Tensor) -> Tensor:
        r"""Sum of the layers ``[N, c]`` of ``x`` ``[N, c]``."""
        return (self.num_layers + 1) * self.conv(x, self.adjacency)

    def fuse(self, features: dict[str, Tensor], generated: dict[str, Adjacency]) -> Tensor:
        r"""Final embeddings :math:`\mathbf{Z}` ``[N, d]`` from unit features ``[I, d]`` and
        generated graphs.
        """
        users, items = self.embedding.user, self.embedding.item
        weights = dict(zip(features, self.modal_logits.softmax(dim=0)))
        mixed = sum(weights[name] * x for name, x in features.items())
        fused = spmm(self.adjacency, torch.cat([users, mixed]))
        fused = fused + spmm(self.adjacency, torch.cat([fused[: self.num_users], items]))
        joint = self.embedding.joint()
        for name, graph in generated.items():
            fused = fused + self.generated_weight * weights[name] * spmm(graph, joint)
        return self.propagate(fused) + self.residual_weight * unit_rows(fused)

    def contrast_views(
        self, features: dict[str, Tensor], generated: dict[str, Adjacency]
    ) -> list[Tensor]:
        r"""Contrastive views :math:`\mathbf{C}_m` ``[N, d]`` of all modalities, from one
        propagation side by side.
        """
        sources = [
            spmm(graph, torch.cat([self.embedding.user, features[name]]))
            for name, graph in generated.items()
        ]
        return list(self.propagate(torch.cat(sources, dim=1)).chunk(len(sources), dim=1))

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``; no generated edge is dropped in evaluation
        mode.
        """
        features = {name: unit_rows(x) for name, x in self.features().items()}
        return self.fuse(features, self.generated()).split([self.num_users, self.num_items])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, L2 and the contrast of views on a batch of triples."""
        sizes = [self.num_users, self.num_items]
        features = {name: unit_rows(x) for name, x in self.features().items()}
        generated = self.generated()
        final = self.fuse(features, generated)
        terms = self.rank_terms(*final.split(sizes), batch)
        if self.contrast_weight > 0 and generated:
            views = self.contrast_views(features, generated)
            pairs = (
                combinations(views, 2)
                if self.contrast_method == 'pairs'
                else ((final, view) for view in views)
            )
            found = [
                bank_contrast(first, second, index, self.temperature)
                for x, y in pairs
                for first, second, index in zip(
                    x.split(sizes), y.split(sizes), (batch.user, batch.pos)
                )
            ]
            if found:  # one modality makes no pair
                terms['contrast'] = self.contrast_weight * sum(found)
        return terms


def _generator(
    graph: TrainingGraph,
    hidden_channels: int,
    diffusion: ModalityDiffusionConfig,
    denoiser: ModalityDenoiserConfig,
    training: ModalityTrainingConfig,
    generation: ModalityGenerationConfig,
) -> InterestGenerator:
    r"""The diffusion of the modality of ``graph``, which has one."""
    process = make_process(
        diffusion.process,
        diffusion.num_steps,
        diffusion.noise_scale,
        weighting=diffusion.weighting,
        sample_noise=diffusion.sample_noise,
    )
    return InterestGenerator(
        graph,
        make_denoiser(
            denoiser.name,
            graph,
            process,
            hidden_channels,
            denoiser.num_layers,
            denoiser.rank,
            channels=denoiser.channels,
            dropout=denoiser.dropout,
            normalize=denoiser.normalize,
        ),
        process,
        DenoiserTrainingConfig(
            training.objective,
            contrast_weight=0.0,
            lr=training.lr,
            batch_size=rows_per_block(graph.num_items, training.batch_size),
        ),
        GenerationConfig(
            topk=generation.rebuild_k,
            rebuild_k=generation.rebuild_k,
            candidates=generation.candidates,
            edge_weight='binary',
            edge_dropout=generation.edge_dropout,
        ),
        diffusion.start,
        signal_weight=training.signal_weight,
    )


def feature_transform(
    transform: str, modality: str, in_channels: int, out_channels: int
) -> ProjectionBlock:
    r"""Map from the features of ``modality`` to embeddings.

    Args:
        transform: One of :data:`TRANSFORMS`.
        modality: Name of the modality.
        in_channels: Width of the features.
        out_channels: Width of the embeddings.
    """
    bilinear = transform == 'bilinear' or transform == 'mixed' and modality == 'image'
    return ProjectionBlock(
        in_channels,
        out_channels,
        dropout=0.0,
        negative_slope=0.2 if bilinear else 1.0,
        batch_norm=False,
        bias=not bilinear,
    )
