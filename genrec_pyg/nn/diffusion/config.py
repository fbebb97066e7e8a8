r"""Settings of a diffusion, its denoiser, the training of that and the graph that both generate."""

from __future__ import annotations

from dataclasses import dataclass

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted names of processes.
PROCESSES = ('flip', 'gaussian')
#: Accepted starts of the reverse chain.
STARTS = ('diffused', 'observed', 'clean')
#: Accepted names of denoisers.
DENOISERS = ('linear', 'transformer', 'tied', 'perceptron')
#: Accepted names of objectives.
OBJECTIVES = ('multinomial', 'focal', 'bce', 'squared')


@dataclass(frozen=True)
class DiffusionConfig:
    r"""Noise and reverse chain.

    Args:
        process: ``'flip'`` (GenRec-V1) or ``'gaussian'``, the noise of DiffMM.
        num_steps: Diffusion steps ``T``.
        noise_scale: Factor on the flip rates, or on the variances of Gaussian noise.
        flip_temp: Temperature of the flips of the released program of GenRec-V1.
        start: Where the reverse chain starts: ``'diffused'`` from :math:`\mathbf{x}_T`,
            ``'observed'`` with a single prediction from :math:`\mathbf{x}_0` at the first step,
            ``'clean'`` from :math:`\mathbf{x}_0` taken for :math:`\mathbf{x}_T`, without noise
            (DiffMM).
    """

    process: str = 'flip'
    num_steps: int = 5
    noise_scale: float = 1.0
    flip_temp: float = 1.0
    start: str = 'observed'

    def __post_init__(self) -> None:
        check_choice('process', self.process, PROCESSES)
        check_range('num_steps', self.num_steps, 1)
        check_range('noise_scale', self.noise_scale, 0)
        check_range('flip_temp', self.flip_temp, 0, open_low=True)
        check_choice('start', self.start, STARTS)


@dataclass(frozen=True)
class DenoiserConfig:
    r"""Network or matrix that removes the noise.

    Args:
        name: ``'linear'`` (closed form), ``'transformer'`` (GenRec-V1), ``'tied'`` (no parameter
            per item) or ``'perceptron'`` (DiffMM).
        num_layers: Transformer layers (0: none, a perceptron) or residual blocks of the tied
            denoiser.
        rank: Rank of the linear denoiser.
        modality_weight: Weight of the modality rows in the linear denoiser.
    """

    name: str = 'linear'
    num_layers: int = 6
    rank: int = 256
    modality_weight: float = 50.0

    def __post_init__(self) -> None:
        check_choice('name', self.name, DENOISERS)
        check_range('num_layers', self.num_layers, 0)
        check_range('rank', self.rank, 1)
        check_range('modality_weight', self.modality_weight, 0)


@dataclass(frozen=True)
class DenoiserTrainingConfig:
    r"""How a denoiser is trained by gradient, one pass over the users per epoch.

    Args:
        objective: ``'multinomial'``, ``'focal'``, ``'bce'`` or ``'squared'``, the squared error
            with the weight that the process gives a step.
        focal_alpha: Share of the weight on ones in the focal loss.
        variational_weight: Weight of the variational term, 0 for none.
        contrast_weight: Weight of the modality-aware contrastive term, per modality; 0 for none.
        contrast_temperature: Its temperature.
        num_negatives: Items sampled per batch to estimate the normalizer of the multinomial
            objective; 0 takes all items.
        lr: Learning rate of the denoiser's Adam.
        batch_size: Users per batch, also where graphs are generated.
    """

    objective: str = 'multinomial'
    focal_alpha: float = 0.25
    variational_weight: float = 0.0
    contrast_weight: float = 0.01
    contrast_temperature: float = 0.2
    num_negatives: int = 0
    lr: float = 1e-3
    batch_size: int = 1024

    def __post_init__(self) -> None:
        check_choice('objective', self.objective, OBJECTIVES)
        if not 0 < self.focal_alpha < 1:
            raise ConfigError(
                f'focal_alpha: got {self.focal_alpha}, accepted are numbers in (0, 1)'
            )
        check_range('variational_weight', self.variational_weight, 0)
        check_range('contrast_weight', self.contrast_weight, 0)
        for name in ('contrast_temperature', 'lr'):
            check_range(name, getattr(self, name), 0, open_low=True)
        check_range('batch_size', self.batch_size, 1)
        samples = self.objective == 'multinomial' and self.variational_weight == 0
        if self.num_negatives < 0 or self.num_negatives > 0 and not samples:
            raise ConfigError(
                f'num_negatives: got {self.num_negatives}, accepted are 0, or with objective '
                "'multinomial' and variational_weight 0 integers from 1"
            )


@dataclass(frozen=True)
class GenerationConfig:
    r"""Edges that are generated for every user once per epoch.

    Args:
        enabled: Whether interactions are generated at all.
        topk: Entries per user that may take a generated value.
        rebuild_k: Generated edges per user, the most probable ones; 0 builds no graph.
        candidates: ``'new'`` generates only items that the user has not interacted with, ``'all'``
            also observed ones (then a user with a long history mostly receives edges that exist
            already).
        final: The last reverse step: ``'mode'`` takes the most probable entries, ``'sample'`` draws
            each one, which leaves nearly no new edge where probabilities are calibrated (about
            0.01).
        edge_weight: ``'probability'`` weighs an edge by its probability relative to the user's
            best, ``'binary'`` by 1.
        edge_dropout: Share of the generated edges that is dropped in the training of an epoch; the
            others are divided by what is left.
    """

    enabled: bool = True
    topk: int = 5
    rebuild_k: int = 5
    candidates: str = 'new'
    final: str = 'mode'
    edge_weight: str = 'probability'
    edge_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_range('topk', self.topk, 1)
        if not 0 <= self.rebuild_k <= self.topk:
            raise ConfigError(
                f'rebuild_k: got {self.rebuild_k}, accepted are 0 to topk = {self.topk}'
            )
        check_choice('candidates', self.candidates, ('new', 'all'))
        check_choice('final', self.final, ('mode', 'sample'))
        check_choice('edge_weight', self.edge_weight, ('probability', 'binary'))
        if not 0 <= self.edge_dropout < 1:
            raise ConfigError(
                f'edge_dropout: got {self.edge_dropout}, accepted are numbers in [0, 1)'
            )
