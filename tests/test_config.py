import pytest
import yaml

from genrec_pyg.config import parse_train_arguments, shipped_defaults
from genrec_pyg.exceptions import ConfigError


def parse(*argv):
    return parse_train_arguments(list(argv)).config


def test_defaults_come_from_signatures_and_shipped_files():
    config = parse()
    assert (config.dataset, config.model, config.protocol, config.modalities) == ('demo', 'GenRec', 'validation', None)
    assert config.hparams['hidden_channels'] == 64
    assert config.hparams['lambda2'] == shipped_defaults('GenRec', 'demo')['hparams']['lambda2']
    assert parse('--model', 'EASE', '--dataset', 'lfm2k').hparams['l2'] == 100.0
    assert parse('--dataset', 'tiktok').hparams['clusters'] == {'image': 18, 'text': 59, 'audio': 46}


def test_later_sources_win(tmp_path):
    file = tmp_path / 'my.yaml'
    file.write_text('dataset: tiktok\nepochs: 7\ntrainer: {lr: 0.5}\nhparams: {lambda2: 0.7, num_layers: 3}\n')
    config = parse('--config', str(file), '--hparams.num_layers', '2', '--modalities', 'image', 'text=bert', '--seed', '4')
    assert config.dataset == 'tiktok' and config.epochs == 7 and config.seed == 4
    assert config.trainer['lr'] == 0.5 and config.trainer['batch_size'] == parse().trainer['batch_size']
    assert config.hparams['lambda2'] == 0.7 and config.hparams['num_layers'] == 2
    assert config.hparams['clusters'] == {'image': 18, 'text': 59, 'audio': 46}
    assert config.modalities == ['image', 'text=bert']


def test_printed_configuration_reads_back(tmp_path):
    config = parse('--dataset', 'tiktok', '--hparams.specific', '[audio]', '--trainer.ks', '[5, 20]', '--references', 'false')
    (tmp_path / 'config.yaml').write_text(config.to_yaml())
    assert parse('--config', str(tmp_path / 'config.yaml')).to_dict() == config.to_dict()
    assert yaml.safe_load(config.to_yaml())['trainer']['ks'] == [5, 20]


def test_root_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv('GENREC_DATA', '/somewhere')
    assert parse().root == '/somewhere' and parse('--root', 'here').root == 'here'


def test_resume_takes_the_configuration_of_the_run(tmp_path):
    (tmp_path / 'config.yaml').write_text(parse('--epochs', '3', '--seed', '9', '--output', 'old').to_yaml())
    call = parse_train_arguments(['--resume', str(tmp_path), '--epochs', '5'])
    assert call.resume == str(tmp_path) == call.config.output and (call.config.epochs, call.config.seed) == (5, 9)
    with pytest.raises(ConfigError, match="--model: got 'EASE' with --resume, accepted is 'GenRec'"):
        parse_train_arguments(['--resume', str(tmp_path), '--model', 'EASE'])


@pytest.mark.parametrize('argv,message', [
    (['--model', 'LightFM'], "model: got 'LightFM', accepted are GenRec"),
    (['--epoch', '3'], '--epoch'), (['--hparams.num_lay', '3'], 'num_lay'), (['--trainer.momentum', '1'], 'momentum'),
    (['--epochs', 'many'], 'epochs.*many'), (['--trainer.lr', 'fast'], r'trainer\.lr.*fast'),
    (['--hparams.num_layers', '1.5'], r'hparams\.num_layers'), (['--config', 'nowhere.yaml'], 'nowhere.yaml: cannot be read'),
    (['--resume', 'nowhere'], 'nowhere.config.yaml: cannot be read'), (['--model'], 'expected one argument'),
])
def test_unknown_and_mistyped_flags_are_named(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse(*argv)


@pytest.mark.parametrize('text,message', [
    ('datset: tiktok', "my.yaml: unknown key 'datset', accepted are dataset, root"),
    ('hparams: {depth: 3}', r"my.yaml: unknown key 'hparams\.depth', accepted are variant, hidden_channels"),
    ('trainer: {speed: 3}', r"my.yaml: unknown key 'trainer\.speed', accepted are batch_size"),
    ('epochs: many', 'epochs'), ('- a\n- b', 'my.yaml: holds list, accepted is a mapping'), ('{', 'my.yaml: not a YAML file'),
])
def test_bad_files_are_named(tmp_path, text, message):
    (tmp_path / 'my.yaml').write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse('--config', str(tmp_path / 'my.yaml'))


def test_yaml_executes_nothing(tmp_path):
    (tmp_path / 'my.yaml').write_text("dataset: !!python/object/apply:os.system ['touch executed']")
    with pytest.raises(ConfigError, match='not a YAML file'):
        parse('--config', str(tmp_path / 'my.yaml'))
