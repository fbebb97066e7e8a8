r"""Installs the package beside the oldest and newest supported Python, torch and torch-geometric,
trains from it in an empty folder, and runs its tests.

.. code-block:: console

    python -m benchmarks.compatibility.matrix --folder build/matrix
    python -m benchmarks.compatibility.matrix --only oldest --tests tests/ops tests/graph

``oldest`` takes every lower bound of ``pyproject.toml``, of dependencies and of the extras that it
installs. An environment whose Python is not on this machine is named in the report. On Linux PyPI
has torch with gigabytes of CUDA libraries: a job of CI takes one environment (``--only``), with
``--index`` of CPU builds where it has one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common.machine import machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report

if sys.version_info >= (3, 11):
    import tomllib
else:  # a development tool: run it with a newer Python
    tomllib = None

logger = logging.getLogger('matrix')

ROOT = Path(__file__).resolve().parents[2]


class Environment(NamedTuple):
    r"""Versions that are installed together.

    Args:
        python: Version of Python, such as ``'3.10'``.
        torch: Version of torch.
        geometric: Version of torch-geometric.
        oldest: Whether all else is installed at its lower bound.
    """

    python: str
    torch: str
    geometric: str
    oldest: bool = False


#: Environments by name; lower bounds of ``pyproject.toml`` are those of ``oldest``.
ENVIRONMENTS = {
    'oldest': Environment('3.10', '2.6.0', '2.7.0', True),
    '3.11': Environment('3.11', '2.13.0', '2.8.1'),
    '3.12': Environment('3.12', '2.13.0', '2.8.1'),
    'newest': Environment('3.13', '2.14.1', '2.8.1'),
}
#: What is installed beside the core, and what tests need that no extra names.
EXTRAS = ('serve', 'tuning', 'report', 'prepare', 'tensorboard', 'lmdb', 'faiss')
_FOR_TESTS = ('pytest>=8', 'httpx')
_COUNTS = re.compile(r'(\d+) (passed|failed|skipped|errors?|deselected)')
_TRAIN = ('--model', 'LightGCN', '--epochs', '2', '--references', 'false')


def lower_bounds(document: Mapping[str, Any], extras: Sequence[str] = EXTRAS) -> dict[str, str]:
    r"""Package to its lower bound, of the core and of ``extras``, as ``pyproject.toml`` has them.

    Args:
        document: Its content.
        extras: Names of extras.
    """
    project = document['project']
    named = [*project['dependencies'], *_FOR_TESTS]
    named += [entry for extra in extras for entry in project['optional-dependencies'][extra]]
    found = {}
    for entry in named:
        match = re.match(r'([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*>=\s*([0-9.]+)', entry)
        if match:
            found[match[1].lower()] = match[2]
    return found


def find_python(version: str) -> str | None:
    r"""An interpreter of ``version`` on the path or among those of pyenv; :obj:`None` without."""
    found = shutil.which(f'python{version}')
    if found and _answers(found, version):
        return found
    home = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    for folder in sorted((home / 'versions').glob(f'{version}.*')):
        if _answers(str(folder / 'bin' / 'python'), version):
            return str(folder / 'bin' / 'python')
    return None


def counts(output: str) -> dict[str, int]:
    r"""Outcomes of tests by their kind from what pytest printed last."""
    lines = [line for line in output.splitlines() if _COUNTS.search(line)]
    return {kind: int(number) for number, kind in _COUNTS.findall(lines[-1])} if lines else {}


def check(
    name: str, environment: Environment, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    r"""Installs, trains and tests in one environment; the outcome of every step.

    Args:
        name: Name of the environment.
        environment: What it holds.
        folder: Folder of virtual environments; one that is there is used.
        arguments: The command line.
    """
    out: dict[str, Any] = {'name': name, 'asked': environment._asdict()}
    base = find_python(environment.python)
    if base is None:
        return {**out, 'outcome': f'no Python {environment.python} here'}
    place = folder / name
    python = str(place / 'bin' / 'python')
    begin = time.monotonic()
    if not place.is_dir() and (failed := _run(base, '-m', 'venv', place)):
        return {**out, 'outcome': f'venv: {failed}'}
    failed = _install(python, environment, arguments)
    out['install_seconds'] = round(time.monotonic() - begin)
    out['versions'] = _versions(python)
    if failed:
        return {**out, 'outcome': f'install: {failed}'}
    with tempfile.TemporaryDirectory() as empty:
        if failed := _run(python, '-m', 'genrec_pyg.train', *_TRAIN, folder=Path(empty)):
            return {**out, 'outcome': f'train: {failed}'}
    begin = time.monotonic()
    done = _call(
        python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-m', 'not slow', *arguments.tests
    )
    out['test_seconds'] = round(time.monotonic() - begin)
    out['tests'] = counts(done.stdout)
    if done.returncode:
        failures = re.findall(r'^(?:FAILED|ERROR) .*', done.stdout, re.MULTILINE)
        out['failures'] = [line[:300] for line in failures[:20]]
        return {**out, 'outcome': 'tests failed'}
    return {**out, 'outcome': 'passed'}


def render(document: Mapping[str, Any]) -> str:
    r"""The report as Markdown."""
    rows = []
    for entry in document['environments']:
        versions, tests = entry.get('versions', {}), entry.get('tests', {})
        rows.append(
            [
                entry['name'],
                versions.get('python', entry['asked']['python']),
                versions.get('torch', entry['asked']['torch']),
                versions.get('torch_geometric', entry['asked']['geometric']),
                versions.get('numpy', '-'),
                entry['outcome'],
                tests.get('passed', '-'),
                tests.get('failed', 0) + tests.get('error', 0) + tests.get('errors', 0),
                tests.get('skipped', '-'),
                entry.get('test_seconds', '-'),
            ]
        )
    header = ['environment', 'Python', 'torch', 'PyG', 'numpy', 'outcome', 'passed', 'failed']
    failures = [
        f'* {entry["name"]}: `{line}`'
        for entry in document['environments']
        for line in entry.get('failures', [])
    ]
    return '\n\n'.join(
        [
            '# Supported versions',
            markdown_table([*header, 'skipped', 'seconds'], rows),
            'Each environment: the wheel of the commit and its extras '
            f'{", ".join(EXTRAS)}; a training of LightGCN in an empty folder; then '
            f'`pytest -m "not slow" {" ".join(document["tests"])}`. `oldest` has every lower '
            'bound of `pyproject.toml`.',
            *(['\n'.join(failures)] if failures else []),
            machine_line(document['machine']),
        ]
    )


def _install(python: str, environment: Environment, arguments: argparse.Namespace) -> str | None:
    if arguments.installed:
        return None
    pinned = {'torch': environment.torch, 'torch-geometric': environment.geometric}
    if environment.oldest:
        document = tomllib.loads((ROOT / 'pyproject.toml').read_text())
        pinned = {**lower_bounds(document), **pinned}
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / 'constraints.txt'
        constraints.write_text(''.join(f'{name}=={wanted}\n' for name, wanted in pinned.items()))
        pip = (python, '-m', 'pip', 'install', '--quiet', '--constraint', constraints)
        index = ('--index-url', arguments.index) if arguments.index else ()
        return _run(*pip, *index, 'torch') or _run(*pip, f'{ROOT}[{",".join(EXTRAS)}]', *_FOR_TESTS)


def _versions(python: str) -> dict[str, str]:
    code = (
        'import json, platform, importlib.metadata as m; found = {"python": '
        'platform.python_version()}; '
        '[found.update({n: m.version(n)}) for n in ("torch", "torch_geometric", "numpy", "scipy", '
        '"pyarrow", "jsonargparse")]; print(json.dumps(found))'
    )
    done = _call(python, '-c', code)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def _answers(python: str, version: str) -> bool:
    code = 'import sys; print("%d.%d" % sys.version_info[:2])'
    try:
        done = subprocess.run([python, '-c', code], capture_output=True, text=True)
    except OSError:
        return False
    return done.stdout.strip() == version


def _call(*command: Any, folder: Path = ROOT) -> subprocess.CompletedProcess:
    logger.info('%s', ' '.join(map(str, command[1:]))[:200])
    environment = {**thread_environment(1), 'CUDA_VISIBLE_DEVICES': ''}
    environment.pop('PYTHONPATH', None)
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def _run(*command: Any, folder: Path = ROOT) -> str | None:
    r"""Runs a command; the last line of its errors where it fails."""
    done = _call(*command, folder=folder)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f'exit code {done.returncode}'


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Checks environments and writes the report; exit code 1 if one that is here fails."""
    parser = argparse.ArgumentParser(description='Checks the supported versions.')
    parser.add_argument('--only', nargs='+', choices=ENVIRONMENTS, help='default: all')
    parser.add_argument('--folder', type=Path, help='folder of virtual environments that are kept')
    parser.add_argument('--tests', nargs='+', default=['tests'], help='what pytest runs')
    parser.add_argument('--index', help='package index of torch, such as one of CPU builds')
    parser.add_argument(
        '--installed', action='store_true', help='takes environments in --folder as they are'
    )
    parser.add_argument(
        '--output', type=Path, default=RESULTS / 'matrix', help='stem of the report'
    )
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    about = machine(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (parsed.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        found = []
        for name in parsed.only or ENVIRONMENTS:
            found.append(check(name, ENVIRONMENTS[name], folder, parsed))
            document = {'machine': about, 'tests': parsed.tests, 'environments': found}
            write_report(parsed.output, document, render(document))
    print(render(document))
    here = [entry for entry in found if not entry['outcome'].startswith('no Python')]
    return int(any(entry['outcome'] != 'passed' for entry in here))


if __name__ == '__main__':
    sys.exit(main())
