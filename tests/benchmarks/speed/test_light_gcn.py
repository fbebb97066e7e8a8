import json

import pytest
import torch

from benchmarks.speed import light_gcn
from genrec_pyg.datasets import demo_graph
from genrec_pyg.graph import training_graph
from genrec_pyg.loader import InteractionLoader


@pytest.fixture
def candidates():
    graph = training_graph(demo_graph(), [])
    return light_gcn.losses(graph, 8, 2, next(iter(InteractionLoader(graph, 64))))


def test_all_compute_the_same(candidates):
    assert {light_gcn.OURS, 'torch_geometric, edge_index', 'torch_geometric, CSR'} <= set(
        candidates
    )
    light_gcn.check(candidates)


def test_a_difference_is_found(candidates):
    _, (table,) = candidates['torch_geometric, CSR']
    with torch.no_grad():
        table[0] += 1.0
    with pytest.raises(AssertionError, match='torch_geometric, CSR'):
        light_gcn.check(candidates)


def test_steps_move_all_alike(candidates):
    for step in light_gcn.steps(candidates).values():
        step()
    tables = [torch.cat([p.detach() for p in parameters]) for _, parameters in candidates.values()]
    for table in tables[1:]:
        # Adam's first step is the sign of the gradient: rounding decides it where the gradient is
        # nearly zero.
        assert ((table - tables[0]).abs() < 1e-5).float().mean() > 0.99


def test_report(tmp_path):
    assert (
        light_gcn.main(
            [
                '--dataset',
                'demo',
                '--repeats',
                '1',
                '--channels',
                '4',
                '--output',
                str(tmp_path / 'x'),
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / 'x.json').read_text())['steps'][light_gcn.OURS]['times_ours'] == 1
    assert '| torch_geometric, CSR |' in (tmp_path / 'x.md').read_text()
