"""Every program in examples runs and learns something."""

import importlib.util
import math
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / 'examples'


def run(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main()


def test_examples_are_short():
    programs = sorted(EXAMPLES.glob('*.py'))
    assert {program.stem for program in programs} == {
        'lightgcn_demo',
        'mirror_gradient',
        'own_heterodata',
        'own_model',
    }
    assert all(len(program.read_text().splitlines()) < 60 for program in programs)


@pytest.mark.slow
def test_own_heterodata():
    test = run('own_heterodata')
    assert 20 / 120 < test['recall@20'] <= 1  # better than lists drawn at random


@pytest.mark.slow
def test_lightgcn_demo():
    recall = run('lightgcn_demo')
    assert recall['LightGCN'] > recall['Popularity'] > 0


@pytest.mark.slow
def test_own_model():
    assert 20 / 200 < run('own_model')['recall@20'] <= 1


@pytest.mark.slow
def test_mirror_gradient():
    loss = run('mirror_gradient')
    assert math.isfinite(loss['last']) and loss['last'] < loss['first'] / 10
