import pytest
from helpers.hostile_runs import make_runs

from genrec_pyg.report import load_runs
from genrec_pyg.reporting.page import page_content


@pytest.fixture(scope='session')
def loaded(tmp_path_factory):
    """Runs by name and their folders."""
    return load_runs(
        [str(path) for path in make_runs(tmp_path_factory.mktemp('page'))], None, 'cpu'
    )


@pytest.fixture(scope='session')
def content(loaded):
    return page_content(*loaded, num_users=6)
