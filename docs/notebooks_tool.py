r"""Executes the notebooks of the documentation and writes them with their outputs:
``python docs/notebooks_tool.py [NAME...]``.

Every notebook runs from top to bottom in an empty folder of its own. What it downloads is nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent / 'notebooks'
#: Most bytes of a notebook with its outputs.
MOST_BYTES = 300_000
#: Most seconds of a cell.
_TIMEOUT = 600


def execute(path: Path) -> Any:
    r"""The notebook ``path``, executed in an empty folder.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder, _environment():
        client = NotebookClient(
            notebook,
            timeout=_TIMEOUT,
            kernel_name='python3',
            resources={'metadata': {'path': folder}},
        )
        client.execute()
    return cleaned(notebook)


def cleaned(notebook: Any) -> Any:
    r"""A notebook without what differs from one execution to the next for no reason of its own:
    times and ids of cells, versions of the kernel, what goes to standard error.
    """
    notebook.metadata = {
        'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'},
        'language_info': {'name': 'python'},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f'cell-{number}', {}
        joined: list[Any] = []
        for output in cell.get('outputs', []):
            if output.output_type == 'stream' and output.name == 'stderr':
                continue
            if output.output_type == 'stream' and joined and joined[-1].get('name') == output.name:
                joined[-1].text += output.text
            else:
                output.get('metadata', {}).clear()
                joined.append(output)
        if cell.cell_type == 'code':
            for output in joined:
                if output.output_type == 'stream':
                    output.text = re.sub(r'\x1b\[[0-9;]*m', '', output.text)
            cell.outputs = joined
    return notebook


def problems(path: Path) -> list[str]:
    r"""What is wrong with a notebook as it lies in the documentation."""
    notebook = nbformat.read(path, as_version=4)
    found = []
    if path.stat().st_size > MOST_BYTES:
        found.append(f'{path.name}: has {path.stat().st_size} bytes, accepted are {MOST_BYTES}')
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append(f'{path.name}: was not executed from top to bottom')
    for cell in code:
        for output in cell.outputs:
            if output.output_type == 'error':
                found.append(f'{path.name}: a cell ended with {output.ename}')
            if 'site-packages' in str(output) or tempfile.gettempdir() + os.sep in str(output):
                found.append(f'{path.name}: an output names a folder of one machine')
    return found


@contextmanager
def _environment() -> Iterator[None]:
    r"""Within this context ``python`` of a shell is this one, and this checkout is imported."""
    before = dict(os.environ)
    root = str(FOLDER.parents[1])
    os.environ.update(
        PATH=os.pathsep.join([str(Path(sys.executable).parent), before.get('PATH', '')]),
        PYTHONPATH=os.pathsep.join([root, *filter(None, [before.get('PYTHONPATH')])]),
        TERM='dumb',
        COLUMNS='100',
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Executes and writes; returns the exit code."""
    parser = argparse.ArgumentParser(description='Executes the notebooks of the documentation.')
    parser.add_argument('names', nargs='*', help='notebooks without their ending; default: all')
    names = parser.parse_args(arguments).names or [
        path.stem for path in sorted(FOLDER.glob('*.ipynb'))
    ]
    for name in names:
        path = FOLDER / f'{name}.ipynb'
        nbformat.write(execute(path), path)
        print(f'{path.name}: {path.stat().st_size} bytes')
    found = [problem for name in names for problem in problems(FOLDER / f'{name}.ipynb')]
    print('\n'.join(found), file=sys.stderr)
    return int(bool(found))


if __name__ == '__main__':
    sys.exit(main())
