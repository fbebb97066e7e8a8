r"""Exports a run as a bundle that serves it without its data: ``python -m genrec_pyg.export
RUN``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from genrec_pyg import __version__
from genrec_pyg.config.build import Run, load_run
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, USER, raw_ids
from genrec_pyg.serving.program import FORMATS, make_programs
from genrec_pyg.serving.tables import model_tables
from genrec_pyg.serving.writer import check_destination, write_bundle
from genrec_pyg.utils.command_line import path_argument, require, run_command
from genrec_pyg.utils.files import check_stdout, write_stdout

logger = logging.getLogger(__name__)


def export_run(
    run: Run,
    metrics: dict[str, Any],
    folder: Path,
    formats: Sequence[str] = (),
    program_k: int = 20,
) -> dict[str, Any]:
    r"""Writes the bundle of a run.

    Args:
        run: The run.
        metrics: Its figures, kept for whoever serves it.
        folder: Folder of the bundle.
        formats: Formats of the programs that are added, some of
            :data:`~genrec_pyg.serving.program.FORMATS`.
        program_k: Items of the lists that programs make.

    Returns:
        The manifest.

    Raises:
        ConfigError: If the model has no tables, two users or items have one id, or the folder holds
            something else.
        OutputError: If the folder cannot be written.
    """
    described, tables, networks = model_tables(run.model, run.data)
    manifest = {
        'genrec_pyg': __version__,
        'model': run.config.model,
        'dataset': run.config.dataset,
        'selection': run.selection,
        'num_users': run.model.num_users,
        'num_items': run.model.num_items,
        'metrics': metrics,
        **described,
    }
    documents = {
        'users': {'ids': served_ids(run.data, USER)},
        'items': {'ids': served_ids(run.data, ITEM), 'titles': _titles(run.data)},
    }
    programs = {}
    if formats:
        programs, unable = make_programs(manifest, tables, formats, program_k)
        manifest['programs'] = {'k': min(program_k, run.model.num_items), 'unable': unable}
    return write_bundle(folder, manifest, tables, documents, {**networks, **programs})


def served_ids(data: HeteroData, node_type: str) -> list[Any]:
    r"""Raw ids as JSON has them: whole numbers and texts stay, others become texts.

    Raises:
        ConfigError: If two are the same text, so that a request could not tell them apart.
    """
    ids = [raw if type(raw) in (int, str) else str(raw) for raw in raw_ids(data, node_type)]
    if len({str(raw) for raw in ids}) < len(ids):
        seen: set[str] = set()
        twice = next(raw for raw in map(str, ids) if raw in seen or seen.add(raw))
        raise ConfigError(f'{node_type}: two have the id {twice!r}, accepted are different ids')
    return ids


def _titles(data: HeteroData) -> list[str | None] | None:
    titles = data[ITEM].get('title')
    if titles is None:
        return None
    return [None if title is None or title != title else str(title) for title in titles]


def export(argv: Sequence[str]) -> dict[str, Any]:
    r"""Exports as the command line asks."""
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.export',
        allow_abbrev=False,
        description='Writes a bundle that serves a run without its data.',
    )
    parser.add_argument(
        'run', type=path_argument, help='folder written by python -m genrec_pyg.train'
    )
    parser.add_argument(
        '--output',
        type=path_argument,
        required=True,
        help='folder of the bundle; one that is there is replaced in one step',
    )
    parser.add_argument(
        '--root', type=path_argument, help='folder of the datasets, where it has moved since'
    )
    parser.add_argument(
        '--programs',
        nargs='+',
        choices=FORMATS,
        default=[],
        help='adds programs from users or histories to lists, for other runtimes',
    )
    parser.add_argument('--program_k', type=int, default=20, help='items of a list of a program')
    parser.add_argument('--device', default='cpu', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    require(['safetensors'], 'serve')
    if 'onnx' in arguments.programs:
        require(['onnx', 'onnxscript'], 'onnx')
    if arguments.program_k < 1:
        raise ConfigError(f'--program_k: got {arguments.program_k}, accepted are integers from 1')
    check_stdout()
    folder = Path(arguments.output)
    _check_no_run(folder, Path(arguments.run))
    check_destination(folder)
    run = load_run(arguments.run, arguments.root, arguments.device)
    manifest = export_run(
        run,
        _metrics(Path(arguments.run)),
        folder,
        tuple(dict.fromkeys(arguments.programs)),
        arguments.program_k,
    )
    size = sum(entry['bytes'] for entry in manifest['files'].values())
    write_stdout(
        f'{folder}: {run.config.model} on {run.config.dataset}, {manifest["num_users"]} users, '
        f'{manifest["num_items"]} items, {size / 2**20:.1f} MiB\n'
    )
    for name, reason in manifest['unable'].items():
        logger.info('without %s: %s', name.replace('_', '-'), reason)
    for name, reason in manifest.get('programs', {}).get('unable', {}).items():
        logger.info('without a program of %s: %s', name, reason)
    return manifest


def _check_no_run(folder: Path, run: Path) -> None:
    if folder.exists() and run.exists() and folder.samefile(run):
        raise ConfigError(f'--output: {folder} is the run itself, accepted is another folder')


def _metrics(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / 'metrics.json').read_text('utf-8'))
    except (OSError, ValueError):  # of a run that goes on, or edited by hand
        return {}
    return found if isinstance(found, dict) else {}


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(export, argv)


if __name__ == '__main__':
    sys.exit(main())
