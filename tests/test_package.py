"""What a user imports from the top of the package."""
import subprocess
import sys
from pathlib import Path

import pytest

import genrec_pyg
from genrec_pyg import nn
from genrec_pyg.nn.models import MODELS


def test_import_of_the_package_imports_no_library():
    code = "import sys, genrec_pyg; print([m for m in ('torch', 'torch_geometric', 'numpy') if m in sys.modules])"
    root = Path(genrec_pyg.__file__).parents[1]
    done = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


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
