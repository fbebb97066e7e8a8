r"""Diffusion processes on user-item rows, denoisers, objectives and the generator that puts them to
work.
"""

from genrec_pyg.nn.diffusion.config import (
    DENOISERS,
    PROCESSES,
    STARTS,
    DenoiserConfig,
    DenoiserTrainingConfig,
    DiffusionConfig,
    GenerationConfig,
)
from genrec_pyg.nn.diffusion.denoiser import (
    Denoiser,
    PerceptronDenoiser,
    SingleTokenDecoderLayer,
    TiedDenoiser,
    TransformerDenoiser,
)
from genrec_pyg.nn.diffusion.factory import make_denoiser, make_objective, make_process
from genrec_pyg.nn.diffusion.flip import FlipProcess, FlipRates, cumulative_flips, flip_rates
from genrec_pyg.nn.diffusion.gaussian import GaussianProcess, GaussianRates, gaussian_rates
from genrec_pyg.nn.diffusion.generated_graph import GeneratedEdges, GeneratedGraph
from genrec_pyg.nn.diffusion.generator import InterestGenerator
from genrec_pyg.nn.diffusion.linear import LinearDenoiser
from genrec_pyg.nn.diffusion.modality_terms import modality_contrast
from genrec_pyg.nn.diffusion.objectives import OBJECTIVES, Objective
from genrec_pyg.nn.diffusion.process import WEIGHTINGS, DiffusionProcess
from genrec_pyg.nn.diffusion.states import ItemViews, RowState, SparseRows

__all__ = [
    'DENOISERS',
    'Denoiser',
    'DenoiserConfig',
    'DenoiserTrainingConfig',
    'DiffusionConfig',
    'DiffusionProcess',
    'FlipProcess',
    'FlipRates',
    'GaussianProcess',
    'GaussianRates',
    'GeneratedEdges',
    'GeneratedGraph',
    'GenerationConfig',
    'InterestGenerator',
    'ItemViews',
    'LinearDenoiser',
    'OBJECTIVES',
    'Objective',
    'PROCESSES',
    'PerceptronDenoiser',
    'RowState',
    'STARTS',
    'SingleTokenDecoderLayer',
    'SparseRows',
    'TiedDenoiser',
    'TransformerDenoiser',
    'WEIGHTINGS',
    'cumulative_flips',
    'flip_rates',
    'gaussian_rates',
    'make_denoiser',
    'make_objective',
    'make_process',
    'modality_contrast',
]
