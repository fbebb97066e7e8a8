import pytest

from genrec_pyg.config import flatten, parse_train_arguments, resolve_config
from genrec_pyg.config.build import make_model
from genrec_pyg.exceptions import ConfigError


@pytest.mark.parametrize(
    'model, dataset, overrides, flags',
    [
        ('GenRec', 'demo', {}, []),
        ('EASE', 'lfm2k', {}, []),
        ('DiffMM', 'baby', {}, []),
        ('Popularity', 'demo', {}, []),
        (
            'GenRec',
            'tiktok',
            {'hparams.variant': 'released', 'epochs': 3},
            ['--hparams.variant', 'released', '--epochs', '3'],
        ),
        (
            'GenRec',
            'demo',
            {'hparams': {'encoder': {'num_layers': 3}}, 'trainer.lr': 1},
            ['--hparams.encoder.num_layers', '3', '--trainer.lr', '1'],
        ),
        (
            'GenRec',
            'demo',
            {'hparams.interest.view_weights': {'kernel': 1}, 'modalities': ['image']},
            ['--hparams.interest.view_weights', '{kernel: 1}', '--modalities', 'image'],
        ),
        (
            'LightGCN',
            'demo',
            {'trainer': {'ks': [5, 20]}, 'trainer.lr': 0.1},
            ['--trainer.ks', '[5, 20]', '--trainer.lr', '0.1'],
        ),
    ],
)
def test_equals_what_the_command_line_gives(model, dataset, overrides, flags):
    config = resolve_config(model, dataset, overrides)
    assert config == parse_train_arguments(['--model', model, '--dataset', dataset, *flags]).config


def test_a_file_is_under_the_overrides(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('model: MGCN\ndataset: baby\nepochs: 7\nhparams: {num_layers: 3}\n')
    config = resolve_config(overrides={'hparams.num_layers': 4}, file=path)
    assert (config.model, config.dataset, config.epochs, config.hparams['num_layers']) == (
        'MGCN',
        'baby',
        7,
        4,
    )
    assert resolve_config(file=path).hparams['num_layers'] == 3


@pytest.mark.parametrize(
    'overrides, message',
    [
        ({'speed': 3}, "overrides: unknown key 'speed'"),
        ({'hparams.depth': 3}, "unknown key 'hparams.depth', accepted are variant"),
        (
            {'hparams.denoiser.depth': 3},
            "unknown key 'hparams.denoiser.depth', accepted are name, num_layers",
        ),
        ({'trainer.lr': 'fast'}, 'overrides: trainer.lr: .*fast'),
        ({'hparams': 3}, 'hparams: got 3, accepted is a mapping'),
        ({'hparams.denoiser.rank': 'low'}, r'overrides: hparams\.denoiser\.rank: .*low'),
        ({'model': 'EASE'}, "model: got 'EASE' with model='GenRec'"),
        ({'config': 'x.yaml'}, "unknown key 'config'"),
        ({'modalities': 'image'}, "modalities: got 'image', accepted is a list"),
    ],
)
def test_unknown_and_mistyped_settings_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve_config('GenRec', 'demo', overrides)


def test_an_unknown_model_is_named():
    with pytest.raises(ConfigError, match="model: got 'LightFM'"):
        resolve_config('LightFM')


def test_a_setting_without_effect_is_left_for_the_model_to_refuse(demo_data):
    config = resolve_config(
        'GenRec', overrides={'hparams.denoiser.name': 'tied', 'hparams.denoiser.rank': 8}
    )
    assert config.hparams['denoiser']['rank'] == 8
    with pytest.raises(
        ConfigError, match="denoiser.rank: got 8 with denoiser.name='tied', accepted is 256"
    ):
        make_model(config, demo_data)


def test_former_names_are_taken():
    config = resolve_config(overrides={'hparams.keep': 0.75, 'hparams.denoiser': 'tied'})
    settings = flatten(config.to_dict())
    assert (
        settings['hparams.generation.edge_dropout'] == 0.25
        and settings['hparams.denoiser.name'] == 'tied'
    )
