r"""Optimizers beyond those of torch, and how sharp the minima are that they find."""
from genrec_pyg.optim.mirror_gradient import MirrorGradient, check_coefficients
from genrec_pyg.optim.sharpness import Curvature, ascent_sharpness, largest_curvature

__all__ = ['Curvature', 'MirrorGradient', 'ascent_sharpness', 'check_coefficients', 'largest_curvature']
