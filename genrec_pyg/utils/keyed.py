r"""Random numbers that belong to keys and positions rather than to the order of calls."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 2**64 - 1


def mix(key: int, block: int) -> int:
    r"""Seed of a block from the key of a draw (the finalizer of SplitMix64: Steele, Lea, Flood,
    OOPSLA 2014, https://doi.org/10.1145/2660193.2660195).
    """
    z = (key + (block + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) >> 1  # seeds are signed


def keyed_uniform(key: int, position: Tensor) -> Tensor:
    r"""Numbers in [0, 1), float64, one for each ``position`` (int64), the same for the same key and
    position wherever it is asked for: :func:`mix` of both in operations of torch.
    """
    z = position + _signed((key * 0x9E3779B97F4A7C15) & _MASK)
    z = z * _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    z = z ^ _shifted(z, 31)
    return _shifted(z, 11).double() * 2.0**-53


def _signed(number: int) -> int:
    r"""The int64 with the bits of ``number``; products of int64 keep the lower bits."""
    return number - 2**64 if number >= 2**63 else number


def _shifted(z: Tensor, bits: int) -> Tensor:
    r"""Shift to the right that fills in zeros, where that of int64 repeats the sign."""
    return (z >> bits) & (2 ** (64 - bits) - 1)


def draw_key() -> int:
    r"""A key from torch's global generator of the CPU, the same in all processes that have drawn
    the same before.
    """
    return int(torch.randint(2**62, (1,)).numpy()[0])  # no wait for a device: it lies in memory
