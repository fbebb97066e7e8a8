import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.wave_files import RATE, riff

from genrec_pyg.datasets import from_table
from genrec_pyg.datasets.io.item_features import read_features
from genrec_pyg.encode import main, make_parser
from genrec_pyg.encoders.rows import Work

TITLES = 'item\ttitle\nb\tThe best news\na\train\nc\tselling games\n'


@pytest.fixture
def titles(tmp_path):
    (tmp_path / 'items.tsv').write_text(TITLES)
    return tmp_path / 'items.tsv'


def encode(*flags):
    return main(['--device=cpu', *map(str, flags)])


def test_every_flag_has_a_sentence():
    assert all((action.help or '').strip() for action in make_parser()._actions)


def test_titles_become_a_modality(text_folder, titles, capsys):
    output = titles.with_name('title.npy')
    assert encode(titles, '--encoder', text_folder('bert'), '--output', output) == 0
    assert capsys.readouterr().out == f'{output}: 3 rows of 16\n'
    found = read_features(output, 'title')
    assert found.ids == ['a', 'b', 'c'] and np.unique(found.x, axis=0).shape == (3, 16)
    manifest = json.loads(titles.with_name('title.manifest.json').read_text())
    assert manifest['encoder']['pooling'] == 'cls' and manifest['source']['path'] == 'items.tsv'
    assert manifest['command'].startswith('python -m genrec_pyg.encode --device=cpu ')
    assert not list(titles.parent.glob('.*.parts'))
    log = {'user': [1, 1], 'item': ['a', 'b']}
    data = from_table(log, features={'title': output}, split='none')
    assert data['title'].x.shape == (3, 16) and data['item'].raw_id == ['a', 'b', 'c']


@pytest.mark.parametrize(
    'policy, rows, said',
    [('skip', 3, ', 1 without content left out'), ('zero', 4, ', 1 without content zero')],
)
def test_empty_titles(text_folder, titles, capsys, caplog, policy, rows, said):
    titles.write_text(TITLES + 'd\t \n')
    output = titles.with_name('title.parquet')
    flags = (titles, '--encoder', text_folder('bert'), '--output', output)
    assert encode(*flags) == 1
    error = capsys.readouterr().err
    assert "1 of 4 items have no usable content ('d': empty text)" in error
    assert encode(*flags, '--on_bad_item', policy) == 0
    assert f': {rows} rows of 16{said}\n' in capsys.readouterr().out
    assert 'item d: empty text' in caplog.text
    found = read_features(output, 'title')
    assert len(found.ids) == rows and (policy == 'skip' or not found.x[3].any())
    manifest = json.loads(titles.with_name('title.manifest.json').read_text())
    assert manifest['bad_items']['reasons'] == {'d': 'empty text'}


def test_pictures_with_all_that_can_be_wrong(image_folder, tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / 'posters'
    folder.mkdir()
    noise = Image.effect_noise((40, 30), 80)
    noise.save(folder / '1.jpg')
    noise.convert('CMYK').save(folder / '2.jpg')
    noise.save(folder / '3.jpg', 'GIF')
    content = (folder / '1.jpg').read_bytes()
    (folder / '4.jpg').write_bytes(content[: len(content) // 2])
    (tmp_path / 'wanted.txt').write_text('1\n2\n3\n4\n5\n')
    flags = (folder, '--encoder', image_folder('vit'), '--output', tmp_path / 'poster.npy')
    assert encode(*flags) == 1
    assert '4.jpg: cannot be decoded' in capsys.readouterr().err
    assert encode(*flags, '--items', tmp_path / 'wanted.txt') == 1
    assert "1 of 5 items have no usable content ('5': no picture)" in capsys.readouterr().err
    assert encode(*flags, '--items', tmp_path / 'wanted.txt', '--on_bad_item', 'skip') == 0
    assert '3 rows of 16, 2 without content left out' in capsys.readouterr().out
    assert read_features(tmp_path / 'poster.npy', 'poster').ids.tolist() == [1, 2, 3]
    noise.save(folder / '1.png')
    assert encode(*flags) == 1
    assert "1.jpg and 1.png are both of item '1'" in capsys.readouterr().err


def test_pictures_of_an_lmdb_file(image_folder, tmp_path, capsys):
    lmdb = pytest.importorskip('lmdb', reason='LMDB IS NOT INSTALLED: pip install genrec_pyg[lmdb]')
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((9, 9), 80).save(file, 'PNG')
    with (
        lmdb.open(str(tmp_path / 'a.lmdb'), subdir=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b'7', file.getvalue())
        transaction.put(b'12', b'\x80\x04N.')
    flags = (tmp_path / 'a.lmdb', '--encoder', image_folder('vit'), '--output', tmp_path / 'p.npy')
    assert encode(*flags, '--on_bad_item', 'zero') == 0
    assert read_features(tmp_path / 'p.npy', 'p').ids.tolist() == [7, 12]
    assert encode(*flags) == 1
    assert 'key 12: the pickle has the opcode NONE' in capsys.readouterr().err


def test_tags_reduced_and_sparse(tmp_path, capsys):
    (tmp_path / 'tags.csv').write_text('item,tag\n1,rock|live\n2,rock\n1,folk\n3,live|rock\n')
    flags = ('--kind', 'tags', '--columns', 'tag', '--separator', '|')
    assert (
        main(
            [
                str(tmp_path / 'tags.csv'),
                *flags,
                '--output',
                str(tmp_path / 'tag.npy'),
                '--channels',
                '2',
            ]
        )
        == 0
    )
    assert read_features(tmp_path / 'tag.npy', 'tag').x.shape == (3, 2)
    assert (
        main(
            [str(tmp_path / 'tags.csv'), *flags, '--output', str(tmp_path / 'tag.npz'), '--sparse']
        )
        == 0
    )
    assert 'tag.npz: 3 rows of 3\n' in capsys.readouterr().out


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--kind', 'words', '--pooling', 'cls'], '--pooling: means nothing for --kind words'),
        (['--sparse'], '--sparse: means nothing for --kind text, accepted with words, tags'),
        (
            ['--kind', 'words', '--sparse'],
            'accepted for sparse rows are names with the ending .npz',
        ),
    ],
)
def test_flags_that_mean_nothing_are_refused(titles, capsys, flags, message):
    assert main([str(titles), '--output', str(titles.with_name('a.npy')), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_second_row_of_an_item_is_refused(text_folder, titles, capsys):
    titles.write_text(TITLES + 'a\train again\n')
    flags = (titles, '--encoder', text_folder('bert'), '--output', titles.with_name('title.npy'))
    assert encode(*flags) == 1
    assert "row 4 is a second one of item 'a'" in capsys.readouterr().err
    assert encode(*flags, '--on_duplicate', 'first') == 0


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_alike(text_folder, tmp_path, caplog):
    words = ['the', 'best', 'selling', 'games', 'news', 'rain']
    lines = [
        f'{number}\t' + ' '.join(words[number // 6**place % 6] for place in range(5))
        for number in range(2000)
    ]
    (tmp_path / 'items.tsv').write_text('item\ttitle\n' + '\n'.join(lines))
    shutil.copy(tmp_path / 'items.tsv', tmp_path / 'same.tsv')
    command = [
        sys.executable,
        '-m',
        'genrec_pyg.encode',
        '--encoder',
        str(text_folder('bert')),
        '--device',
        'cpu',
        '--batch_size',
        '2',
        '--output',
    ]
    output, parts = tmp_path / 'title.npy', tmp_path / '.title.npy.parts'
    process = subprocess.Popen([*command, str(output), str(tmp_path / 'items.tsv')])
    deadline = time.monotonic() + 120
    while len(list(parts.glob('*.npz'))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not output.exists()
    flags = command[3:]
    assert main([*flags, str(output), str(tmp_path / 'items.tsv')]) == 0
    assert 'items were there from an earlier start' in caplog.text
    assert main([*flags, str(tmp_path / 'whole.npy'), str(tmp_path / 'same.tsv')]) == 0
    assert output.read_bytes() == (tmp_path / 'whole.npy').read_bytes()


def sound(seed, seconds=0.3):
    values = np.random.default_rng(seed).integers(-9000, 9000, int(seconds * RATE))
    return riff(values.astype('<i2').tobytes())


def test_sounds_with_all_that_can_be_wrong(tmp_path, capsys):
    folder = tmp_path / 'sounds'
    (folder / 'more').mkdir(parents=True)
    for number in range(3):
        (folder / f'{number}.wav').write_bytes(sound(number))
    (folder / 'more' / '3.wav').write_bytes(sound(3))
    (folder / '4.WAV').write_bytes(b'')
    (folder / '5.wav').write_bytes(sound(5)[:70])
    (folder / 'notes.txt').write_text('no sound')
    items, output = tmp_path / 'items.txt', tmp_path / 'sound.npy'
    items.write_text('\n'.join(map(str, range(7))))
    flags = [str(folder), '--kind', 'audio', '--output', str(output), '--items', str(items)]
    assert main(flags) == 1
    assert "1 of 7 items have no usable content ('6': no sound)" in capsys.readouterr().err
    assert main([*flags, '--on_bad_item', 'skip']) == 0
    assert 'sound.npy: 4 rows of 128, 3 without content left out' in capsys.readouterr().out
    manifest = json.loads((tmp_path / 'sound.manifest.json').read_text())
    assert manifest['encoder']['encoder'] == 'log-mel' and manifest['encoder']['rate'] == 16000
    reasons = manifest['bad_items']['reasons']
    assert set(reasons) == {'4', '5', '6'} and 'truncated' in reasons['5']
    assert np.load(output).shape == (4, 128)
    assert main([str(items), '--kind', 'audio', '--output', str(output)]) == 1
    assert 'is no folder, accepted is a folder of sounds' in capsys.readouterr().err
    assert main([str(folder), '--kind', 'images', '--output', str(output), '--seconds', '3']) == 2
    assert '--seconds: means nothing for --kind images' in capsys.readouterr().err


def test_killed_sounds_go_on_from_their_parts(tmp_path, caplog, monkeypatch):
    """The third part fails; the next call computes it and what follows."""
    folder, output = tmp_path / 'sounds', tmp_path / 'sound.npy'
    folder.mkdir()
    for number in range(20):
        (folder / f'{number}.wav').write_bytes(sound(number, 0.05))
    flags = [str(folder), '--kind', 'audio', '--batch_size', '1', '--output']
    assert main([*flags, str(tmp_path / 'whole.npy')]) == 0
    count, run = [], Work.run

    def stop(self, encoder, *inputs):
        count.append(1)
        if len(count) > 17:
            raise RuntimeError('killed')
        return run(self, encoder, *inputs)

    monkeypatch.setattr(Work, 'run', stop)
    assert main([*flags, str(output)]) != 0
    monkeypatch.undo()
    assert not output.exists()
    assert main([*flags, str(output)]) == 0
    assert '16 items were there from an earlier start' in caplog.text
    assert output.read_bytes() == (tmp_path / 'whole.npy').read_bytes()
