"""What a user imports from the top of the package."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import genrec_pyg
from genrec_pyg import nn
from genrec_pyg.nn.models import MODELS


def test_import_of_the_package_imports_no_library():
    code = (
        "import sys, genrec_pyg; print([m for m in ('torch', 'torch_geometric', 'numpy') if m in "
        'sys.modules])'
    )
    root = Path(genrec_pyg.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == '[]'


def test_any_package_may_be_the_first_that_is_imported():
    root = Path(genrec_pyg.__file__).parents[1]
    packages = sorted(
        '.'.join(path.parent.relative_to(root).parts)
        for path in root.glob('genrec_pyg/**/__init__.py')
    )
    code = (
        'import sys, os, torch, torch_geometric\n'
        f'for name in {packages}:\n'
        '    if os.fork() == 0:\n'
        '        __import__(name)\n'
        '        os._exit(0)\n'
        '    if os.wait()[1]:\n'
        '        print(name)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True
    )
    assert len(packages) > 20 and done.stdout.split() == [], done.stderr[-2000:]


def test_public_names_are_those_of_their_modules():
    from genrec_pyg import Trainer, get_model, load_dataset
    from genrec_pyg.datasets import load_dataset as load
    from genrec_pyg.training import Trainer as trainer

    assert Trainer is trainer and load_dataset is load and get_model('LightGCN') is nn.LightGCN
    assert {'Trainer', 'get_model', 'load_dataset'} <= set(dir(genrec_pyg))


def test_models_and_convolutions_are_importable_from_nn():
    from genrec_pyg.nn import GenRec, LightConv
    from genrec_pyg.nn.conv import LightConv as conv

    assert LightConv is conv and GenRec.__name__ == 'GenRec'
    assert {*MODELS, 'LightConv'} <= set(dir(nn))


@pytest.mark.parametrize('module', [genrec_pyg, nn])
@pytest.mark.parametrize('name', ['Missing', 'missing'])
def test_unknown_name_is_an_attribute_error(module, name):
    with pytest.raises(AttributeError, match=name):
        getattr(module, name)


def test_package_is_typed():
    assert (Path(genrec_pyg.__file__).parent / 'py.typed').is_file()


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Wheel and sdist of this tree, built without a network from a copy, for building leaves files
    behind.
    """
    pytest.importorskip('setuptools', minversion='68')
    folder = tmp_path_factory.mktemp('built')
    root = Path(genrec_pyg.__file__).parents[1]
    ignore = shutil.ignore_patterns('__pycache__', '*.egg-info')
    shutil.copytree(root / 'genrec_pyg', folder / 'tree' / 'genrec_pyg', ignore=ignore)
    for name in ('pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(root / name, folder / 'tree')
    for kind in ('wheel', 'sdist'):
        code = f'from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})'
        done = subprocess.run(
            [sys.executable, '-c', code], cwd=folder / 'tree', capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return next(folder.glob('*.whl')), next(folder.glob('*.tar.gz'))


@pytest.mark.slow
def test_wheel_and_sdist_hold_every_file_of_the_package(built):
    package = Path(genrec_pyg.__file__).parent
    files = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        assert files <= set(archive.namelist()), files - set(archive.namelist())
    with tarfile.open(sdist) as archive:
        inside = {name.partition('/')[2] for name in archive.getnames()}
    assert {*files, 'pyproject.toml', 'README.md', 'LICENSE'} <= inside, files - inside


@pytest.mark.slow
def test_what_the_wheel_installs_trains(built, tmp_path):
    site = tmp_path / 'site'
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(site)
    code = (
        'import sys; sys.path.insert(0, sys.argv.pop(1)); import genrec_pyg; from '
        'genrec_pyg.train import main;print(genrec_pyg.__file__); sys.exit(main())'
    )
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            code,
            str(site),
            '--model',
            'LightGCN',
            '--epochs',
            '1',
            '--references',
            'false',
            '--output',
            str(tmp_path / 'run'),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(site) in done.stdout and (tmp_path / 'run' / 'metrics.json').is_file()
