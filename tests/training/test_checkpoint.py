import errno
import pickle

import pytest
import torch

from genrec_pyg.exceptions import CheckpointError
from genrec_pyg.training.checkpoint import check_identity, load_checkpoint, save_checkpoint, write_atomically, write_json

STATE = {'model': {'weight': torch.arange(3.0)}, 'model_name': 'GenRec', 'graph': 'abc', 'epoch': 2}


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path / 'deep' / 'last.pt', STATE)
    assert torch.equal(load_checkpoint(tmp_path / 'deep' / 'last.pt')['model']['weight'], torch.arange(3.0))


def test_missing_truncated_and_foreign_files(tmp_path):
    with pytest.raises(CheckpointError, match='no such checkpoint'):
        load_checkpoint(tmp_path / 'none.pt')
    path = tmp_path / 'last.pt'
    save_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match='last.pt: not a readable checkpoint'):
        load_checkpoint(path)
    torch.save({'something': 1}, path)
    with pytest.raises(CheckpointError, match="no entry 'model'"):
        load_checkpoint(path)


class Payload:
    def __reduce__(self):
        return print, ('executed',)


def test_code_in_a_checkpoint_is_not_executed(tmp_path, capsys):
    path = tmp_path / 'evil.pt'
    for write in (lambda: path.write_bytes(pickle.dumps({'model': Payload()})),
                  lambda: torch.save({'model': Payload()}, path)):
        write()
        with pytest.raises(CheckpointError, match='not a readable checkpoint'):
            load_checkpoint(path)
    assert 'executed' not in capsys.readouterr().out


def test_failing_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / 'file'
    write_json(path, {'a': 1})

    def fail(file):
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(CheckpointError, match='No space left'):
        write_atomically(path, fail)
    assert path.read_text() == '{\n  "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]


def test_identity():
    check_identity(STATE, 'x.pt', 'GenRec', 'abc')
    with pytest.raises(CheckpointError, match="expected 'BM3'"):
        check_identity(STATE, 'x.pt', 'BM3', 'abc')
    with pytest.raises(CheckpointError, match='another training graph'):
        check_identity(STATE, 'x.pt', 'GenRec', 'abd')
