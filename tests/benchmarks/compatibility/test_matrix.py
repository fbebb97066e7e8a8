"""Environments are those that pyproject.toml promises, and reports say what was run."""

import sys

import pytest

from benchmarks.compatibility import matrix

tomllib = pytest.importorskip('tomllib', reason='needs Python 3.11')


@pytest.fixture(scope='module')
def project():
    return tomllib.loads((matrix.ROOT / 'pyproject.toml').read_text())


def test_the_oldest_environment_has_the_lower_bounds(project):
    bounds = matrix.lower_bounds(project)
    oldest = matrix.ENVIRONMENTS['oldest']
    assert oldest.torch.startswith(bounds['torch'])
    assert oldest.geometric.startswith(bounds['torch-geometric'])
    assert project['project']['requires-python'] == f'>={oldest.python}'
    assert {'jsonargparse', 'pyarrow', 'fastapi', 'optuna', 'pytest'} <= set(bounds)
    assert 'numpy' not in bounds  # torch and pyarrow bound it


def test_counts_are_those_of_the_last_line():
    output = 'FAILED x - 3 failed to open\n..\n2 failed, 10 passed, 1 skipped, 4 deselected in 3s\n'
    assert matrix.counts(output) == {'failed': 2, 'passed': 10, 'skipped': 1, 'deselected': 4}
    assert matrix.counts('no tests') == {}


def test_this_python_is_found_and_a_missing_one_is_named(tmp_path):
    version = f'{sys.version_info.major}.{sys.version_info.minor}'
    found = matrix.find_python(version)
    assert found is None or matrix._answers(found, version)
    assert matrix.find_python('2.0') is None
    arguments = matrix.argparse.Namespace(installed=True, tests=['tests'], index=None)
    entry = matrix.check('old', matrix.Environment('2.0', '1', '1'), tmp_path, arguments)
    assert entry['outcome'] == 'no Python 2.0 here'
    machine = {
        'processor': 'p',
        'architecture': 'a',
        'logical_cores': 1,
        'memory_gib': 1,
        'threads': 1,
        'load_average': 0,
        'versions': {},
        'allocator': {},
        'commit': 'c',
    }
    document = {'machine': machine, 'tests': ['tests/ops'], 'environments': [entry]}
    assert 'no Python 2.0 here' in matrix.render(document)
