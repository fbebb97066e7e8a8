import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from genrec_pyg.nn.models import MODELS
from genrec_pyg.train import main

pytestmark = pytest.mark.slow

FAST = [
    '--epochs',
    '2',
    '--references',
    'false',
    '--hparams.denoiser.rank',
    '32',
    '--hparams.debias.clusters',
    '5',
    '--trainer.batch_size',
    '4096',
    '--device',
    'cpu',
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_leaves_everything_in_its_folder(folder, capsys):
    assert main(['--output', 'run', '--seed', '3', *FAST[:2], *FAST[4:]]) == 0
    run = folder / 'run'
    metrics = json.loads((run / 'metrics.json').read_text())
    assert 0 < metrics['validation']['recall@20'] <= 1 and 0 < metrics['test']['recall@20'] <= 1
    assert {
        'epoch',
        'seconds',
        'model',
        'dataset',
        'seed',
        'protocol',
        'selection',
        'reference',
    } <= set(metrics)
    assert set(metrics['reference']) == {
        'Popularity',
        'ItemKNN',
        'EASE',
        'GraphFilter',
        'ItemKNNCBF',
        'AddEASE',
    }
    assert yaml.safe_load((run / 'config.yaml').read_text())['seed'] == 3
    assert len((run / 'metrics.jsonl').read_text().splitlines()) == 2
    assert {p.name for p in (run / 'checkpoints').iterdir()} == {'best.pt', 'last.pt'}
    assert (run / 'environment.json').exists() and 'epoch 1' in (run / 'train.log').read_text()
    table = capsys.readouterr().out
    assert all(
        name in table
        for name in (
            'Popularity',
            'ItemKNN',
            'EASE',
            'GenRec',
            'test recall@20',
            'chosen on validation',
        )
    )


def test_same_seed_same_result_and_resume_equals_a_straight_run(folder):
    for name in ('a', 'b'):
        assert main(['--output', name, *FAST]) == 0
    assert main(['--output', 'c', '--epochs', '1', *FAST[2:]]) == 0
    assert main(['--resume', 'c', '--epochs', '2']) == 0
    results = [json.loads((folder / name / 'metrics.json').read_text()) for name in 'abc']
    assert results[0]['test'] == results[1]['test'] == results[2]['test']
    assert results[0]['validation'] == results[2]['validation']


@pytest.mark.parametrize(
    'model', [name for name, entry in MODELS.items() if entry.family == 'reference']
)
def test_reference_models_run_by_name(folder, model):
    assert main(['--model', model, '--references', 'false', '--output', 'run']) == 0
    assert json.loads((folder / 'run' / 'metrics.json').read_text())['model'] == model


@pytest.mark.parametrize('model', ['MFBPR', 'Popularity'])
@pytest.mark.parametrize('missing', [('val',), ('test',), ('val', 'test')])
def test_a_data_set_without_a_split_says_what_was_not_measured(folder, capsys, missing, model):
    labels = [0, 0] + [
        number for number, split in ((1, 'val'), (2, 'test')) if split not in missing
    ]
    pairs = [(user, item) for user in range(12) for item in range(0, 9, 1 + user % 3)]
    lines = [f'{user}\t{item}\t{labels[(user + item) % len(labels)]}' for user, item in pairs]
    (folder / 'data' / 'mine').mkdir(parents=True)
    (folder / 'data' / 'mine' / 'mine.inter').write_text(
        '\n'.join(['userID\titemID\tx_label', *lines]) + '\n'
    )
    assert (
        main(
            [
                '--model',
                model,
                '--dataset',
                'mine',
                '--epochs',
                '3',
                '--device',
                'cpu',
                '--output',
                'run',
            ]
        )
        == 0
    )
    metrics = json.loads((folder / 'run' / 'metrics.json').read_text())
    names = ['validation' if split == 'val' else split for split in missing]
    assert metrics['not_measured'] == names and all(metrics[name] == {} for name in names)
    assert all(figures[name] == {} for figures in metrics['reference'].values() for name in names)
    assert ('nothing was chosen' in metrics['selection']) == ('val' in missing)
    table = capsys.readouterr().out
    assert 'EASE' in table and ('test recall@20' in table) == ('test' not in missing)
    if model == 'MFBPR' and 'val' in missing:
        assert metrics['epoch'] == 2


def test_default_folders_are_numbered(folder):
    for _ in range(2):
        assert main(['--model', 'Popularity', '--references', 'false']) == 0
    assert sorted(p.name for p in (folder / 'runs').iterdir()) == [
        'Popularity-demo-seed0',
        'Popularity-demo-seed0-2',
    ]


def test_the_folder_of_a_run_has_a_plain_name_whatever_the_path_of_the_data(folder):
    (folder / 'log.csv').write_text(
        'user,item\n' + ''.join(f'{u},{u % 7}\n{u},{u % 5}\n' for u in range(40))
    )
    arguments = '--model Popularity --references false --dataset ./log.csv --split none'
    assert main(arguments.split()) == 0
    assert [p.name for p in (folder / 'runs').iterdir()] == ['Popularity-log.csv-seed0']


def test_published_protocol_labels_its_result(folder):
    assert main(['--protocol', 'published', '--output', 'run', *FAST]) == 0
    assert (
        json.loads((folder / 'run' / 'metrics.json').read_text())['selection'] == 'chosen on test'
    )


def test_print_config(capsys):
    assert main(['--print_config', '--seed', '5']) == 0
    assert yaml.safe_load(capsys.readouterr().out)['seed'] == 5


@pytest.mark.parametrize(
    'argv,code,message',
    [
        (['--nonsense'], 2, '--nonsense'),
        (['--model', 'X'], 2, "model: got 'X'"),
        (['--dataset', 'nowhere'], 2, "dataset: got 'nowhere'"),
        (['--modalities', 'smell'], 2, "no modality 'smell'"),
        (['--hparams.interest.weight', '7'], 2, 'interest.weight: got 7'),
        (['--trainer.lr', '0'], 2, 'lr'),
        (['--device', 'abacus'], 2, "device: got 'abacus'"),
        (['--dataset', 'sports'], 1, "dataset 'sports'"),
        (['--resume', 'nowhere'], 2, 'nowhere'),
    ],
)
def test_errors_are_one_line_and_an_exit_code(argv, code, message, capsys):
    assert main(argv) == code
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith('error: ') and message in error[-1]
    assert not any('Traceback' in line for line in error)


def test_debug_shows_where(capsys):
    assert main(['--dataset', 'nowhere', '--debug']) == 2
    assert 'Traceback' in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_overwritten(folder, capsys):
    assert main(['--model', 'Popularity', '--references', 'false', '--output', 'run']) == 0
    assert main(['--model', 'Popularity', '--references', 'false', '--output', 'run']) == 2
    assert '--resume run' in capsys.readouterr().err
    (folder / 'file').touch()
    assert (
        main(['--model', 'Popularity', '--output', 'file/run']) == 2
        and 'is no folder' in capsys.readouterr().err
    )


def test_configuration_of_a_run_starts_a_new_one(folder):
    assert (
        main(['--model', 'EASE', '--hparams.l2', '7', '--references', 'false', '--output', 'run'])
        == 0
    )
    assert main(['--config', 'run/config.yaml']) == 0
    new, old = folder / 'runs' / 'EASE-demo-seed0', folder / 'run'
    assert (new / 'config.yaml').read_text() == (old / 'config.yaml').read_text()
    assert (
        json.loads((new / 'metrics.json').read_text())['test']
        == json.loads((old / 'metrics.json').read_text())['test']
    )


def test_failures_leave_no_folder(folder):
    assert (
        main(['--modalities', 'smell', '--output', 'run']) == 2
        and main(['--hparams.l2', '-1', '--model', 'EASE']) == 2
    )
    assert not list(folder.iterdir())


def test_interruption_says_how_to_continue(folder, monkeypatch, capsys):
    from genrec_pyg.nn.models import GenRec

    calls, plain = [], GenRec.loss

    def loss(self, batch):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(GenRec, 'loss', loss)
    assert main(['--output', 'run', '--epochs', '3', *FAST[2:]]) == 130
    monkeypatch.setattr(GenRec, 'loss', plain)
    assert 'genrec_pyg.train --resume run' in (folder / 'run' / 'train.log').read_text()
    assert not (folder / 'run' / 'metrics.json').exists()
    assert main(['--resume', 'run']) == 0 and (folder / 'run' / 'metrics.json').exists()


def test_mirror_gradient_flag(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['--output', 'run', '--mirror_gradient', '--trainer.mg_alpha2', '0.1', *FAST]) == 0
    config = yaml.safe_load(open('run/config.yaml'))
    assert config['mirror_gradient'] is True and config['trainer']['mg_alpha2'] == 0.1
    assert main(['--output', 'again', '--config', 'run/config.yaml']) == 0
    assert main(['--output', 'other', '--model', 'Popularity', '--mirror_gradient']) == 2
    assert 'mirror_gradient: got True for Popularity' in capsys.readouterr().err


def test_a_model_without_training_names_no_epoch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['--model', 'Popularity', '--output', 'run', '--references', 'false']) == 0
    assert 'demo, not trained by gradient' in capsys.readouterr().out


def test_the_folder_is_taken_before_the_data_are_loaded(folder, monkeypatch, capsys):
    import genrec_pyg.train

    seen, plain = [], genrec_pyg.train.make_data

    def make_data(config):
        seen.append(sorted(p.name for p in (folder / 'runs').iterdir()))
        if len(seen) == 1:  # a second run while the first one loads its data
            assert main(['--model', 'Popularity', '--references', 'false', '--seed', '0']) == 0
            assert main(['--model', 'Popularity', '--output', 'runs/Popularity-demo-seed0']) == 2
            assert 'is training there' in capsys.readouterr().err
        return plain(config)

    monkeypatch.setattr(genrec_pyg.train, 'make_data', make_data)
    assert main(['--model', 'Popularity', '--references', 'false']) == 0
    assert seen[0] == ['Popularity-demo-seed0'] and seen[1] == [
        'Popularity-demo-seed0',
        'Popularity-demo-seed0-2',
    ]
    assert all((folder / 'runs' / name / 'metrics.json').exists() for name in seen[1])


def test_a_run_in_progress_is_not_resumed_by_another_process(folder, capsys):
    from genrec_pyg.runs.folder import RunFolder

    assert main(['--output', 'run', *FAST]) == 0
    with RunFolder.open(folder / 'run'):
        assert main(['--resume', 'run', '--epochs', '3']) == 2
    assert (
        'is training there' in capsys.readouterr().err
        and len((folder / 'run' / 'metrics.jsonl').open().readlines()) == 2
    )


def test_the_best_checkpoint_of_another_run_is_not_reported(folder, monkeypatch, capsys):
    from genrec_pyg.training.store import CheckpointStore

    arguments = [
        '--model',
        'MFBPR',
        '--epochs',
        '2',
        '--references',
        'false',
        '--trainer.lr',
        '0.01',
    ]
    assert main(['--output', 'other', *arguments]) == 0
    plain = CheckpointStore.best_model

    def swapped(self, run):  # what a second process does that does not know of the lock
        (folder / 'run' / 'checkpoints' / 'best.pt').write_bytes(
            (folder / 'other' / 'checkpoints' / 'best.pt').read_bytes()
        )
        return plain(self, run)

    monkeypatch.setattr(CheckpointStore, 'best_model', swapped)
    assert main(['--output', 'run', *arguments, '--seed', '1']) == 1
    assert 'best.pt: checkpoint of another run' in capsys.readouterr().err
    assert not (folder / 'run' / 'metrics.json').exists()


def test_selection_stands_in_every_file_of_a_run(folder, capsys):
    for protocol, selection in (
        ('published', 'chosen on test'),
        ('validation', 'chosen on validation'),
    ):
        assert (
            main(
                [
                    '--model',
                    'MFBPR',
                    '--protocol',
                    protocol,
                    '--output',
                    protocol,
                    '--epochs',
                    '2',
                    '--references',
                    'false',
                ]
            )
            == 0
        )
        assert selection in capsys.readouterr().out
        run = folder / protocol
        assert json.loads((run / 'metrics.json').read_text())['selection'] == selection
        assert [json.loads(line)['selection'] for line in (run / 'metrics.jsonl').open()] == [
            selection
        ] * 2
        assert selection in (run / 'train.log').read_text()


def test_an_interruption_between_record_and_checkpoint_loses_no_epoch(folder, monkeypatch):
    from genrec_pyg.training.store import CheckpointStore

    arguments = [
        '--model',
        'MFBPR',
        '--epochs',
        '3',
        '--references',
        'false',
        '--trainer.lr',
        '0.01',
    ]
    assert main(['--output', 'straight', *arguments]) == 0
    plain = CheckpointStore.save

    def save(self, state, improved):
        if state()['epoch'] == 1:
            raise KeyboardInterrupt
        plain(self, state, improved)

    monkeypatch.setattr(CheckpointStore, 'save', save)
    assert main(['--output', 'run', *arguments]) == 130
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(['--resume', 'run']) == 0
    records = [
        [
            (record['epoch'], record['val'])
            for record in map(json.loads, (folder / name / 'metrics.jsonl').open())
        ]
        for name in ('run', 'straight')
    ]
    assert records[0] == records[1] and len(records[0]) == 3


def test_a_full_disk_is_named_and_the_run_can_go_on(folder, monkeypatch, capsys):
    from genrec_pyg.runs.history import History

    plain = History.append

    def append(self, record):
        if record['epoch'] == 1:
            self.path = Path('/dev/full')
        plain(self, record)

    monkeypatch.setattr(History, 'append', append)
    arguments = ['--model', 'MFBPR', '--epochs', '3', '--references', 'false', '--output', 'run']
    assert (
        main(arguments) == 1
        and 'cannot be written (No space left on device)' in capsys.readouterr().err
    )
    monkeypatch.setattr(History, 'append', plain)
    assert (
        main(['--resume', 'run']) == 0
        and len((folder / 'run' / 'metrics.jsonl').open().readlines()) == 3
    )


@pytest.mark.parametrize('name', ['#1', 'null', '~', '&x', '[a]', 'a: b', 'two\nlines', "it's"])
def test_a_run_may_have_any_name(folder, name):
    arguments = ['--model', 'MFBPR', '--references', 'false']
    assert main([*arguments, '--epochs', '1', '--output', name]) == 0
    assert main(['--resume', name, '--epochs', '2']) == 0
    assert [path.name for path in folder.iterdir()] == [name]
    assert len((folder / name / 'metrics.jsonl').open().readlines()) == 2
    (folder / name / 'config.yaml').rename(folder / f'{name}.yaml')
    assert (
        main(['--config', f'{name}.yaml', '--output', 'copy', '--epochs', '1']) == 0
        and (folder / 'copy').is_dir()
    )


@pytest.mark.parametrize(
    'argv', [['--output', ''], ['--resume', ''], ['--config', ''], ['--root', '']]
)
def test_empty_names_are_refused(folder, argv, capsys):
    assert main([*argv, '--model', 'Popularity', '--references', 'false']) == 2
    assert f"{argv[0]}: got '', accepted is the name" in capsys.readouterr().err and not list(
        folder.iterdir()
    )


def test_flags_that_would_drop_something_are_given_once(folder, capsys):
    for argv in (
        ['--modalities', 'image', '--modalities', 'text'],
        ['--config', 'a', '--config=b'],
    ):
        assert main(argv) == 2 and f'{argv[0]}: given 2 times' in capsys.readouterr().err
    assert not list(folder.iterdir())


def make_dataset(folder):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = [
        f'{user}\t{item}\t{label}'
        for user in range(30)
        for item, label in zip(rng.choice(20, 8, replace=False), [0] * 6 + [1, 2])
    ]
    (folder / f'{folder.name}.inter').write_text(
        '\n'.join(['userID\titemID\tx_label', *lines]) + '\n'
    )


def test_a_run_finds_its_data_from_everywhere(folder, monkeypatch, capsys):
    from genrec_pyg.evaluate import main as evaluate
    from genrec_pyg.recommend import main as recommend

    make_dataset(folder / 'data' / 'mine')
    assert (
        main(
            [
                '--dataset',
                'mine',
                '--model',
                'MFBPR',
                '--epochs',
                '1',
                '--references',
                'false',
                '--output',
                'run',
            ]
        )
        == 0
    )
    (folder / 'elsewhere').mkdir()
    monkeypatch.chdir(folder / 'elsewhere')

    def all_commands():
        assert evaluate(['../run']) == 0 and recommend(['../run', '--users', '3']) == 0
        assert main(['--resume', '../run']) == 0

    all_commands()
    (folder / 'data').rename(folder / 'moved')
    assert evaluate(['../run']) == 2
    assert evaluate(['../run', '--root', '../moved']) == 0
    monkeypatch.setenv('GENREC_DATA', str(folder / 'moved'))
    all_commands()
    assert evaluate(['../run', '--root', 'nowhere']) == 2  # what is asked for is not replaced


def test_an_empty_variable_is_no_root(folder, monkeypatch):
    monkeypatch.setenv('GENREC_DATA', '')
    make_dataset(folder / 'data' / 'mine')
    assert (
        main(
            [
                '--dataset',
                'mine',
                '--model',
                'Popularity',
                '--references',
                'false',
                '--output',
                'run',
            ]
        )
        == 0
    )


def test_the_configuration_is_read_in_utf_8(folder, monkeypatch):
    (folder / 'settings.yaml').write_bytes(
        'output: "über"\nmodel: Popularity\nreferences: false\n'.encode()
    )
    monkeypatch.setattr('locale.getpreferredencoding', lambda *_: 'ascii')
    assert main(['--config', 'settings.yaml']) == 0 and (folder / 'über' / 'metrics.json').exists()


def test_a_log_that_cannot_be_written_does_not_stop_the_training(
    folder, monkeypatch, capsys, caplog
):
    import genrec_pyg.train

    plain = genrec_pyg.train._log_file
    monkeypatch.setattr(genrec_pyg.train, '_log_file', lambda path: plain(Path('/dev/full')))
    assert (
        main(['--model', 'MFBPR', '--epochs', '1', '--references', 'false', '--output', 'run']) == 0
    )
    assert (
        caplog.text.count('cannot be written') == 1
        and 'No space left on device), the log ends here' in caplog.text
    )
    assert (
        'Logging error' not in capsys.readouterr().err
        and (folder / 'run' / 'metrics.json').exists()
    )
