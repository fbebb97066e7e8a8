"""Nothing of size users x items or items x items is held: peak allocation while both double."""

import sys
import tracemalloc
import weakref

import pytest
import torch
from helpers.sequence_graphs import all_train, timed_data
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genrec_pyg.datasets import demo_graph
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.loader import InteractionLoader
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import Adjacency, sampled_product

pytestmark = pytest.mark.slow

#: Small blocks, so that a block of rows is no longer than a table of embeddings even on these small
#: graphs.
BLOCK = 64
GENREC = dict(hidden_channels=16, debias={'clusters': 5}, denoiser_training={'batch_size': BLOCK})
MODELS = {
    'linear': ('GenRec', {**GENREC, 'denoiser': {'rank': 16}, 'diffusion': {'start': 'diffused'}}),
    'transformer': ('GenRec', {**GENREC, 'denoiser': {'name': 'transformer', 'num_layers': 1}}),
    'tied': (
        'GenRec',
        {
            **GENREC,
            'denoiser': {'name': 'tied', 'num_layers': 1},
            'debias': {'clusters': 'spectral'},
            'denoiser_training': {'num_negatives': 32, 'batch_size': BLOCK},
        },
    ),
    'MGCN': ('MGCN', dict(hidden_channels=16)),
    'DiffMM': (
        'DiffMM',
        dict(
            hidden_channels=16, denoiser={'channels': 16}, denoiser_training={'batch_size': BLOCK}
        ),
    ),
    'ItemKNN': ('ItemKNN', dict(k=10, block_size=BLOCK)),
    'ItemKNNCBF': ('ItemKNNCBF', dict(block_size=BLOCK)),
    'MMGCL': ('MMGCL', dict(hidden_channels=16)),
    'LATTICE': ('LATTICE', dict(hidden_channels=16)),
    'DRAGON': ('DRAGON', dict(hidden_channels=16)),
    'MVGAE': ('MVGAE', dict(hidden_channels=16, latent_channels=16)),
    'LGMRec': ('LGMRec', dict(hidden_channels=16)),
    'MMGCF': ('MMGCF', dict(hidden_channels=16)),
    'GUME': ('GUME', dict(hidden_channels=16)),
    'MMHCL': ('MMHCL', dict(hidden_channels=16)),
    'SMORE': ('SMORE', dict(hidden_channels=16)),
    'PGL': ('PGL', dict(hidden_channels=16)),
    'PGL, global': ('PGL', dict(hidden_channels=16, mode='global')),
    'DAMRS': ('DAMRS', dict(hidden_channels=16)),
    'FREEDOM': ('FREEDOM', dict(hidden_channels=16)),
    'LGCNM': ('LGCNM', dict(hidden_channels=16)),
    'SLMRec': ('SLMRec', dict(hidden_channels=16)),
    'GRCN': ('GRCN', dict(hidden_channels=16, content_channels=16)),
    'MMGCN': ('MMGCN', dict(hidden_channels=16)),
    'DualGNN': ('DualGNN', dict(hidden_channels=16)),
}


class PeakAllocation(TorchDispatchMode):
    r"""Peak of the bytes that live tensors hold, and the largest single one."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = self.largest = 0
        self.known = set()

    def _free(self, key, size):
        self.live -= size
        self.known.discard(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known:
                    self.known.add(key)
                    weakref.finalize(storage, self._free, key, size)
                    self.live += size
                    self.peak, self.largest = max(self.peak, self.live), max(self.largest, size)
        return out


def peaks(name, arguments, scale):
    """Largest tensor, and largest block of numpy's, in bytes, of building, one epoch and an
    evaluation.
    """
    torch.manual_seed(0)
    data = demo_graph(num_users=1000 * scale, num_items=900 * scale, num_clusters=10)
    tracemalloc.start()
    try:
        with PeakAllocation() as trace:
            model = get_model(name)(data, **arguments)
            if model.trainable:
                model.train()
                model.start_epoch(0)
                batch = next(iter(InteractionLoader(model.graph, batch_size=256)))
                sum(model.loss(batch).values()).backward()
            Evaluator(data, 'test', (5,), batch_size=BLOCK)(model.eval())
        return trace.largest, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='tracks storages by reference counts'
)
@pytest.mark.parametrize('case', list(MODELS))
def test_doubling_users_and_items_doubles_the_peak(case):
    name, arguments = MODELS[case]
    (small, small_numpy) = peaks(name, arguments, 2)
    (large, large_numpy) = peaks(name, arguments, 4)
    assert large <= 2.3 * small and large_numpy <= 2.3 * small_numpy
    assert large < 4 * 4000 * 3600 / 3  # the largest is a block of 1,024 items against all items


def test_the_trace_sees_a_square_matrix():
    with PeakAllocation() as trace:
        x = torch.ones(100, 1)
        y = x @ x.t()
        del y
    assert trace.largest == 40_000


def test_no_row_is_copied_per_entry():
    """Many entries on few rows of many channels: one row per entry would be 64 times the rows."""
    num_rows, channels = 64, 256
    edge_index = (
        torch.cartesian_prod(torch.arange(num_rows), torch.arange(num_rows)).t().contiguous()
    )
    adj = Adjacency.from_edge_index(edge_index, size=(num_rows, num_rows))
    x = torch.randn(num_rows, channels, requires_grad=True)
    with PeakAllocation() as trace:
        sampled_product(adj, x, x).sum().backward()
    assert trace.largest <= 4 * num_rows * channels


SEQUENTIAL = {
    'SASRec, bce': ('SASRec', dict(loss='bce', history_length=50)),
    'SASRec, sampled': ('SASRec', dict(loss='sampled', num_negatives=64, history_length=50)),
    'GRU4Rec, sampled': ('GRU4Rec', dict(loss='sampled', num_negatives=64, history_length=50)),
    'DSSM': ('DSSM', {}),
    'MIND': ('MIND', dict(num_negatives=64, multi_loss=True, selection='p')),
    'ComiRecSA, expected': (
        'ComiRecSA',
        dict(num_negatives=64, multi_loss=True, selection='l', single='expected'),
    ),
    'ComiRecSA, label-aware': ('ComiRecSA', dict(num_negatives=64, selection='label_aware')),
    'REMI': ('REMI', dict(num_negatives=64, multi_loss=True, selection='p', beta=1.0)),
}


def largest_of_a_sequence_step(name, arguments, num_items):
    """Bytes of the largest tensor of a step on 64 histories, and of an evaluation of ten users."""
    torch.manual_seed(0)
    data = all_train(timed_data(torch.randint(num_items, (64, 60)).tolist(), num_items))
    store = data['user', 'interacts', 'item']
    held_out = (store.time == 59) & (store.edge_index[0] < 10)
    store.train_mask, store.test_mask = ~held_out, held_out
    model = get_model(name)(data, hidden_channels=16, **arguments).train()
    batch = next(iter(model.make_loader(64, 'edge' if name == 'DSSM' else 'user')))
    with PeakAllocation() as step:
        sum(model.loss(batch).values()).backward()
    with PeakAllocation() as ranking:
        Evaluator(data, 'test', (5,), batch_size=2)(model.eval())
    return step.largest, ranking.largest


@pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='tracks storages by reference counts'
)
@pytest.mark.parametrize('case', list(SEQUENTIAL))
def test_a_sequence_step_holds_no_score_of_every_item(case):
    """The table's gradient grows with the items; [B, K, I] would be 16 times as long as it, and
    [B, L, I] 200 times.
    """
    name, arguments = SEQUENTIAL[case]
    small = largest_of_a_sequence_step(name, arguments, 20_000)
    large = largest_of_a_sequence_step(name, arguments, 40_000)
    table = 4 * 16 * 40_001
    assert max(large) <= 1.1 * table
    assert all(after <= 2.2 * before for before, after in zip(small, large))


@pytest.mark.parametrize('name', ['SASRec', 'GRU4Rec'])
def test_a_full_softmax_over_items_is_taken_in_blocks(name):
    """A block is 2^23 scores; all, [B, L, I], would be three and six blocks."""
    for num_items in (8_000, 16_000):
        largest, _ = largest_of_a_sequence_step(
            name, dict(loss='softmax', history_length=50), num_items
        )
        assert largest <= 4 * 2**23 < 4 * 64 * 50 * num_items / 3
