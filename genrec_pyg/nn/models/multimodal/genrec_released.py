r"""What the released program of GenRec-V1 computes where it differs from the paper; docs/parity.md
explains each row.

Nothing else in the package knows of it, but the kernel
:func:`genrec_pyg.ops.released_flip_probability`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster import interest_labels
from genrec_pyg.nn.cluster.sklearn_kmeans import inertia_bends
from genrec_pyg.nn.diffusion import (
    FlipProcess,
    FlipRates,
    GeneratedGraph,
    InterestGenerator,
    RowState,
    SparseRows,
)
from genrec_pyg.nn.diffusion.objectives import Focal, Objective, weighted_focal
from genrec_pyg.nn.items import ItemRows
from genrec_pyg.nn.modality.graph_encoder import GraphEncoderConfig, MultimodalGraphEncoder
from genrec_pyg.nn.models.multimodal.genrec_parts import GenRecParts
from genrec_pyg.nn.models.multimodal.genrec_settings import PartSettings
from genrec_pyg.ops import Adjacency, flip_dense, released_flip_probability


class ReleasedEncoder(MultimodalGraphEncoder):
    r"""Graph encoder that is always in training mode, with batch statistics of each modality by
    itself.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, joint_norm=False)

    def train(self, mode: bool = True) -> ReleasedEncoder:
        r"""Sets training mode, whatever is asked for."""
        return super().train(True)


class ReleasedFlips(FlipProcess):
    r"""Flips with cumulative rates that are products without the return path, every entry flipped
    by the closed form of :func:`~genrec_pyg.ops.released_flip_probability` (0.38 at ``flip_temp=1``
    whatever the schedule). The reverse step takes the last step's rates for every ``t``, so that
    small rates sample the complement of the prediction. States are dense.

    Args:
        num_steps: Steps ``T``.
        scale: Factor on the rates of :func:`~genrec_pyg.nn.diffusion.flip_rates`.
        flip_temp: Temperature :math:`\kappa`.
    """

    def __init__(self, num_steps: int = 5, scale: float = 1.0, flip_temp: float = 1.0):
        super().__init__(num_steps, scale)
        self.flip_temp = flip_temp

    def rates(self, rows: SparseRows) -> FlipRates:
        r"""Rates for a batch of rows, from its density."""
        rates = super().rates(rows)
        return rates._replace(
            gamma_bar=1 - (1 - rates.gamma).cumprod(0),
            epsilon_bar=1 - (1 - rates.epsilon).cumprod(0),
        )

    def diffuse(self, rows: SparseRows, t: Tensor, rates: FlipRates) -> Tensor:
        r"""Draws :math:`\mathbf{x}_t` ``[B, I]`` with step ``t`` ``[B]`` per row."""
        device = rows.col.device
        up, down = (
            released_flip_probability(rate.to(device)[t], self.flip_temp).float()
            for rate in (rates.gamma_bar, rates.epsilon_bar)
        )
        return flip_dense(rows.dense(), up, down)

    def reverse(self, state: RowState, estimate: Tensor, t: int, rates: FlipRates) -> Tensor:
        r"""Draws :math:`\mathbf{x}_{t-1}` ``[B, I]``, whatever the state."""
        up, down = float(rates.gamma_bar[-1]), float(rates.epsilon_bar[-1])
        one = estimate * up + (1 - estimate) * (1 - down)
        zero = estimate * (1 - up) + (1 - estimate) * down
        return torch.bernoulli(one / (one + zero))


class ReleasedFocal(Objective):
    r"""Focal loss with ``a = 0.25 * #zeros / #ones`` on ones and ``1 - a`` on zeros.

    On sparse data ``a`` is far above 1, so the weight of the zeros is negative: the loss rewards
    predicting 1 everywhere and is bounded below only by the clamp of the probabilities.
    """

    name = Focal.name

    def loss(self, logits: Tensor, rows: SparseRows, weight: Tensor | None = None) -> Tensor:
        ones = max(rows.col.numel(), 1)
        share = 0.25 * (logits.numel() - ones) / ones
        return weighted_focal(logits.clamp(-16, 16), rows, share, 1 - share)


class ReleasedGraph(GeneratedGraph):
    r"""Generated graph whose edge dropout removes every stored entry of the adjacency matrix by
    itself, self loops among them, also in evaluation.
    """

    @property
    def drops(self) -> bool:
        r"""Whether entries are missing, in training or not."""
        return self.edge_dropout > 0

    def num_draws(self, num_edges: int) -> int:
        r"""Stored entries of the adjacency matrix."""
        return 2 * num_edges + self.graph.num_users + self.graph.num_items

    def drop(self, adj: Adjacency) -> Adjacency:
        r"""``adj`` without the entries that are dropped in this epoch."""
        index, value = adj.to_edge_index()
        survives = self.edges.kept
        return Adjacency.from_edge_index(index[:, survives], value[survives] / self.keep, adj.size)


class ReleasedGenerator(InterestGenerator):
    r"""Generator whose denoiser drops out where edges are generated."""

    graph_class = ReleasedGraph
    generates_with_dropout = True


def released_num_clusters(features: np.ndarray, seed: int = 0) -> int:
    r"""Index of the smallest second difference of the inertia plus 4, which takes an index of a
    grid with a stride of 10 for a number; arguments as in
    :func:`~genrec_pyg.nn.cluster.choose_num_clusters`.
    """
    grid, bend, num_distinct = inertia_bends(features, seed)
    if bend is None:
        return grid[-1] if grid else 1
    return min(int(bend.argmin()) + 4, num_distinct)


class ReleasedParts(GenRecParts):
    r"""Parts of the released program: settings that it fixes, and the classes of this module.

    Args:
        graph: Training graph.
        hidden_channels: Embedding width ``d``.
        settings: Settings of the parts.

    Raises:
        ConfigError: If another modality than audio is to have a specific part where there is audio.
    """

    generator_class = ReleasedGenerator
    debiases = False
    scores_interest = False

    def __init__(self, graph, hidden_channels: int, settings: PartSettings):
        super().__init__(
            graph,
            hidden_channels,
            replace(
                settings,
                encoder=self._encoder_config(settings.encoder, graph.modalities),
                ranking=replace(settings.ranking, loss='bpr'),
                denoiser=replace(settings.denoiser, name='transformer'),
                denoiser_training=replace(
                    settings.denoiser_training,
                    objective=Focal.name,
                    variational_weight=0.0,
                    contrast_weight=0.0,
                    num_negatives=0,
                ),
                diffusion=replace(settings.diffusion, start='diffused'),
                generation=replace(
                    settings.generation, candidates='all', final='sample', edge_weight='binary'
                ),
            ),
        )

    @staticmethod
    def _encoder_config(config: GraphEncoderConfig, modalities: dict) -> GraphEncoderConfig:
        if 'audio' not in modalities:
            return config
        if config.specific not in (None, ['audio']):
            raise ConfigError(
                f"encoder.specific: got {list(config.specific)} with variant='released', accepted "
                f"is ['audio']"
            )
        return replace(config, specific=['audio'])

    def make_encoder(self, items: ItemRows | None = None) -> ReleasedEncoder:
        return ReleasedEncoder(
            self.graph, self.hidden_channels, **vars(self.settings.encoder), items=items
        )

    def make_process(self) -> ReleasedFlips:
        diffusion = self.settings.diffusion
        return ReleasedFlips(diffusion.num_steps, diffusion.noise_scale, diffusion.flip_temp)

    def make_objective(self) -> ReleasedFocal:
        return ReleasedFocal()

    def make_labels(self) -> dict[str, Tensor]:
        r"""Clusters of the images alone, or of the first modality where there is no image: equal
        clusters in all modalities decide as one modality does.
        """
        labels = interest_labels(
            self.graph.modalities, self.settings.debias.clusters, choose=released_num_clusters
        )
        name = 'image' if 'image' in labels else next(iter(labels))
        return {name: labels[name]}
