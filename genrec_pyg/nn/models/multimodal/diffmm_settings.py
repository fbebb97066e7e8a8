r"""Settings of DiffMM in groups, and their names in earlier versions."""

from __future__ import annotations

from dataclasses import dataclass

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion import DENOISERS, OBJECTIVES, PROCESSES, STARTS, WEIGHTINGS
from genrec_pyg.nn.models.settings import Conversion, complement, moved, renamed
from genrec_pyg.utils.validation import check_choice, check_range


@dataclass(frozen=True)
class ModalityDiffusionConfig:
    r"""Noise and reverse chain of every modality.

    Args:
        process: ``'gaussian'``, the noise of the paper, or ``'flip'`` (GenRec-V1); nothing else
            differs.
        num_steps: Diffusion steps ``T``.
        noise_scale: Factor on the variances of Gaussian noise, or on the flip rates.
        start: Where the reverse chain starts: ``'clean'``, ``'diffused'`` or ``'observed'``, see
            :class:`~genrec_pyg.nn.diffusion.DiffusionConfig`.
        weighting: Weight of the steps in the squared error: ``'snr'`` or ``'equal'``.
        sample_noise: Whether a reverse step draws from its distribution or takes the most probable
            state.
    """

    process: str = 'gaussian'
    num_steps: int = 5
    noise_scale: float = 1.0
    start: str = 'clean'
    weighting: str = 'snr'
    sample_noise: bool = False

    def __post_init__(self) -> None:
        check_choice('process', self.process, PROCESSES)
        check_range('num_steps', self.num_steps, 1)
        check_range('noise_scale', self.noise_scale, 0)
        check_choice('start', self.start, STARTS)
        check_choice('weighting', self.weighting, WEIGHTINGS)


@dataclass(frozen=True)
class ModalityDenoiserConfig:
    r"""Network that removes the noise, one for every modality.

    Args:
        name: ``'perceptron'`` (the paper), ``'linear'``, ``'transformer'`` or ``'tied'``, see
            :class:`~genrec_pyg.nn.diffusion.DenoiserConfig`.
        num_layers: Transformer layers or residual blocks of the tied denoiser.
        rank: Rank of the linear denoiser.
        channels: Hidden width of the perceptron.
        dropout: Dropout of its input.
        normalize: Whether its input is normalized.
    """

    name: str = 'perceptron'
    num_layers: int = 2
    rank: int = 512
    channels: int = 1000
    dropout: float = 0.5
    normalize: bool = False

    def __post_init__(self) -> None:
        check_choice('name', self.name, DENOISERS)
        check_range('num_layers', self.num_layers, 0)
        check_range('rank', self.rank, 1)
        check_range('channels', self.channels, 1)
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f'dropout: got {self.dropout}, accepted are numbers from 0 up to but not including '
                f'1'
            )


@dataclass(frozen=True)
class ModalityTrainingConfig:
    r"""How the denoisers are trained by gradient, one pass over the users per epoch.

    Args:
        objective: ``'squared'`` (the paper), ``'multinomial'``, ``'focal'`` or ``'bce'``, see
            :class:`~genrec_pyg.nn.diffusion.DenoiserTrainingConfig`.
        signal_weight: Weight of the modality signal injection.
        lr: Learning rate of the denoiser's Adam.
        batch_size: Users per batch, of at most 2^23 entries.
    """

    objective: str = 'squared'
    signal_weight: float = 0.1
    lr: float = 1e-3
    batch_size: int = 1024

    def __post_init__(self) -> None:
        check_choice('objective', self.objective, OBJECTIVES)
        check_range('signal_weight', self.signal_weight, 0)
        check_range('lr', self.lr, 0, open_low=True)
        check_range('batch_size', self.batch_size, 1)


@dataclass(frozen=True)
class ModalityGenerationConfig:
    r"""Graphs that are generated, one for every modality.

    Args:
        rebuild_k: Generated edges per user, the most probable ones.
        candidates: ``'all'`` items, or only ``'new'`` ones, with which the user has not interacted.
        edge_dropout: Share of the generated edges that is dropped in the training of an epoch.
        weight: :math:`\lambda_g`, that of the generated graphs in the embeddings.
    """

    rebuild_k: int = 1
    candidates: str = 'all'
    edge_dropout: float = 0.5
    weight: float = 0.2

    def __post_init__(self) -> None:
        check_range('rebuild_k', self.rebuild_k, 1)
        check_choice('candidates', self.candidates, ('new', 'all'))
        if not 0 <= self.edge_dropout < 1:
            raise ConfigError(
                f'edge_dropout: got {self.edge_dropout}, accepted are numbers in [0, 1)'
            )
        check_range('weight', self.weight, 0)


#: Settings of versions in which they stood side by side.
FORMER_SETTINGS: dict[str, Conversion] = {
    'keep': complement('generation.edge_dropout'),
    **{
        name: renamed(f'diffusion.{name}')
        for name in ('process', 'num_steps', 'noise_scale', 'start', 'weighting', 'sample_noise')
    },
    **moved(
        'denoiser',
        denoiser='name',
        denoiser_layers='num_layers',
        denoiser_rank='rank',
        denoiser_channels='channels',
        denoiser_dropout='dropout',
        denoiser_normalize='normalize',
    ),
    **moved(
        'denoiser_training',
        objective='objective',
        signal_weight='signal_weight',
        denoiser_lr='lr',
        denoiser_batch_size='batch_size',
    ),
    **moved(
        'generation',
        rebuild_k='rebuild_k',
        candidates='candidates',
        edge_dropout='edge_dropout',
        generated_weight='weight',
    ),
}
