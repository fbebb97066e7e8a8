r"""Devices by name."""

from __future__ import annotations

import torch

from genrec_pyg.exceptions import ConfigError


def resolve_device(name: str) -> torch.device:
    r"""The torch device called ``name``; ``'auto'`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device: got {name!r}, which is not available ({reason}); accepted are 'auto', 'cpu', "
            "'cuda'"
        ) from error
    return device
