r"""Diffusion processes on user-item rows, denoisers, objectives and the generator that puts them to work."""
from genrec_pyg.nn.diffusion.denoiser import Denoiser, SingleTokenDecoderLayer, TiedDenoiser, TransformerDenoiser
from genrec_pyg.nn.diffusion.flip import FlipProcess, FlipRates, cumulative_flips, flip_rates
from genrec_pyg.nn.diffusion.generator import GeneratedEdges, InterestGenerator, modality_contrast
from genrec_pyg.nn.diffusion.linear import LinearDenoiser
from genrec_pyg.nn.diffusion.rows import ItemViews, RowState, SparseRows

__all__ = [
    'Denoiser', 'FlipProcess', 'FlipRates', 'GeneratedEdges', 'InterestGenerator', 'ItemViews', 'LinearDenoiser', 'RowState',
    'SingleTokenDecoderLayer', 'SparseRows', 'TiedDenoiser', 'TransformerDenoiser', 'cumulative_flips', 'flip_rates',
    'modality_contrast'
]
