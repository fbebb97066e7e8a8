r"""Compares models with their public implementations: embeddings, losses and gradients for the same
weights and batch.

.. code-block:: console

    python -m benchmarks.parity.agreement --toolbox mmrec --checkout DIR

The checkout is read and run, never changed, and nothing of it is part of this package: a module
``benchmarks/parity/TOOLBOX.py`` builds both sides on one toy graph, copies the weights and switches
off or repeats what is random. Where the other side has a defect, the comparison is made where the
defect is silent, and the note says so. Every model is compared in a process of its own. Exit code 1
if a quantity disagrees or a comparison fails.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.machine import folder_digest, machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.parity.comparison import TOLERANCE

#: Toolboxes and the modules of their adapters.
TOOLBOXES: dict[str, str] = {
    'mmrec': 'benchmarks.parity.mmrec',
    'diffmm': 'benchmarks.parity.diffmm',
    'genrec': 'benchmarks.parity.genrec',
    'selfrec': 'benchmarks.parity.selfrec',
    'sslrec': 'benchmarks.parity.sslrec',
    'ngcf': 'benchmarks.parity.ngcf',
    'clcrec': 'benchmarks.parity.clcrec',
    'bam': 'benchmarks.parity.bam',
    'idrec': 'benchmarks.parity.idrec',
    'morec': 'benchmarks.parity.morec',
    'gume': 'benchmarks.parity.gume',
    'mmhcl': 'benchmarks.parity.mmhcl',
}

logger = logging.getLogger('agreement')


class ComparisonError(RuntimeError):
    r"""A comparison ended early; the message is the last line of its output."""


def compare(adapter: str, checkout: Path, model: str) -> list[dict[str, Any]]:
    r"""Compares ``model`` in a process of its own, whose working folder is a temporary one.

    Args:
        adapter: Module of the adapter.
        checkout: Folder of the public implementation.
        model: Our name of the model.

    Returns:
        Per quantity its ``difference``, ``relative`` difference, whether it ``agrees``, and the
        ``note``.

    Raises:
        ComparisonError: If the process fails.
    """
    command = [sys.executable, '-m', 'benchmarks.parity.run', adapter, str(checkout), model]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, capture_output=True, cwd=folder, env=thread_environment(1), text=True
        )
    if done.returncode != 0:
        raise ComparisonError(
            (done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]
        )
    return json.loads(done.stdout)


def disagreements(models: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    r"""A line per quantity that does not agree, naming model and quantity."""
    return [
        f'{model}, {figure["quantity"]}: differs by {figure["difference"]:.2e}, relative '
        f'{figure["relative"]:.2e}'
        for model, figures in models.items()
        for figure in figures
        if not figure['agrees']
    ]


def render(document: Mapping[str, Any]) -> str:
    r"""The report as Markdown."""
    rows = [
        [
            model,
            figure['quantity'],
            f'{figure["difference"]:.1e}',
            f'{figure["relative"]:.1e}',
            figure['note'],
        ]
        for model, figures in document['models'].items()
        for figure in figures
    ]
    header = ['model', 'quantity', 'largest difference', 'relative to the largest value', 'note']
    wrong = '\n'.join(
        f'* {line}' for line in [*disagreements(document['models']), *document['failed']]
    )
    tolerance = ', '.join(f'{value:g} in {name}' for name, value in document['tolerance'].items())
    return f"""# Agreement with {document['repository']}

{markdown_table(header, rows)}

Same toy graph (30 users, 20 items, 120 training interactions), weights and batch on both sides. A
note on a loss holds for its gradients. Relative tolerance: {tolerance}. Python files of the
checkout: digest {document['digest']}.

{f'**Does not agree:**{chr(10) * 2}{wrong}' if wrong else 'Everything compared agrees.'}

{machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(
        description='Compares models with their public implementations.'
    )
    parser.add_argument('--toolbox', choices=list(TOOLBOXES), required=True)
    parser.add_argument(
        '--checkout', type=Path, required=True, metavar='DIR', help='checkout of the toolbox'
    )
    parser.add_argument(
        '--models',
        nargs='+',
        metavar='MODEL',
        help='models to compare, default all that the adapter knows',
    )
    parser.add_argument(
        '--output', type=Path, default=RESULTS, metavar='DIR', help='folder of the report'
    )
    parser.add_argument('--name', help='report without ending, default agreement-TOOLBOX')
    args = parser.parse_args(arguments)
    if not args.checkout.is_dir():
        parser.error(f'--checkout: {args.checkout} is not a folder')
    adapter = importlib.import_module(TOOLBOXES[args.toolbox])
    models = list(dict.fromkeys(args.models or adapter.MODELS))
    unknown = [model for model in models if model not in adapter.MODELS]
    if unknown:
        parser.error(
            f'--models: got {", ".join(unknown)}, accepted for {args.toolbox} are '
            f'{", ".join(adapter.MODELS)}'
        )
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    checkout = args.checkout.resolve()
    found: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    for model in models:
        try:
            found[model] = compare(TOOLBOXES[args.toolbox], checkout, model)
        except ComparisonError as error:
            failed[model] = str(error).replace(str(checkout), 'CHECKOUT')
    document = {
        'toolbox': args.toolbox,
        'repository': adapter.REPOSITORY,
        'digest': folder_digest(checkout, '*.py'),
        'tolerance': {
            str(dtype).removeprefix('torch.'): value for dtype, value in TOLERANCE.items()
        },
        'models': found,
        'failed': [f'{model} could not be compared: {why}' for model, why in failed.items()],
        'machine': machine(1),
    }
    markdown = render(document)
    args.output.mkdir(parents=True, exist_ok=True)
    write_report(args.output / (args.name or f'agreement-{args.toolbox}'), document, markdown)
    logger.info('\n%s', markdown)
    return 1 if failed or disagreements(found) else 0


if __name__ == '__main__':
    sys.exit(main())
