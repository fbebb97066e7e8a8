r"""Tables of items: ids and titles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genrec_pyg.datasets.io.layouts import recognize
from genrec_pyg.datasets.io.logs import as_text, read_log
from genrec_pyg.datasets.io.roles import find_columns
from genrec_pyg.datasets.io.rows import BadRows
from genrec_pyg.exceptions import DataError


def read_titles(
    path: Path, steps: dict[str, dict[str, Any]] | None = None, item: str | None = None
) -> dict[str, str]:
    r"""Item id, as text, to its title.

    Of several rows of an item the one whose title is first in alphabetical order counts, whatever
    the order of rows.

    Args:
        path: Table with columns of items and titles by their usual names, in any form in which a
            log may come.
        steps: Takes the numbers of rows and of repeated ones.
        item: Column of the items in the log, which holds them here too if the table has it.

    Raises:
        ConfigError: If a column is not there.
        DataError: If the table cannot be read.
    """
    names = recognize(path, None).names
    columns = None
    if item in names:
        others = [name for name in names if name != item]
        columns = {'item': item, **find_columns(others, None, str(path), ('title',), ('title',))}
    _, batches = read_log(
        path, columns, ('item', 'title'), None, BadRows(), roles=('item', 'title')
    )
    found: dict[str, str] = {}
    rows = twice = 0
    for batch in batches:
        texts = dict(zip(batch.schema.names, as_text(batch, str(path))))
        for raw, title in zip(texts['item'].to_pylist(), texts['title'].to_pylist()):
            rows += 1
            if raw == '':
                raise DataError(f'{path}: row {rows} has an empty item id')
            twice += raw in found
            found[raw] = min(title, found.get(raw, title))
    if steps is not None:
        steps['item table'] = {'rows': rows, 'rows repeat an item': twice}
    return found
