import importlib

import pytest

from benchmarks.parity import agreement
from genrec_pyg.nn.models import MODELS

#: Adapters that check the files of the checkout before they import anything of it.
CHECKED = [
    'diffmm',
    'genrec',
    'selfrec',
    'sslrec',
    'ngcf',
    'clcrec',
    'bam',
    'idrec',
    'morec',
    'gume',
    'mmhcl',
]


@pytest.mark.parametrize('toolbox', list(agreement.TOOLBOXES))
def test_an_adapter_names_registered_models_and_its_source(toolbox):
    adapter = importlib.import_module(agreement.TOOLBOXES[toolbox])
    assert adapter.MODELS and {name.partition(',')[0] for name in adapter.MODELS} <= set(MODELS)
    owner, _, rest = adapter.REPOSITORY.partition('/')
    name, _, license_name = rest.partition(' ')
    assert owner and name and license_name.startswith('(')


@pytest.mark.parametrize('toolbox', CHECKED)
def test_a_folder_that_is_no_checkout_is_told_by_what_it_lacks(toolbox, tmp_path):
    for compare in importlib.import_module(agreement.TOOLBOXES[toolbox]).MODELS.values():
        with pytest.raises(FileNotFoundError, match=r'--checkout: the folder lacks \S+\.py'):
            compare(tmp_path)
