r"""Raw content of items: texts, and the places of images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph.containers import num_rows
from genrec_pyg.graph.schema import ITEM


@dataclass(frozen=True)
class Content:
    r"""Raw content of one kind, of every item.

    Args:
        name: Attribute of ``data['item']`` that holds it.
        values: One text per item; of images the absolute path of a file. An item without content
            has an empty one.
    """

    name: str
    values: tuple[str, ...]

    def digest(self) -> str:
        r"""Hex digest of all values; of files of their names, wherever the folder lies now."""
        found = hashlib.sha256(self.name.encode())
        for value in self.values:
            value = os.path.basename(value) if os.path.isabs(value) else value
            found.update(b'\0' + value.encode('utf-8', 'surrogateescape'))
        return found.hexdigest()


def content_names(data: HeteroData) -> list[str]:
    r"""Names of the attributes of ``data['item']`` that hold a text per item."""
    count = int(data[ITEM].num_nodes)
    return [
        name
        for name, value in data[ITEM].items()
        if name != 'raw_id'
        and isinstance(value, (list, tuple))
        and len(value) == count
        and _are_texts(value)
    ]


def read_content(data: HeteroData, name: str) -> Content:
    r"""The content ``name`` of the items of a canonical graph.

    Raises:
        ConfigError: If ``data['item']`` has no list of one text per item under this name.
    """
    values = data[ITEM].get(name)
    count = int(data[ITEM].num_nodes)
    if num_rows(values) != count or not isinstance(values, (list, tuple)) or not _are_texts(values):
        found = (
            'nothing'
            if values is None
            else f'{num_rows(values)} entries of {type(values).__name__}'
        )
        raise ConfigError(
            f"content: data['item'].{name} is {found}, accepted is a list of {count} texts (of "
            f'images, the paths of files), one per item; this graph has '
            f'{", ".join(content_names(data)) or "none"}'
        )
    return Content(name, tuple(value or '' for value in values))


def _are_texts(values: Sequence) -> bool:
    return all(value is None or isinstance(value, str) for value in values)
