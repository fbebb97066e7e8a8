r"""Tables, figures and reports on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genrec_pyg.reporting.tables import markdown_table

__all__ = ['RESULTS', 'figure', 'markdown_table', 'write_report']

#: Where reports lie; each names commit, machine and versions.
RESULTS = Path(__file__).resolve().parents[1] / 'results'


@contextlib.contextmanager
def figure(path: Path, rows: int, columns: int, width: float, height: float) -> Iterator[Any]:
    r"""Gives axes ``[rows, columns]``, each ``width`` x ``height`` inches, and saves them under
    ``path`` at the end of the block; the same content gives the same file.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    with matplotlib.rc_context({'svg.hashsalt': 'genrec_pyg'}):
        canvas, axes = pyplot.subplots(
            rows, columns, figsize=(width * columns, height * rows), squeeze=False
        )
        try:
            yield axes
            canvas.tight_layout()
            canvas.savefig(path, metadata={'Date': None})
        finally:
            pyplot.close(canvas)


def write_report(stem: Path, document: Mapping[str, object], markdown: str) -> None:
    r"""Writes ``stem.json`` and ``stem.md``, each whole or not at all."""
    # Imported here: processes under measurement use this module too and are not to carry the
    # package in their memory.
    from genrec_pyg.utils.files import write_atomically, write_json

    # Appending instead of with_suffix(): a stem may hold a dot.
    write_json(stem.with_name(stem.name + '.json'), document)
    write_atomically(
        stem.with_name(stem.name + '.md'),
        lambda file: file.write((markdown.rstrip('\n') + '\n').encode()),
    )
