r"""Packages that only encoders need."""

from __future__ import annotations

import importlib
from types import ModuleType

from genrec_pyg.exceptions import ConfigError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    r"""Imports an optional package.

    Args:
        module: Name of the module.
        extra: Extra of this package that installs it.
        purpose: What needs it, for the message.

    Raises:
        ConfigError: If it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f'{purpose} needs the package {module.partition(".")[0]}, which cannot be imported '
            f'({error}): pip install genrec_pyg[{extra}]'
        ) from error
