r"""Optimisers beyond those of torch."""
from genrec_pyg.optim.mirror_gradient import MirrorGradient, check_coefficients

__all__ = ['MirrorGradient', 'check_coefficients']
