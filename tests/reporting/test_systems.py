import pytest
from helpers.finished_runs import write_run

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.reporting.systems import group_runs, read_runs


def names(systems):
    return {system.name: [run.settings['seed'] for run in system.runs] for system in systems}


def test_runs_that_differ_in_their_seed_are_one_system(tmp_path):
    folders = [
        write_run(tmp_path / f'{model}{seed}', model, seed)
        for model in ('EASE', 'LightGCN')
        for seed in (1, 0)
    ]
    assert names(group_runs(read_runs(folders))) == {'EASE': [0, 1], 'LightGCN': [0, 1]}


def test_systems_of_one_model_are_told_apart_by_their_settings(tmp_path):
    folders = [write_run(tmp_path / str(layers), layers=layers, width=8) for layers in (1, 2)]
    assert list(names(group_runs(read_runs(folders)))) == [
        'LightGCN (layers 1)',
        'LightGCN (layers 2)',
    ]


def test_the_same_seed_twice_is_refused(tmp_path):
    folders = [write_run(tmp_path / name) for name in 'ab']
    with pytest.raises(ConfigError, match='same settings and seed 0'):
        group_runs(read_runs(folders))


@pytest.mark.parametrize(
    'origin,message',
    [
        ({'training': 'c'}, 'other training interactions'),
        ({'held_out': 'c'}, 'other held-out interactions'),
        ({'protocol': 'published'}, 'other protocol'),
    ],
)
def test_runs_of_other_data_are_refused(tmp_path, origin, message):
    folders = [write_run(tmp_path / 'a'), write_run(tmp_path / 'b', seed=1, origin=origin)]
    with pytest.raises(ConfigError, match=message):
        read_runs(folders)


def test_what_is_no_run_is_refused(tmp_path):
    folder = write_run(tmp_path / 'a')
    with pytest.raises(ConfigError, match='given twice'):
        read_runs([folder, f'{folder}/../a'])
    with pytest.raises(DataError, match='evaluate .*a writes it'):
        read_runs([folder], 'val')
    (tmp_path / 'a' / 'metrics.json').write_text('[')
    with pytest.raises(DataError, match=r'metrics\.json: cannot be read'):
        read_runs([folder])
    (tmp_path / 'a' / 'config.yaml').unlink()
    with pytest.raises(ConfigError, match='holds no config.yaml'):
        read_runs([folder])
