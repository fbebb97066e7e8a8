r"""Parts of GenRec, made from its settings as the paper describes them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.cluster import InterestDebias, interest_labels, spectral_labels
from genrec_pyg.nn.diffusion import InterestGenerator, make_denoiser, make_process
from genrec_pyg.nn.diffusion.objectives import Objective
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.interest import (
    GeneratedInterest,
    InterestConfig,
    UserInterests,
    UserInterestsConfig,
)
from genrec_pyg.nn.items import ItemRows
from genrec_pyg.nn.modality.graph_encoder import MultimodalGraphEncoder
from genrec_pyg.nn.models.multimodal.genrec_settings import PartSettings
from genrec_pyg.ops import rows_per_block


class GenRecParts:
    r"""Makes the parts of a GenRec;
    :class:`~genrec_pyg.nn.models.multimodal.genrec_released.ReleasedParts` makes others.

    Args:
        graph: Training graph.
        hidden_channels: Embedding width ``d``.
        settings: Settings of the parts.
    """

    #: Class of the generator.
    generator_class: type[InterestGenerator] = InterestGenerator
    #: Whether changes are debiased where the settings leave it open.
    debiases: bool = True
    #: Whether the generated interest may enter the score.
    scores_interest: bool = True

    def __init__(self, graph: TrainingGraph, hidden_channels: int, settings: PartSettings):
        self.graph = graph
        self.hidden_channels = hidden_channels
        self.settings = settings

    def make_encoder(self, items: ItemRows | None = None) -> MultimodalGraphEncoder:
        r"""The graph encoder, with ``items`` in the place of its table of items."""
        return MultimodalGraphEncoder(
            self.graph, self.hidden_channels, **vars(self.settings.encoder), items=items
        )

    @property
    def interest_config(self) -> InterestConfig | None:
        r"""Settings of the interest in closed form, or none where there is no such interest."""
        settings = self.settings
        if not (
            settings.generation.enabled
            and self.scores_interest
            and settings.denoiser.name == 'linear'
        ):
            return None
        if settings.diffusion.process == 'gaussian':  # whose ridge is constant
            return replace(settings.interest, ridge_power=0.0, discount=0.0)
        return settings.interest

    def make_interest(self) -> GeneratedInterest | None:
        r"""The generated interest in closed form, still without a kernel."""
        return None if self.interest_config is None else GeneratedInterest(self.graph)

    def make_user_interests(self, config: UserInterestsConfig) -> UserInterests | None:
        r"""Several interests per user by clusters of the fused features, if they are asked for.

        Raises:
            ConfigError: If the graph has no modality.
        """
        if config.count == 1:
            return None
        if not self.graph.modalities:
            raise ConfigError(
                f'user_interests.count: got {config.count} on a graph without a modality, accepted '
                f'is 1: interests are clusters of modality features'
            )
        features = [modality.item_features() for modality in self.graph.modalities.values()]
        labels = spectral_labels(features, config.count).to(self.graph.edge_index.device)
        return UserInterests(
            labels, self.graph.edge_index, self.graph.num_users, self.hidden_channels, config
        )

    def make_generator(self) -> InterestGenerator | None:
        r"""The generator, if interactions are generated."""
        settings = self.settings
        if not settings.generation.enabled:
            return None
        process, rank = self.make_process(), settings.denoiser.rank
        if (
            self.interest_config is not None
            and self.graph.num_items <= 4 * self.interest_config.rank
        ):
            # the interest is kept whole then, and the generator takes it
            rank = max(rank, self.graph.num_items)
        training = settings.denoiser_training
        if not process.binary:  # dense states: a batch holds no more than a block of scores
            training = replace(
                training, batch_size=rows_per_block(self.graph.num_items, training.batch_size)
            )
        debias = self.make_debias()
        denoiser = make_denoiser(
            settings.denoiser.name,
            self.graph,
            process,
            self.hidden_channels,
            settings.denoiser.num_layers,
            rank,
            settings.denoiser.modality_weight,
        )
        return self.generator_class(
            self.graph,
            denoiser,
            process,
            training,
            settings.generation,
            settings.diffusion.start,
            self.make_objective(),
            debias,
        )

    def make_process(self) -> DiffusionProcess:
        r"""The noise."""
        diffusion = self.settings.diffusion
        return make_process(diffusion.process, diffusion.num_steps, diffusion.noise_scale)

    def make_objective(self) -> Objective | None:
        r"""The objective, if it is not that of the settings."""
        return None

    def make_debias(self) -> InterestDebias | None:
        r"""The filter of generated changes, if there is one."""
        config = self.settings.debias
        enabled = self.debiases if config.enabled is None else config.enabled
        if not (enabled and self.graph.modalities and self.settings.generation.rebuild_k > 0):
            return None
        return InterestDebias(
            self.make_labels(),
            self.graph.edge_index,
            self.graph.num_users,
            config.sample_ratio,
            config.decision,
        )

    def make_labels(self) -> dict[str, Tensor]:
        r"""Clusters of the items by modality."""
        return interest_labels(self.graph.modalities, self.settings.debias.clusters)
