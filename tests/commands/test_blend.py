import json
import shutil

import pytest
import yaml

from genrec_pyg.blend import main
from genrec_pyg.config.blending import choose_weights, load_members
from genrec_pyg.config.build import load_run
from genrec_pyg.evaluate import main as evaluate
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.recommend import main as recommend
from genrec_pyg.train import main as train

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('blend')
    flags = {'EASE': [], 'ItemKNNCBF': [], 'LightGCN': ['--epochs', '2', '--trainer.lr', '0.01']}
    for model, more in flags.items():
        assert (
            train(
                [
                    '--model',
                    model,
                    '--output',
                    str(folder / model),
                    '--references',
                    'false',
                    '--device',
                    'cpu',
                    *more,
                ]
            )
            == 0
        )
    return [str(folder / model) for model in flags]


@pytest.mark.slow
def test_blend_is_a_run_that_stands_alone(runs, tmp_path, capsys):
    copies = [shutil.copytree(run, tmp_path / f'copy-{number}') for number, run in enumerate(runs)]
    assert main([*map(str, copies), '--output', str(tmp_path / 'blend')]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / 'blend' / 'metrics.json').read_text())
    recall = metrics['recall_of_search']
    assert (
        recall['blend'] >= max(recall.values()) and metrics['selection'] == 'chosen on validation'
    )
    for name in ('1-copy-0', '2-copy-1', '3-copy-2', 'Blend', 'found on'):
        assert name in printed
    for copy in copies:
        shutil.rmtree(copy)
    (tmp_path / 'blend').rename(tmp_path / 'moved')
    capsys.readouterr()
    assert evaluate([str(tmp_path / 'moved')]) == 0
    found = json.loads((tmp_path / 'moved' / 'evaluation-test.json').read_text())
    assert found['recall@20'] == metrics['test']['recall@20']
    assert (
        recommend(
            [
                str(tmp_path / 'moved'),
                '--users',
                'all',
                '--k',
                '3',
                '--output',
                str(tmp_path / 'lists.csv'),
            ]
        )
        == 0
    )
    assert (tmp_path / 'lists.csv').read_text().startswith('user,item,rank,score\n')
    # a blend of a blend
    assert main([str(tmp_path / 'moved'), runs[0], '--output', str(tmp_path / 'again')]) == 0
    assert load_run(str(tmp_path / 'again')).model.num_items == load_run(runs[0]).model.num_items


def test_no_test_interaction_takes_part(runs):
    members = load_members(runs)
    expected = choose_weights(members)
    for run in members.values():
        store = run.data['user', 'interacts', 'item']
        edges, kept = store.edge_index, ~store.test_mask
        train_mask, val_mask = store.train_mask[kept], store.val_mask[kept]
        store.clear()
        store.edge_index, store.train_mask, store.val_mask = edges[:, kept], train_mask, val_mask
    assert expected.chosen and choose_weights(members) == expected


def test_too_few_validation_users_get_equal_weights(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('genrec_pyg.nn.interest.held_out.MIN_USERS', 10**6)
    assert main([*runs, '--output', str(tmp_path / 'blend')]) == 0
    assert 'equal: ' in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / 'blend' / 'config.yaml').read_text())
    assert set(config['members'].values()) == {1.0} and len(config['members']) == 3
    assert load_run(str(tmp_path / 'blend')).selection == 'nothing was chosen'


def test_runs_that_do_not_fit_are_refused_by_name(runs, tmp_path, capsys):
    for split, protocol, message in (
        ('random', 'validation', '2-other: its training interactions are not those of 1-EASE'),
        (None, 'published', '2-other: its epoch was chosen on test'),
    ):
        other = tmp_path / protocol / 'other'
        flags = [] if split is None else ['--split', split]
        assert (
            train(
                [
                    '--model',
                    'Popularity',
                    '--output',
                    str(other),
                    '--references',
                    'false',
                    '--protocol',
                    protocol,
                    *flags,
                ]
            )
            == 0
        )
        assert main([runs[0], str(other), '--output', str(tmp_path / 'blend')]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / 'blend').exists()
    assert (
        main([runs[0]]) == 2
        and main([runs[0], runs[0]]) == 2
        and main([runs[0], str(tmp_path)]) == 2
    )


@pytest.mark.parametrize(
    'members', [{'../1-EASE': 1.0}, {'..': 1.0}, {}, ['1-EASE'], {1: 1.0}, {'1-EASE': -1}]
)
def test_damaged_configurations(tmp_path, members):
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump({'model': 'Blend', 'members': members}))
    with pytest.raises(ConfigError, match='config.yaml: (members|weights): got'):
        load_run(str(tmp_path))


def test_nothing_remains_where_the_disk_refuses(runs, tmp_path, monkeypatch, capsys):
    def refuse(path, document):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('genrec_pyg.config.blending.write_json', refuse)
    assert main([*runs[:2], '--output', str(tmp_path / 'blend')]) == 1
    assert 'No space left' in capsys.readouterr().err and not (tmp_path / 'blend').exists()
