r"""Multimodal recommendation on PyTorch Geometric."""

import importlib

__version__ = '0.1.0'

#: Public name to the module that defines it. Imported on first use, so that ``import genrec_pyg``
#: stays cheap.
_LAZY = {
    'Trainer': 'genrec_pyg.training',
    'get_model': 'genrec_pyg.nn.models',
    'load_dataset': 'genrec_pyg.datasets',
}

__all__ = ['__version__', *sorted(_LAZY)]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
