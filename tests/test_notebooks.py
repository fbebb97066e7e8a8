"""Notebooks of the documentation were executed from top to bottom, and still run."""

import importlib.util
from pathlib import Path

import pytest

for package in ('nbformat', 'nbclient', 'ipykernel'):
    pytest.importorskip(package, reason='NO NOTEBOOK IS EXECUTED: pip install ".[docs]"')

ROOT = Path(__file__).resolve().parents[1]
NAMES = ['own_data', 'report', 'serving']


@pytest.fixture(scope='module')
def tool():
    place = ROOT / 'docs' / 'notebooks_tool.py'
    spec = importlib.util.spec_from_file_location('notebooks_tool', place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_these_notebooks(tool):
    assert sorted(path.stem for path in tool.FOLDER.glob('*.ipynb')) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_outputs_are_those_of_one_execution(tool, name):
    assert tool.problems(tool.FOLDER / f'{name}.ipynb') == []


def test_what_was_not_executed_is_said(tool, tmp_path):
    from nbformat import v4, write

    path = tmp_path / 'some.ipynb'
    write(v4.new_notebook(cells=[v4.new_code_cell('1')]), path)
    assert tool.problems(path) == ['some.ipynb: was not executed from top to bottom']
    executed = tool.execute(path)
    write(executed, path)
    assert tool.problems(path) == [] and executed.cells[0].outputs[0].data['text/plain'] == '1'


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_notebooks_run_from_top_to_bottom(tool, name):
    for package in ('fastapi', 'matplotlib', 'safetensors'):
        pytest.importorskip(package, reason='NO NOTEBOOK IS EXECUTED: pip install ".[test]"')
    notebook = tool.execute(tool.FOLDER / f'{name}.ipynb')
    assert all(
        output.output_type != 'error' and 'error: ' not in output.get('text', '')
        for cell in notebook.cells
        for output in cell.get('outputs', [])
    )
