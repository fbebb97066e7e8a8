r"""Modules and parameters by the name of a modality, whatever that name is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import torch

#: Start of an escaped key. No attribute of a container begins like this.
_MARK = 'name@'


class _AnyName:
    r"""Makes a container of torch take every text as a key.

    Torch keeps an entry as an attribute of the container, so that it refuses names with a dot,
    empty names and names of its own attributes, such as ``type``, ``keys`` or ``training``. These
    are escaped. All other names are keys of the state as they are, as in the containers of torch.
    """

    _reserved: frozenset[str] = frozenset()

    @classmethod
    def _escape(cls, key: str) -> str:
        if key and '.' not in key and key not in cls._reserved and not key.startswith(_MARK):
            return key
        return _MARK + key.replace('%', '%25').replace('.', '%2E')

    @staticmethod
    def _unescape(key: str) -> str:
        return unquote(key[len(_MARK) :]) if key.startswith(_MARK) else key

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(self._escape(key))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(self._escape(key), value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(self._escape(key))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and super().__contains__(self._escape(key))

    def __iter__(self) -> Iterator[str]:
        return map(self._unescape, super().__iter__())

    def keys(self) -> list[str]:
        r"""Names, in the order in which they were added."""
        return list(self)

    def values(self) -> list[Any]:
        r"""Entries, in that order."""
        return [self[key] for key in self]

    def items(self) -> list[tuple[str, Any]]:
        r"""Names and entries, in that order."""
        return [(key, self[key]) for key in self]


class ModuleDict(_AnyName, torch.nn.ModuleDict):
    r"""A :class:`torch.nn.ModuleDict` whose keys may be any text. That of
    :mod:`torch_geometric.nn.module_dict` takes neither ``training`` nor a ``#``, which it reads as
    a dot.
    """

    _reserved = frozenset(dir(_AnyName)) | frozenset(dir(torch.nn.ModuleDict()))


class ParameterDict(_AnyName, torch.nn.ParameterDict):
    r"""A :class:`torch.nn.ParameterDict` whose keys may be any text.

    Args:
        parameters: Entries; their order is kept, where torch sorts those of a plain dictionary by
            name.
    """

    _reserved = frozenset(dir(_AnyName)) | frozenset(dir(torch.nn.ParameterDict()))

    def __init__(self, parameters: Mapping[str, Any] | None = None):
        super().__init__(OrderedDict(parameters or {}))
