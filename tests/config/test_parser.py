import pytest
import yaml

from genrec_pyg.config import flatten, parse_train_arguments, shipped_defaults
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MODELS, GenRec, Recommender, get_model
from genrec_pyg.nn.models.settings import former_settings


def parse(*argv):
    return parse_train_arguments(list(argv)).config


def test_defaults_come_from_signatures_and_shipped_files():
    config = parse()
    assert (config.dataset, config.model, config.protocol, config.modalities) == (
        'demo',
        'GenRec',
        'validation',
        None,
    )
    assert config.hparams['hidden_channels'] == 64
    assert (
        config.hparams['contrast'].items()
        >= shipped_defaults('GenRec', 'demo')['hparams']['contrast'].items()
    )
    assert parse('--model', 'EASE', '--dataset', 'lfm2k').hparams['l2'] == 100.0
    released = parse('--dataset', 'tiktok', '--hparams.variant', 'released')
    assert released.hparams['debias']['clusters'] == {'image': 18, 'text': 59, 'audio': 46}


def test_later_sources_win(tmp_path):
    file = tmp_path / 'my.yaml'
    file.write_text(
        'dataset: tiktok\nepochs: 7\ntrainer: {lr: 0.5}\n'
        'hparams: {contrast: {pair_weight: 0.7}, encoder: {num_layers: 3}}\n'
    )
    config = parse(
        '--config',
        str(file),
        '--hparams.encoder.num_layers',
        '2',
        '--modalities',
        'image',
        'text=bert',
        '--seed',
        '4',
    )
    assert config.dataset == 'tiktok' and config.epochs == 7 and config.seed == 4
    assert (
        config.trainer['lr'] == 0.5
        and config.trainer['batch_size'] == parse().trainer['batch_size']
    )
    assert config.hparams['contrast'] == {**parse().hparams['contrast'], 'pair_weight': 0.7}
    assert config.hparams['encoder']['num_layers'] == 2
    assert config.hparams['l2'] == shipped_defaults('GenRec', 'tiktok')['hparams']['l2']
    assert config.modalities == ['image', 'text=bert']


def test_one_switch_gives_the_published_settings_of_a_variant(tmp_path):
    ours = parse_train_arguments(['--dataset', 'baby']).config
    argv = ['--dataset', 'baby', '--hparams.variant', 'released']
    config = parse_train_arguments(argv).config
    assert (config.trainer['lr'], config.trainer['batch_size'], config.epochs) == (1e-3, 1024, 50)
    hparams, own = flatten(config.to_dict()), flatten(ours.to_dict())
    assert (
        hparams['hparams.generation.edge_dropout'],
        hparams['hparams.generation.rebuild_k'],
        hparams['hparams.contrast.pair_weight'],
    ) == (0.5, 1, 0.1)
    assert (
        hparams['hparams.encoder.merge'] == 'sum' and not hparams['hparams.encoder.side_in_score']
    )
    assert (
        hparams['hparams.debias.clusters'] == {'image': 6, 'text': 11}
        and own['hparams.debias.clusters'] == 20
    )
    assert own['hparams.encoder.merge'] == 'softmax' and own['hparams.generation.rebuild_k'] == 5
    assert parse_train_arguments([*argv, '--trainer.lr', '0.01']).config.trainer['lr'] == 0.01
    path = tmp_path / 'mine.yaml'
    path.write_text('dataset: baby\nhparams: {variant: released}\n')
    assert parse_train_arguments(['--config', str(path)]).config.hparams == config.hparams


def test_printed_configuration_reads_back(tmp_path):
    config = parse(
        '--dataset',
        'tiktok',
        '--hparams.encoder.specific',
        '[audio]',
        '--trainer.ks',
        '[5, 20]',
        '--references',
        'false',
    )
    (tmp_path / 'config.yaml').write_text(config.to_yaml())
    assert parse('--config', str(tmp_path / 'config.yaml')).to_dict() == config.to_dict()
    assert yaml.safe_load(config.to_yaml())['trainer']['ks'] == [5, 20]


def test_how_processes_share_the_model_is_no_part_of_the_configuration():
    call = parse_train_arguments(['--distributed', 'sharded'])
    assert call.distributed == 'sharded' and 'distributed' not in call.config.to_yaml()
    assert parse_train_arguments([]).distributed is None


def test_root_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv('GENREC_DATA', '/somewhere')
    assert parse().root == '/somewhere' and parse('--root', 'here').root == 'here'


def test_resume_takes_the_configuration_of_the_run(tmp_path):
    (tmp_path / 'config.yaml').write_text(
        parse('--epochs', '3', '--seed', '9', '--output', 'old').to_yaml()
    )
    call = parse_train_arguments(['--resume', str(tmp_path), '--epochs', '5'])
    assert call.resume == str(tmp_path) == call.config.output and (
        call.config.epochs,
        call.config.seed,
    ) == (5, 9)
    with pytest.raises(
        ConfigError, match="--model: got 'EASE' with --resume, accepted is 'GenRec'"
    ):
        parse_train_arguments(['--resume', str(tmp_path), '--model', 'EASE'])


@pytest.mark.parametrize(
    'flag,value',
    [
        ('--seed', '8'),
        ('--protocol', 'published'),
        ('--hparams.encoder.num_layers', '3'),
        ('--modalities', 'image'),
        ('--trainer.lr', '0.5'),
        ('--output', 'elsewhere'),
    ],
)
def test_resume_refuses_another_experiment(tmp_path, flag, value):
    (tmp_path / 'config.yaml').write_text(parse('--seed', '9').to_yaml())
    with pytest.raises(
        ConfigError, match=f'{flag}: got .*{value}.* with --resume, accepted is .* of the run'
    ):
        parse('--resume', str(tmp_path), flag, value)


def test_unknown_flags_list_what_is_accepted():
    with pytest.raises(ConfigError, match=r'--datset.* accepted are .*--dataset, .*--hparams\.\*'):
        parse('--datset', 'demo')
    with pytest.raises(ConfigError, match=r'accepted are --hparams\.l2, .*--hparams\.max_items'):
        parse('--model', 'EASE', '--hparams.depth', '3')


def test_a_new_model_needs_no_configuration_code(tmp_path, monkeypatch):
    class Model(Recommender):
        def __init__(self, data, modalities=None, width: int = 4, kind: str = 'plain'):
            pass

    for module in ('parser', 'resolve', 'schema'):
        monkeypatch.setattr(f'genrec_pyg.config.{module}.get_model', lambda name: Model)
    config = parse('--model', 'Other', '--hparams.width', '8')
    assert config.hparams == {'width': 8, 'kind': 'plain'}
    with pytest.raises(ConfigError, match=r'--hparams\.width: .*wide'):
        parse('--model', 'Other', '--hparams.width', 'wide')


def test_a_model_without_settings_reads_back(tmp_path):
    config = parse('--model', 'Popularity')
    assert config.hparams == {} or 'l2' not in config.hparams
    (tmp_path / 'config.yaml').write_text(config.to_yaml())
    assert parse('--config', str(tmp_path / 'config.yaml')).to_dict() == config.to_dict()


def test_numbers_of_yaml_become_the_type_of_the_setting(tmp_path):
    (tmp_path / 'my.yaml').write_text(
        'trainer: {lr: 1, ks: [5, 20]}\n'
        'hparams: {encoder: {dropout: 0}, debias: {clusters: auto}}\n'
    )
    config = parse('--config', str(tmp_path / 'my.yaml'))
    assert isinstance(config.trainer['lr'], float) and isinstance(
        config.hparams['encoder']['dropout'], float
    )
    assert config.trainer['ks'] == [5, 20] and config.hparams['debias']['clusters'] == 'auto'


@pytest.mark.parametrize(
    'argv,message',
    [
        (['--model', 'LightFM'], "model: got 'LightFM', accepted are GenRec"),
        (['--epoch', '3'], '--epoch'),
        (['--hparams.num_lay', '3'], 'num_lay'),
        (['--trainer.momentum', '1'], 'momentum'),
        (['--epochs', 'many'], 'epochs.*many'),
        (['--trainer.lr', 'fast'], r'trainer\.lr.*fast'),
        (['--hparams.encoder.num_layers', '1.5'], r'hparams\.encoder\.num_layers'),
        (['--config', 'nowhere.yaml'], 'nowhere.yaml: cannot be read'),
        (['--resume', 'nowhere'], 'nowhere.config.yaml: cannot be read'),
        (['--model'], 'expected one argument'),
    ],
)
def test_unknown_and_mistyped_flags_are_named(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse(*argv)


@pytest.mark.parametrize(
    'text,message',
    [
        ('datset: tiktok', "my.yaml: unknown key 'datset', accepted are dataset, root"),
        (
            'hparams: {depth: 3}',
            r"my.yaml: unknown key 'hparams\.depth', accepted are variant, hidden_channels, l2",
        ),
        ('trainer: {speed: 3}', r"my.yaml: unknown key 'trainer\.speed', accepted are batch_size"),
        ('epochs: many', 'my.yaml: epochs: .*many'),
        (
            'hparams: {contrast: {pair_weight: much}}',
            r'my.yaml: hparams\.contrast\.pair_weight: .*much',
        ),
        (
            'hparams: {contrast: {weight: 1}}',
            r"my.yaml: unknown key 'hparams\.contrast\.weight', accepted are view_weight",
        ),
        ('hparams: 3', 'my.yaml: hparams: got 3, accepted is a mapping'),
        ('config: other.yaml', "unknown key 'config'"),
        ('modalities: image', "my.yaml: modalities: got 'image', accepted is a list"),
        ('model: X', "model: got 'X'"),
        ('- a\n- b', 'my.yaml: holds list, accepted is a mapping'),
        ('{', 'my.yaml: not a YAML file'),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    (tmp_path / 'my.yaml').write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse('--config', str(tmp_path / 'my.yaml'))


def test_yaml_executes_nothing(tmp_path):
    (tmp_path / 'my.yaml').write_text("dataset: !!python/object/apply:os.system ['touch executed']")
    with pytest.raises(ConfigError, match='not a YAML file'):
        parse('--config', str(tmp_path / 'my.yaml'))


@pytest.mark.parametrize(
    'flags, name, value',
    [
        (
            ['--model', 'MMGCL', '--dataset', 'tiktok', '--hparams.variant', 'released'],
            'mask_probability',
            None,
        )
    ],
)
def test_shipped_defaults_give_way_to_what_takes_their_place(flags, name, value, caplog, demo_data):
    config = parse_train_arguments(flags).config
    assert config.hparams[name] == value and not caplog.messages
    get_model(config.model)(demo_data, **config.hparams)


def test_a_flag_without_effect_is_refused_by_the_model(demo_data):
    flags = ['--hparams.variant', 'released', '--hparams.interest.weight', '0.7']
    with pytest.raises(
        ConfigError, match="interest.weight: got 0.7 with variant='released', accepted is 0.0"
    ):
        GenRec(demo_data, **parse_train_arguments(flags).config.hparams)


def test_the_file_of_an_earlier_run_is_taken_with_a_warning(tmp_path, caplog):
    path = tmp_path / 'config.yaml'
    path.write_text('hparams: {variant: released, interest_weight: 0.4}\n')
    config = parse_train_arguments(['--config', str(path)]).config
    assert config.hparams['interest']['weight'] == 0.0
    assert caplog.messages == [
        "hparams.interest.weight: 0.4 has no effect with variant='released' and is taken as 0.0"
    ]
    (tmp_path / 'config.yaml').write_text(
        parse_train_arguments(['--config', str(path)]).config.to_yaml()
    )
    assert parse_train_arguments(['--resume', str(tmp_path), '--epochs', '99']).config.epochs == 99


@pytest.mark.parametrize(
    'flags, now',
    [
        (['--hparams.lambda2', '0.3'], '--hparams.contrast.pair_weight'),
        (['--hparams.keep', '0.5'], '--hparams.generation.edge_dropout'),
        (['--hparams.denoiser', 'tied'], '--hparams.denoiser.name'),
        (['--hparams.clusters=9'], '--hparams.debias.clusters'),
        (['--model', 'DiffMM', '--hparams.keep', '0.5'], '--hparams.generation.edge_dropout'),
        (['--model', 'SGL', '--hparams.ratio', '0.5'], '--hparams.edge_dropout'),
    ],
)
def test_a_flag_of_an_earlier_version_is_answered_with_its_present_name(flags, now):
    with pytest.raises(ConfigError, match=f'it is {now} now'):
        parse(*flags)


FORMER = """hparams: {variant: principled, hidden_channels: 16, num_layers: 3, lambda1: 0.2, lambda2: 0.4, l2: 0.0,
  contrast: true, ranking: bpr, generation: true, denoiser: tied, denoiser_layers: 2, denoiser_rank: 256,
  objective: focal, keep: 0.75,
  debias: null, clusters: {image: 4}, process: flip, start: observed, interest_weight: auto, view_weights: auto}
"""  # noqa: E501


def test_the_configuration_of_an_earlier_version_is_read(tmp_path, caplog):
    path = tmp_path / 'config.yaml'
    path.write_text(FORMER)
    hparams = parse('--config', str(path)).hparams
    assert not caplog.messages
    assert (
        hparams['hidden_channels'],
        hparams['encoder']['num_layers'],
        hparams['ranking']['loss'],
    ) == (16, 3, 'bpr')
    assert (hparams['contrast']['view_weight'], hparams['contrast']['pair_weight']) == (0.2, 0.4)
    assert (
        hparams['denoiser']['name'],
        hparams['denoiser']['num_layers'],
        hparams['denoiser']['rank'],
    ) == ('tied', 2, 256)
    assert (
        hparams['denoiser_training']['objective'] == 'focal'
        and hparams['generation']['edge_dropout'] == 0.25
    )
    assert hparams['debias']['enabled'] is None and hparams['debias']['clusters'] == {'image': 4}
    path.write_text('hparams: {contrast: false, generation: false, denoiser: tied}')
    hparams = parse('--config', str(path)).hparams
    assert hparams['contrast']['view_weight'] == hparams['contrast']['pair_weight'] == 0
    assert not hparams['generation']['enabled'] and hparams['denoiser']['name'] == 'linear'
    assert [message.split(':')[0] for message in caplog.messages] == ['hparams.denoiser.name']


@pytest.mark.parametrize('model', [name for name in MODELS if former_settings(get_model(name))])
def test_every_former_setting_is_a_setting_now(model):
    known = flatten(parse('--model', model).to_dict())
    for name, conversion in former_settings(get_model(model)).items():
        assert all(f'hparams.{now}' in known for now in conversion(0)), name


@pytest.mark.parametrize(
    'model, former, now',
    [
        ('HCCF', {'keep': 0.75, 'mult': 0.3}, {'edge_dropout': 0.25, 'membership_scale': 0.3}),
        ('LGMRec', {'keep': 0.2}, {'edge_dropout': 0.8}),
        ('PGL', {'keep': 0.3}, {'edge_dropout': 0.7}),
        ('SGL', {'ratio': 0.38}, {'edge_dropout': 0.38}),
        ('NGCF', {'node_dropout': 0.1}, {'edge_dropout': 0.1}),
        ('LightGCN', {'reg': 'table'}, {'penalty_rows': 'table'}),
        ('BM3', {'reg': 'l2'}, {'penalty': 'l2'}),
        (
            'DAMRS',
            {'user_alignment': 0.5, 'item_alignment': 0.1},
            {'alignment_weight': 0.5, 'contrast_weight': 0.1},
        ),
        ('NCL', {'structure_weight': 0.01}, {'contrast_weight': 0.01}),
    ],
)
def test_shares_and_weights_of_an_earlier_version_have_one_name(model, former, now, tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump({'model': model, 'hparams': former}))
    hparams = parse('--config', str(path)).hparams
    assert {name: hparams[name] for name in now} == now and not former.keys() & hparams.keys()


def test_the_core_has_the_name_that_prepare_gives_it(tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump({'core': 5}))
    assert parse('--config', str(path)).k_core == 5
    with pytest.raises(ConfigError, match='--core 5; it is --k_core now'):
        parse('--core', '5')
