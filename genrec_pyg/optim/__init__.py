r"""Optimisers beyond those of torch."""
from genrec_pyg.optim.mirror_gradient import MirrorGradient

__all__ = ['MirrorGradient']
