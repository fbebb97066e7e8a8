import numpy as np
import pytest
import torch
from helpers.toy_graphs import toy_data

from benchmarks.common.worker import PHASES
from benchmarks.speed import beside_mmrec
from genrec_pyg.config import resolve_config
from genrec_pyg.datasets import load_dataset
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.models import MODELS
from genrec_pyg.ops import Adjacency


def answer(training, evaluation, peak, setup):
    epochs = [
        {
            clock: {**dict.fromkeys(PHASES, 0.0), 'recommender': second, 'evaluation': evaluation}
            for clock in ('wall', 'processor')
        }
        | {'memory': {'peak': peak}}
        for second in training
    ]
    return {'ready': {'processor': setup, 'description': {}}, 'epochs': epochs}


ANSWERS = {
    'ours': answer([9.0, 1.0, 3.0, 2.0], 1.0, 300_000_000, 2.0),
    'mmrec': answer([1.0, 8.0, 10.0, 30.0], 5.0, 600_000_000, 5.0),
}


def test_condense_leaves_out_the_first_epoch_and_divides_medians():
    found = beside_mmrec.condense(ANSWERS)
    assert found['times_faster'] == {
        'training': 5.0,
        'evaluation': 5.0,
        'epoch': 5.0,
        'setup': 2.5,
    }
    assert found['memory_share'] == 0.5


def test_the_report_has_a_row_per_model_and_tells_the_failed():
    document = {
        'dataset': 'toy',
        'epochs': 3,
        'digest': 'abc',
        'models': {'LightGCN': beside_mmrec.condense(ANSWERS)},
        'failed': ['MGCN: no memory'],
        'machine': {
            **dict.fromkeys(
                ('processor', 'architecture', 'logical_cores', 'memory_gib', 'threads', 'commit'), 1
            ),
            'load_average': 0,
            'versions': {},
            'allocator': {},
        },
    }
    text = beside_mmrec.render(document)
    row = next(line for line in text.splitlines() if line.startswith('| LightGCN'))
    assert row == (
        '| LightGCN | 2.000 | 10.000 | 1.000 | 5.000 | 5.0 | 2.0 | 5.0 | 0.30 | 0.60 | 0.50 |'
    )
    assert 'in the median 5.0 times' in text and '* MGCN: no memory' in text


def test_the_written_layout_is_read_back_as_the_same_graph(tmp_path):
    data = toy_data(2)
    names = list(training_graph(data).modalities)
    beside_mmrec.write_layout(data, names, tmp_path / 'toy')
    again = load_dataset('toy', str(tmp_path))
    for split in ('edge_index', 'val_mask', 'test_mask'):
        first, second = (side['user', 'interacts', 'item'][split] for side in (data, again))
        assert torch.equal(first, second), split
    lists = np.load(tmp_path / 'toy' / beside_mmrec.USER_LISTS, allow_pickle=True).item()
    assert sorted(lists) == list(range(training_graph(data).num_users))


def test_lists_have_most_common_neighbors_first():
    graph = Adjacency.from_edge_index(
        torch.tensor([[0, 0, 2], [1, 2, 0]]), torch.tensor([1.0, 3.0, 2.0]), (3, 3)
    )
    assert beside_mmrec.neighbor_lists(graph) == {
        0: [[2, 1], [3.0, 1.0]],
        1: [[], []],
        2: [[0], [2.0]],
    }


@pytest.mark.parametrize('model', list(beside_mmrec.MODELS))
def test_settings_are_settings_of_registered_models(model):
    assert model in MODELS
    resolve_config(
        model=model,
        dataset='demo',
        overrides={
            f'hparams.{name}': value for name, value in beside_mmrec.MODELS[model].ours.items()
        },
    )
