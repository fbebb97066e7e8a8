import pytest
import torch

from benchmarks.speed.gpu import cases
from genrec_pyg.ops import BACKENDS, bipartite_adjacency, spmm


@pytest.mark.usefixtures('triton_works')
def test_either_strategy_is_a_back_end_while_it_is_measured():
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    adj = bipartite_adjacency(
        torch.tensor([[0, 1, 1, 4], [2, 0, 3, 1]], device=device), 5, 4, self_loops=True
    )
    x = torch.randn(9, 3, device=device)
    with cases.strategies() as names:
        for name in names.values():
            torch.testing.assert_close(spmm(adj, x, name), spmm(adj, x, 'scatter'))
    assert not set(names.values()) & set(BACKENDS)


def test_what_does_not_run_is_left_out_with_the_reason():
    def broken(x):
        raise RuntimeError('Not compiled with CUDA support\nat line 7')

    found, left_out = cases.runnable({'other': broken, 'square': torch.square}, torch.ones(2, 2))
    assert list(found) == ['square'] and left_out['other'] == 'Not compiled with CUDA support'
    with pytest.raises(RuntimeError, match='Not compiled'):
        cases.runnable({cases.OURS: broken}, torch.ones(2, 2))
