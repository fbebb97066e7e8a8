r"""Processes and denoisers by the names that models take."""
from __future__ import annotations

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.diffusion.denoiser import Denoiser, PerceptronDenoiser, TiedDenoiser, TransformerDenoiser
from genrec_pyg.nn.diffusion.flip import FlipProcess
from genrec_pyg.nn.diffusion.gaussian import GaussianProcess
from genrec_pyg.nn.diffusion.linear import LinearDenoiser
from genrec_pyg.nn.diffusion.process import DiffusionProcess

#: Accepted names of processes.
PROCESSES = ('flip', 'gaussian')
#: Accepted names of denoisers.
DENOISERS = ('linear', 'transformer', 'tied', 'perceptron')


def make_process(name: str, num_steps: int = 5, scale: float = 1.0, flip_temp: float = 1.0, variant: str = 'principled',
                 weighting: str = 'snr', sample_noise: bool = True) -> DiffusionProcess:
    r"""The process called ``name``, each with its published schedule times ``scale``.

    Args:
        name: One of :data:`PROCESSES`.
        num_steps: Steps ``T``.
        scale: Factor on the flip rates or variances.
        flip_temp: Temperature of the released flips, not used by Gaussian noise.
        variant: Variant of the flips, not used by Gaussian noise.
        weighting: Weight of the steps in the squared error, ``'snr'`` or ``'equal'``.
        sample_noise: Whether reverse steps draw or take the most probable state.

    Raises:
        ConfigError: On an unknown name.
    """
    if name not in PROCESSES:
        raise ConfigError(f"process: got {name!r}, accepted are {', '.join(map(repr, PROCESSES))}")
    if name == 'flip':
        return FlipProcess(num_steps, scale, flip_temp, variant, weighting, sample_noise)
    return GaussianProcess(num_steps, scale, weighting, sample_noise)


def make_denoiser(name: str, graph: TrainingGraph, process: DiffusionProcess, view_channels: int, num_layers: int = 6,
                  rank: int = 512, modality_weight: float = 50.0, channels: int = 1000, dropout: float = 0.5,
                  normalize: bool = False) -> Denoiser:
    r"""The denoiser called ``name``; arguments that another one takes are not used.

    Args:
        name: One of :data:`DENOISERS`.
        graph: Training graph.
        process: Process whose noise it removes.
        view_channels: Width of an item view.
        num_layers: Transformer layers or residual blocks of the tied denoiser.
        rank: Rank of the linear denoiser.
        modality_weight: Weight of the modality rows in the linear denoiser.
        channels: Hidden width of the perceptron.
        dropout: Dropout of the perceptron's input.
        normalize: Whether the perceptron normalizes its input.

    Raises:
        ConfigError: On an unknown name.
    """
    if name not in DENOISERS:
        raise ConfigError(f"denoiser: got {name!r}, accepted are {', '.join(map(repr, DENOISERS))}")
    if name == 'linear':
        return LinearDenoiser(graph, process, rank, modality_weight)
    if name == 'tied':
        return TiedDenoiser(max(len(graph.modalities), 1), view_channels, num_layers)
    if name == 'transformer':
        return TransformerDenoiser(graph.num_items, num_layers=num_layers)
    return PerceptronDenoiser(graph.num_items, channels, dropout=dropout, normalize=normalize)
