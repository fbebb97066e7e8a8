r"""Checks of arguments, with one sentence that names argument, value and what is accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from genrec_pyg.exceptions import ConfigError


def check_range(
    name: str, value: float, low: float, high: float = float('inf'), open_low: bool = False
) -> None:
    r"""Checks a number of the constructor.

    Raises:
        ConfigError: If ``value`` is not between ``low`` and ``high``; the message names argument,
            value and range.
    """
    if not (low < value if open_low else low <= value) or not value <= high:
        accepted = f'from {low}' if high == float('inf') else f'from {low} to {high}'
        raise ConfigError(
            f'{name}: got {value}, accepted are numbers '
            f'{accepted}{", excluded" if open_low else ""}'
        )


def check_dropout(name: str, value: float) -> None:
    r"""Checks a share that is left out, of which something must stay.

    Raises:
        ConfigError: If ``value`` is not in [0, 1).
    """
    if not 0 <= value < 1:
        raise ConfigError(
            f'{name}: got {value}, accepted are numbers from 0 up to but not including 1'
        )


def check_choice(name: str, value: Any, accepted: Iterable[str]) -> None:
    r"""Checks a name of the constructor.

    Raises:
        ConfigError: If ``value`` is none of ``accepted``.
    """
    if value not in accepted:
        raise ConfigError(f'{name}: got {value!r}, accepted are {", ".join(map(repr, accepted))}')
