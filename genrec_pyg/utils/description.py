r"""Texts that tell transforms apart."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch_geometric.transforms import BaseTransform

_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    PurePath,
    range,
    slice,
    enum.Enum,
    torch.dtype,
    torch.device,
    torch.layout,
    np.generic,
)


def describe(value: Any) -> str | None:
    r"""A text that changes whenever ``value`` does: its class, its ``repr`` and all that it holds.

    Args:
        value: A transform, or an argument of one: numbers, texts, tensors, arrays, types,
            containers and objects of these.

    Returns:
        :obj:`None` where there is no such text: for functions, whose code is not seen, and for
        objects without a ``repr`` of their own, which did not mean to be told apart.
    """
    if isinstance(value, _PLAIN):
        return f'{type(value).__name__} {value!r}'
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return _describe_array(value)
    if isinstance(value, type):
        return f'{value.__module__}.{value.__qualname__}'
    if isinstance(value, Mapping):
        return _join(value, [part for pair in value.items() for part in pair])
    if isinstance(value, (list, tuple)):
        return _join(value, value)
    if isinstance(value, (set, frozenset)):
        return _join(value, sorted(value, key=repr))
    # as in the repr of functions, methods and plain objects
    if '<' in repr(value) or not hasattr(value, '__dict__'):
        return None
    state = sorted(vars(value).items())
    if state and type(value).__repr__ is BaseTransform.__repr__:  # which names no argument
        return None
    return _join(value, [repr(value), *(part for pair in state for part in pair)])


def _describe_array(value: Any) -> str | None:
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized:
            return None
        value = value.detach().cpu().contiguous()
        kind = str(value.dtype)
        content = value.view(-1).view(torch.uint8).numpy() if value.numel() > 0 else b''
    else:
        if value.dtype.hasobject:
            return None
        kind, content = value.dtype.str, np.ascontiguousarray(value)
    return f'{kind} {tuple(value.shape)} {hashlib.sha256(content).hexdigest()}'


def _join(value: Any, parts: Iterable[Any]) -> str | None:
    described = [describe(part) for part in parts]
    if None in described:
        return None
    return f'{type(value).__module__}.{type(value).__qualname__}({", ".join(map(repr, described))})'
