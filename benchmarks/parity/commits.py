r"""Compares two commits of this repository bit for bit: every model trained on the demo data by
both, its figures and the bits of its state.

.. code-block:: console

    python -m benchmarks.parity.commits BEFORE AFTER --report

A refactoring leaves them as they are. Each commit is checked out beside the other and runs in a
process of its own, with the same interpreter and one thread, on the graph that its own
:func:`~genrec_pyg.datasets.demo_graph` makes. Tensors are compared as a set: a parameter may have
another name. Exit code 1 if anything differs or a training fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report

ROOT = Path(__file__).resolve().parents[2]
#: What each commit runs. Only names that both have: it is text, and not a module of one of them.
PROGRAM = """
import hashlib, json, sys
import torch
from genrec_pyg import Trainer
from genrec_pyg.datasets import demo_graph
from genrec_pyg.nn.models import MODELS, get_model

answers = sys.stdout
sys.stdout = sys.stderr
epochs, users, items, names = json.loads(sys.argv[1])
torch.set_num_threads(1)
for name in names or MODELS:
    if name not in MODELS:
        continue
    try:
        data = demo_graph(num_users=users, num_items=items)
        store = data['user', 'interacts', 'item']
        if 'time' not in store:
            store.time = torch.arange(store.edge_index.size(1))
        torch.manual_seed(0)
        model = get_model(name)(data)
        trainer = Trainer(epochs=epochs, device='cpu', progress=False)
        result = trainer.fit(model, data)
        tensors = sorted(
            hashlib.sha256(repr((tuple(value.shape), str(value.dtype))).encode()
                           + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
                           .tobytes()).hexdigest()[:16]
            for value in model.state_dict().values()
            if isinstance(value, torch.Tensor) and value.layout == torch.strided
        )
        found = {'validation': result.validation, 'test': result.test, 'state': tensors}
        found = json.loads(json.dumps(found, default=float))
    except Exception as error:
        found = {'error': f'{type(error).__name__}: {error}'}
    print(json.dumps([name, found]), file=answers, flush=True)
"""


def train_all(
    checkout: Path, models: Sequence[str], epochs: int, users: int, items: int
) -> dict[str, dict[str, Any]]:
    r"""Trains models with the package of a checkout.

    Returns:
        Per model its figures ``validation`` and ``test``, and ``state``, a digest per tensor,
        sorted; or the ``error`` that ended it.

    Raises:
        RuntimeError: If the process ends early.
    """
    wanted = json.dumps([epochs, users, items, list(models)])
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, wanted],
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env={**thread_environment(1), 'PYTHONPATH': str(checkout)},
    )
    if done.returncode != 0:
        raise RuntimeError(f'{checkout.name}: exit code {done.returncode}')
    return dict(json.loads(line) for line in done.stdout.splitlines())


def compare(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    r"""What became of each model: ``'same bits'``, ``'only before'``, ``'only after'``, or what
    differs.
    """
    verdicts = {}
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after or name not in before:
            verdicts[name] = 'only before' if name in before else 'only after'
            continue
        one, other = before[name], after[name]
        if 'error' in one or 'error' in other:
            verdicts[name] = one.get('error') or other['error']
            continue
        differ = [
            f'{split} {figure} {one[split].get(figure)} -> {other[split].get(figure)}'
            for split in ('validation', 'test')
            for figure in sorted({*one[split], *other[split]})
            if one[split].get(figure) != other[split].get(figure)
        ]
        if one['state'] != other['state']:
            one_state, other_state = Counter(one['state']), Counter(other['state'])
            unequal = (one_state - other_state).total() + (other_state - one_state).total()
            differ.append(f'{unequal} digests of tensors')
        verdicts[name] = '; '.join(differ) or 'same bits'
    return verdicts


def render(document: Mapping[str, Any]) -> str:
    r"""The report as Markdown."""
    rows = []
    for name, verdict in document['verdicts'].items():
        figures = document['figures'].get(name, {}).get('test', {})
        recall = figures.get('recall@20')
        tensors = len(document['figures'].get(name, {}).get('state', ()))
        rows.append([name, '-' if recall is None else repr(recall), str(tensors), verdict])
    table = markdown_table(['model', 'test recall@20', 'tensors', 'before and after'], rows)
    before, after = document['commits']
    same = sum(verdict == 'same bits' for verdict in document['verdicts'].values())
    return f"""# Commits {before} and {after}, bit for bit

{same} of {len(rows)} models have the same figures and the same bits in every tensor of their state.

{table}

{document['epochs']} epochs, settings of the constructors, seed 0, a demo graph of
{document['users']} users and {document['items']} items; all figures of validation and test are
compared, one of them is shown.

{machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(description='Compares two commits bit for bit.')
    parser.add_argument('commits', nargs=2, metavar='COMMIT', help='before and after')
    parser.add_argument('--models', nargs='+', default=(), metavar='MODEL', help='default all')
    parser.add_argument('--epochs', type=positive, default=2)
    parser.add_argument('--users', type=positive, default=600)
    parser.add_argument('--items', type=positive, default=400)
    parser.add_argument(
        '--report', action='store_true', help=f'write {RESULTS.name}/commits-BEFORE-AFTER'
    )
    args = parser.parse_args(arguments)
    described, names, found = machine(1), [], []
    for commit in args.commits:
        with tempfile.TemporaryDirectory() as folder:
            checkout = Path(folder, 'checkout')
            names.append(_git('rev-parse', '--short', f'{commit}^{{commit}}').strip())
            _git('worktree', 'add', '--quiet', '--detach', str(checkout), commit)
            try:
                found.append(train_all(checkout, args.models, args.epochs, args.users, args.items))
            finally:
                _git('worktree', 'remove', '--force', str(checkout))
    document = {
        'commits': names,
        'epochs': args.epochs,
        'users': args.users,
        'items': args.items,
        'verdicts': compare(*found),
        'figures': found[1],
        'machine': described,
    }
    text = render(document)
    print(text)
    if args.report:
        write_report(RESULTS / f'commits-{names[0]}-{names[1]}', document, text)
    return int(any(verdict != 'same bits' for verdict in document['verdicts'].values()))


def _git(*arguments: str) -> str:
    command = ['git', '-C', str(ROOT), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == '__main__':
    sys.exit(main())
