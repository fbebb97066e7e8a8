r"""Processes, objectives and denoisers by the names that models take."""

from __future__ import annotations

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.diffusion.config import DENOISERS, PROCESSES
from genrec_pyg.nn.diffusion.denoiser import (
    Denoiser,
    PerceptronDenoiser,
    TiedDenoiser,
    TransformerDenoiser,
)
from genrec_pyg.nn.diffusion.flip import FlipProcess
from genrec_pyg.nn.diffusion.gaussian import GaussianProcess
from genrec_pyg.nn.diffusion.linear import LinearDenoiser
from genrec_pyg.nn.diffusion.objectives import OBJECTIVES, Focal, Objective
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.utils.validation import check_choice


def make_process(
    name: str,
    num_steps: int = 5,
    scale: float = 1.0,
    weighting: str = 'snr',
    sample_noise: bool = True,
) -> DiffusionProcess:
    r"""The process called ``name``, each with its published schedule times ``scale``.

    Args:
        name: One of :data:`PROCESSES`.
        num_steps: Steps ``T``.
        scale: Factor on the flip rates or variances.
        weighting: Weight of the steps in the squared error, ``'snr'`` or ``'equal'``.
        sample_noise: Whether reverse steps draw or take the most probable state.

    Raises:
        ConfigError: On an unknown name.
    """
    check_choice('process', name, PROCESSES)
    process = {'flip': FlipProcess, 'gaussian': GaussianProcess}[name]
    return process(num_steps, scale, weighting, sample_noise)


def make_objective(name: str, focal_alpha: float = 0.25) -> Objective:
    r"""The objective called ``name``.

    Args:
        name: One of :data:`~genrec_pyg.nn.diffusion.objectives.OBJECTIVES`.
        focal_alpha: Share of the weight on ones in the focal loss.

    Raises:
        ConfigError: On an unknown name.
    """
    check_choice('objective', name, OBJECTIVES)
    return Focal(focal_alpha) if name == Focal.name else OBJECTIVES[name]()


def make_denoiser(
    name: str,
    graph: TrainingGraph,
    process: DiffusionProcess,
    view_channels: int,
    num_layers: int = 6,
    rank: int = 512,
    modality_weight: float = 50.0,
    channels: int = 1000,
    dropout: float = 0.5,
    normalize: bool = False,
) -> Denoiser:
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
    check_choice('denoiser', name, DENOISERS)
    if name == 'linear':
        return LinearDenoiser(graph, process, rank, modality_weight)
    if name == 'tied':
        return TiedDenoiser(max(len(graph.modalities), 1), view_channels, num_layers)
    if name == 'transformer':
        return TransformerDenoiser(graph.num_items, num_layers=num_layers)
    return PerceptronDenoiser(graph.num_items, channels, dropout=dropout, normalize=normalize)
