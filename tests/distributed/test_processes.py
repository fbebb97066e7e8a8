"""On two and four processes: the results of one."""

import pytest
import torch.distributed as dist
from helpers import grid_scenarios as scenarios
from helpers.processes import assert_same_training

from genrec_pyg.distributed.cost import Workload, exchanged

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason='this torch has no distributed package'),
]


def test_exchanges_and_their_adjoints(four):
    for results in four['layouts']:
        assert len(results) > 50 and all(results.values()), [
            name for name, fine in results.items() if not fine
        ]


def test_products_with_a_divided_graph(four):
    for results in four['products']:
        assert 'accepted are blocks of channels alone, 1x4' in results.pop('not symmetric')
        assert len(results) == 12 and max(results.values()) < 1e-12


@pytest.mark.parametrize('number', [2, 4])
def test_models_train_as_in_one_process(number, request, tmp_path):
    expected = dict(scenarios.models(scenarios.ALONE, tmp_path))
    for results in request.getfixturevalue({2: 'two', 4: 'four'}[number])['models']:
        assert len(results) == len(expected) * len(scenarios.GRIDS[number])
        for name, result in results.items():
            assert_same_training(expected[name.split()[0]], result)


def test_fewer_items_and_triples_than_processes(four, tmp_path):
    expected = dict(scenarios.few(scenarios.ALONE, tmp_path))
    for results in four['few']:
        assert 'accepted are at most 3 blocks of nodes and 4 of channels' in results.pop('4x1')
        assert set(results) == {'LightGCN 1x4', 'LightGCN 2x2'}
        for result in results.values():
            assert_same_training(expected['LightGCN'], result)


def test_blocks_of_users_without_interactions(four, tmp_path):
    expected = dict(scenarios.empty_block(scenarios.ALONE, tmp_path))
    for results in four['empty_block']:
        for name in expected:
            assert results.pop(f'sizes {name} 2x2') == [1, 7]
            assert results.pop(f'sizes {name} 4x1') == [1, 1, 1, 5]
        assert len(results) == 9
        for name, result in results.items():
            assert_same_training(expected[name.split()[0]], result)


def test_sampled_neighborhoods_are_those_of_one_process(four, tmp_path):
    expected = dict(scenarios.sampled(scenarios.ALONE, tmp_path))
    for results in four['sampled']:
        for grid in ('2x2', '4x1'):
            assert results.pop(grid).startswith(
                f"--grid: got {grid} with neighborhood 'sampled' and 6 channels, accepted are "
                f'blocks of channels alone, 1x4'
            )
        assert set(results) == {'LightGCN 1x4', 'LightGCN ddp'}
        for result in results.values():
            assert_same_training(expected['LightGCN'], result)


def test_a_slow_process_changes_nothing(two, tmp_path):
    expected = dict(scenarios.slow(scenarios.ALONE, tmp_path))
    for results in two['slow']:
        assert_same_training(expected['MFBPR'], results['MFBPR'])


def test_processes_that_differ_are_refused(two):
    for results in two['different']:
        for mode in ('grid', 'ddp'):
            assert results[f'data {mode}'].startswith('training graph: got ')
            assert results[f'parameters {mode}'].startswith('parameters: got ')
            assert (
                'in process 1, ' in results[f'data {mode}']
                and 'the same in all processes' in results[f'data {mode}']
            )
        assert results['no grid'].startswith(
            '--grid: got 1x2 for NGCF, whose work cannot be divided'
        )
    data = scenarios.graph()
    assert_same_training(
        scenarios.fit(
            scenarios.make('NGCF', data, hidden_channels=4), data, scenarios.ALONE, epochs=1
        ),
        two['different'][0]['as ddp'],
    )


def test_dropout_is_that_of_one_process(four):
    assert all(len(results) == 3 and all(results.values()) for results in four['masks'])


def test_bytes_are_those_of_the_formulas(two, four):
    """Without the rows of other processes' items, which only blocks of nodes fetch and the formula
    bounds.
    """
    work = Workload(64, 32, 0, 128, channels=8, layers=2)
    for number, results in ((2, two['volume']), (4, four['volume'])):
        for sent in results:
            assert sent[f'1x{number}'][0] == 128 * 4 * (number - 1)
        assert {sent[f'{number}x1'][0] > 0 for sent in results} == {True}
    assert exchanged(work, (1, 2))[0] == 128 * 4
    per_layer = 2 * 32 * 8 * 4 * 3 / 4  # all items are gathered, and their sums scattered
    fetched = [sent['4x1'][0] - 2 * 2 * per_layer for sent in four['volume']]
    # Counts and places of wanted rows are int64: at most 16 bytes and, forward and backward, 64 per
    # item of a triple.
    assert all(0 < bytes_ <= 256 * (8 + 2 * 32) + 3 * 8 for bytes_ in fetched)
