r"""Diffusion processes on user-item rows, denoisers, objectives and the generator that puts them to work."""
from genrec_pyg.nn.diffusion.denoiser import (
    Denoiser,
    PerceptronDenoiser,
    SingleTokenDecoderLayer,
    TiedDenoiser,
    TransformerDenoiser,
)
from genrec_pyg.nn.diffusion.factory import DENOISERS, PROCESSES, make_denoiser, make_process
from genrec_pyg.nn.diffusion.flip import FlipProcess, FlipRates, cumulative_flips, flip_rates
from genrec_pyg.nn.diffusion.gaussian import GaussianProcess, GaussianRates, gaussian_rates
from genrec_pyg.nn.diffusion.generator import GeneratedEdges, InterestGenerator
from genrec_pyg.nn.diffusion.linear import LinearDenoiser
from genrec_pyg.nn.diffusion.objective import modality_contrast
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.diffusion.states import ItemViews, RowState, SparseRows

__all__ = [
    'DENOISERS', 'Denoiser', 'DiffusionProcess', 'FlipProcess', 'FlipRates', 'GaussianProcess', 'GaussianRates',
    'GeneratedEdges', 'InterestGenerator', 'ItemViews', 'LinearDenoiser', 'PROCESSES', 'PerceptronDenoiser', 'RowState',
    'SingleTokenDecoderLayer', 'SparseRows', 'TiedDenoiser', 'TransformerDenoiser', 'cumulative_flips', 'flip_rates',
    'gaussian_rates', 'make_denoiser', 'make_process', 'modality_contrast'
]
