r"""Encoders of texts, pictures and sounds; ``pip install genrec_pyg[text,image]``."""

from genrec_pyg.encoders.audio import AudioEncoder
from genrec_pyg.encoders.freezing import freeze_first, train_last
from genrec_pyg.encoders.images import read_image
from genrec_pyg.encoders.text import POOLING, TextEncoder
from genrec_pyg.encoders.vision import NORMS, ImageEncoder
from genrec_pyg.encoders.weights import PACKAGES, Weights, find_weights

__all__ = [
    'NORMS',
    'PACKAGES',
    'POOLING',
    'AudioEncoder',
    'ImageEncoder',
    'TextEncoder',
    'Weights',
    'find_weights',
    'freeze_first',
    'read_image',
    'train_last',
]
