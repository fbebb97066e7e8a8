r"""Mirror Gradient and estimates of the sharpness of minima."""

from genrec_pyg.optim.mirror_gradient import MirrorGradient, check_coefficients
from genrec_pyg.optim.sharpness import Curvature, ascent_sharpness, largest_curvature

__all__ = [
    'Curvature',
    'MirrorGradient',
    'ascent_sharpness',
    'check_coefficients',
    'largest_curvature',
]
