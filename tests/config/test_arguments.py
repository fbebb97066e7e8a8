import json
import os
from pathlib import Path

import pytest

from genrec_pyg.config.arguments import find_root, parse_columns, parse_train_arguments
from genrec_pyg.datasets.saved import GRAPH_FILE
from genrec_pyg.exceptions import ConfigError


def test_columns_are_roles_and_names():
    assert parse_columns(['user=who', 'time=a=b']) == {'user': 'who', 'time': 'a=b'}
    assert parse_columns([]) is None and parse_columns(None) is None
    for entries in (['user'], ['=who'], ['user='], ['user=a', 'user=b']):
        with pytest.raises(ConfigError, match=f"--columns: got '{entries[-1]}', accepted are"):
            parse_columns(entries)


def test_the_data_of_a_run_are_found_where_they_are_now(tmp_path, monkeypatch):
    old, new, run = (tmp_path / name for name in ('old', 'new', 'run'))
    for folder in (new / 'tiktok', run):
        folder.mkdir(parents=True)
    monkeypatch.setenv('GENREC_DATA', str(new))
    assert find_root('tiktok', str(old)) == str(new)
    assert find_root('baby', str(old)) == str(old)  # for the message
    (old / 'tiktok').mkdir(parents=True)
    assert find_root('tiktok', str(old)) == str(old)
    (run / GRAPH_FILE).write_text('')
    assert find_root(GRAPH_FILE, str(old), run) == str(run)


@pytest.mark.parametrize('flag', ['--config', '--resume', '--final', '--from'])
def test_a_flag_that_would_be_dropped_is_given_once(flag):
    with pytest.raises(ConfigError, match=f'{flag}: given 2 times, accepted is once'):
        parse_train_arguments([flag, 'a', f'{flag}=b'])
    with pytest.raises(ConfigError, match=f"{flag}: got '', accepted is the name"):
        parse_train_arguments([flag, ''])


def test_the_last_layer_wins(tmp_path):
    path = tmp_path / 'settings.yaml'
    path.write_text('model: LightGCN\nepochs: 3\nseed: 4\nhparams: {num_layers: 5}\n')
    call = parse_train_arguments(['--config', str(path), '--seed', '6'])
    config = call.config
    assert (config.model, config.epochs, config.seed) == ('LightGCN', 3, 6)
    assert config.hparams['num_layers'] == 5 and call.resume is None
    call = parse_train_arguments(['--config', str(path), '--hparams.num_layers', '2'])
    assert call.config.hparams['num_layers'] == 2


def test_a_final_training_has_the_settings_and_the_epochs_of_the_run(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'config.yaml').write_text('model: LightGCN\nepochs: 30\nseed: 4\n')
    with pytest.raises(ConfigError, match='has no metrics.json with the epoch'):
        parse_train_arguments(['--final', str(run)])
    (run / 'metrics.json').write_text(json.dumps({'epoch': 7}))
    config = parse_train_arguments(['--final', str(run)]).config
    assert (config.epochs, config.seed, config.split) == (8, 4, 'none')
    assert not config.references
    with pytest.raises(ConfigError, match="--split: got 'random' with --final|--split"):
        parse_train_arguments(['--final', str(run), '--split', 'random'])
    with pytest.raises(ConfigError, match="--model: got 'EASE' with --final"):
        parse_train_arguments(['--final', str(run), '--model', 'EASE'])


def test_a_resumed_run_keeps_what_makes_it_the_same_experiment(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'config.yaml').write_text('model: LightGCN\nepochs: 30\nseed: 4\n')
    call = parse_train_arguments(['--resume', str(run), '--epochs', '40'])
    assert (call.resume, call.config.output, call.config.epochs) == (str(run), str(run), 40)
    with pytest.raises(ConfigError, match='--seed: got 5 with --resume, accepted is 4'):
        parse_train_arguments(['--resume', str(run), '--seed', '5'])


def test_a_pattern_may_be_a_path_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('day-1.csv').write_text('user,item\na,x\n')
    flags = ['--model', 'MFBPR', '--dataset', 'day-*.csv', '--on_bad_row', 'skip']
    config = parse_train_arguments(flags).config
    assert config.root == os.curdir and config.on_bad_row == 'skip'
    assert parse_train_arguments([*flags[:3], 'night-*.csv']).config.root != os.curdir
    Path('data').mkdir()
    Path('data/day-2.csv').write_text('user,item\na,x\n')
    assert parse_train_arguments(flags).config.root == 'data'
