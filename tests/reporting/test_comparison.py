import numpy as np
import pytest
from helpers.finished_runs import write_run

from genrec_pyg.evaluation import holm, paired_comparison
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.reporting.comparison import compare_systems
from genrec_pyg.reporting.systems import group_runs, read_runs


@pytest.fixture
def systems(tmp_path):
    levels = {'EASE': (0.3,), 'LightGCN': (0.5, 0.6), 'MFBPR': (0.3,)}
    folders = [
        write_run(tmp_path / f'{model}{seed}', model, seed, level)
        for model, several in levels.items()
        for seed, level in enumerate(several)
    ]
    return group_runs(read_runs(folders))


def test_values_averaged_over_seeds_are_compared(systems):
    document = compare_systems(systems, 'EASE', ['recall@20'])
    ease, light, bpr = (system.users('recall@20') for system in systems)
    assert (
        light.tolist()
        == np.mean([run.values.users['recall@20'] for run in systems[1].runs], axis=0).tolist()
    )
    expected = {'LightGCN': paired_comparison(light, ease), 'MFBPR': paired_comparison(bpr, ease)}
    corrected = holm({name: one.p for name, one in expected.items()})
    for found in document.values['comparisons']:
        assert (
            found['p_corrected'] == corrected[found['system']]
            and found['p'] == expected[found['system']].p
        )
    assert expected['MFBPR'].p == 1.0  # equal values
    cells = {row[0]: row for row in document.tables[1].rows}
    assert '*' in cells['LightGCN'][2] and '*' not in cells['MFBPR'][2]
    means = systems[1].means('recall@20')
    assert document.tables[0].rows[1][:3] == [
        'LightGCN',
        '2',
        f'{means.mean():.4f} ± {means.std(ddof=1):.4f}',
    ]


def test_groups_of_users_add_up_to_all(systems):
    found = [
        entry
        for entry in compare_systems(systems, 'EASE', ['recall@20']).values['by_activity']
        if entry['system'] == 'LightGCN'
    ]
    sizes = [int(entry['group'].split('(')[1].split()[0]) for entry in found]
    assert sum(sizes) == 40 and found[0]['group'].startswith('0 (')
    assert np.dot(sizes, [entry['mean'] for entry in found]) / 40 == pytest.approx(
        systems[1].users('recall@20').mean()
    )


def test_recall_by_popularity_is_that_of_the_items_of_a_group(systems):
    document = compare_systems(systems, 'EASE', ['recall@20'], parts=2)
    pairs = systems[0].runs[0].values.pairs
    for entry in document.values['by_popularity']:
        if entry['system'] != 'EASE' or entry['group'].startswith('0 '):
            continue
        low, high = map(int, entry['group'].split(' ')[0].split('–'))
        mask = (pairs['popularity'] >= low) & (pairs['popularity'] <= high)
        recall = [
            np.mean(pairs['rank'][mask & (pairs['user'] == user)] > 0)
            for user in np.unique(pairs['user'][mask])
        ]
        assert entry['mean'] == pytest.approx(np.mean(recall))


def test_one_system_has_no_tests(systems):
    document = compare_systems(systems[:1], 'EASE', ['ndcg@20'])
    assert 'comparisons' not in document.values and [table.title for table in document.tables] == [
        'Systems',
        'ndcg@20 by training items of the user',
    ]


def test_unknown_base_and_metric(systems):
    with pytest.raises(ConfigError, match="--base: got 'BPR', accepted are 'EASE'"):
        compare_systems(systems, 'BPR', ['recall@20'])
    with pytest.raises(
        ConfigError,
        match="--metrics: got 'recall@5'.*recall@20, ndcg@20; python -m genrec_pyg.evaluate",
    ):
        compare_systems(systems, 'EASE', ['recall@5'])
