r"""Types and checks of flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def positive(text: str) -> int:
    r"""Type of flags that take an integer from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'got {text}, accepted are integers from 1')
    return value


def check_models(names: Sequence[str], parser: argparse.ArgumentParser) -> None:
    r"""Ends with a usage error unless all are models that train by gradient."""
    from genrec_pyg.nn.models import MODELS, get_model  # here, for the reason above

    unknown = [name for name in names if name not in MODELS or not get_model(name).trainable]
    if unknown:
        trained = [name for name in MODELS if get_model(name).trainable]
        parser.error(
            f'--models: got {", ".join(unknown)}, accepted are models trained by gradient: '
            f'{", ".join(trained)}'
        )
