import importlib.util
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

# before triton's first import, which PyG's is: its kernels are tested by interpretation
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

from torch_geometric.data import HeteroData

from genrec_pyg.datasets import demo_graph
from genrec_pyg.ops.backends import triton_kernels

# A shell without job control starts jobs in the background with SIGINT ignored, and nohup with
# SIGHUP: tests of signals, and the programs that they start, want what a terminal gives.
for number, action in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, action)

#: Fixtures that tests of encoders, item sides and commands share.
pytest_plugins = ('helpers.encoder_folders',)

SHARED = Path(
    os.environ.get('GENREC_TEST_DATA')
    or Path(__file__).resolve().parents[1].parent / 'shared' / 'data'
)


@pytest.fixture(autouse=True)
def repeatable():
    """Same threads and seed for every test."""
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True, scope='session')
def own_cache(tmp_path_factory):
    """Tests leave nothing in the user's cache folder and read no dataset of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        patch.delenv('GENREC_DATA', raising=False)
        patch.delenv('GENREC_MIRROR', raising=False)
        yield


@pytest.fixture(scope='session')
def triton_works():
    """Skips, loudly, where kernels in Triton can neither run nor be interpreted."""
    if importlib.util.find_spec('triton') is None:
        pytest.skip('TRITON IS NOT INSTALLED: no kernel for CUDA is tested (pip install triton)')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    rowptr, col = (
        torch.tensor(values, dtype=torch.int32, device=device) for values in ([0, 1], [0])
    )
    try:
        triton_kernels().spmm(rowptr, col, None, (1, 1), torch.ones(1, 1, device=device))
    except Exception as error:
        if 'only 0-dimensional arrays can be converted' not in str(error):
            raise
        pytest.skip(
            'THE INTERPRETER OF THIS TRITON NEEDS NUMPY BELOW 2.4: no kernel for CUDA is tested'
        )


@pytest.fixture
def shared_data():
    """Folder of the real datasets; a test that needs it is skipped, loudly, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip('real data are absent: set GENREC_TEST_DATA')
    return SHARED


@pytest.fixture(scope='session')
def demo_data():
    """A small demo graph; shared by the session, so a test that changes it works on
    ``copy.deepcopy``.
    """
    return demo_graph(num_users=120, num_items=80, num_clusters=6)


@pytest.fixture
def tiny_graph():
    """Six users, seven items, two modalities; user 5 has no training item, item 6 no training
    user.
    """
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 6, 7
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.tensor(
        [
            [0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 0, 1, 2, 3, 5],
            [0, 1, 2, 1, 3, 2, 4, 5, 0, 5, 3, 2, 6, 0, 1],
        ]
    )
    split = torch.tensor([0] * 10 + [1, 1, 2, 2, 2])
    store.train_mask, store.val_mask, store.test_mask = split == 0, split == 1, split == 2
    generator = torch.Generator().manual_seed(0)
    for name, width in (('image', 4), ('text', 3)):
        data[name].x = torch.randn(7, width, generator=generator)
        data['item', 'has', name].edge_index = torch.arange(7).expand(2, 7).contiguous()
    return data


def pytest_collection_modifyitems(items):
    """One worker takes the tests of a file, and those of the grids, which share processes started
    once.
    """
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here) if item.path.is_relative_to(here) else item.path
        group = 'distributed' if place.parts[0] == 'distributed' else place.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_terminal_summary(terminalreporter):
    if not SHARED.is_dir():
        terminalreporter.section('REAL DATA ABSENT', red=True, bold=True)
        terminalreporter.write_line(
            'Tests on real data were SKIPPED. Put the datasets into ../shared/data or set '
            'GENREC_TEST_DATA to their folder.',
            red=True,
        )
    if importlib.util.find_spec('triton') is None:
        terminalreporter.section('TRITON ABSENT', red=True, bold=True)
        terminalreporter.write_line(
            'Tests of the kernels for CUDA were SKIPPED. Install triton, which interprets them on '
            'the CPU.',
            red=True,
        )
