import json

import pytest
import torch

from benchmarks.common.machine import machine
from benchmarks.speed.gpu import cases
from benchmarks.speed.gpu import run as gpu
from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, bipartite_adjacency

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.fixture
def graph():
    return gpu.random_graph(5, 4, 10).to(DEVICE)


def test_random_graph_is_skewed_and_without_repeats():
    edge_index = gpu.random_graph(300, 200, 5000)
    assert edge_index.size(1) == torch.unique(edge_index, dim=1).size(1) and bool(
        (edge_index.max(dim=1).values < torch.tensor([300, 200])).all()
    )
    degree = torch.bincount(edge_index[1], minlength=200)
    assert int(degree.max()) > 8 * int(degree.median())


@pytest.mark.usefixtures('triton_works')
def test_every_measurement_and_the_report(graph):
    adj = bipartite_adjacency(graph, 5, 4, self_loops=True)
    known = Adjacency.from_edge_index(graph, size=(5, 4))
    results, left_out = cases.measure_products(adj, 1, 1, widths=(3,))
    results = {
        **results,
        **cases.measure_ranking(known, 1, 1, k=3, width=4, block=5),
        **cases.measure_flips(known, 1, 1, block=6),
        **cases.measure_contrast(DEVICE, 1, 1, rows=(8,), width=4),
        **cases.measure_training(adj, graph, 5, 1, 1, batch_size=16, steps=3),
    }
    assert len(results) == 4 + 1 + 2 + 1 + 1
    assert all(part['eager'][cases.OURS]['median'] > 0 for part in results.values())
    results.update(
        cases.measure_epochs(demo_graph(num_users=60, num_items=40, num_clusters=4), DEVICE, 1)
    )
    assert f'{cases.OURS}, 3 launches' in results['product, d = 3, forward']['eager']
    document = {
        'device': 'a device',
        'graph': 'demo',
        'num_users': 5,
        'num_items': 4,
        'nnz': adj.nnz,
        'longest_row': 5,
        'repeats': 1,
        'calls': 1,
        'machine': machine(1),
        'results': results,
        'left_out': {**left_out, 'slow product': 'no time'},
    }
    text = gpu.render(json.loads(json.dumps(document)))
    assert '## Epoch of GenRec' in text and 'slow product: no time.' in text
    assert '## Training step' in text and '| Triton |' in text


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_it_says_so(caplog):
    assert gpu.main([]) == 1
    assert 'finds no CUDA device' in caplog.text


@pytest.mark.parametrize('flags', [['--repeats', '0'], ['--dataset', 'tiktok']])
def test_bad_usage(flags, capsys):
    with pytest.raises(SystemExit) as error:
        gpu.main(flags)
    assert error.value.code == 2 and f'{flags[0]}: got {flags[1]}' in capsys.readouterr().err


def test_without_triton_it_says_so(caplog, monkeypatch):
    def missing():
        raise ConfigError('triton is not installed')

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(gpu, 'triton_kernels', missing)
    assert gpu.main([]) == 1 and 'triton is not installed' in caplog.text
