import pickle
import resource

import pytest
import torch

from genrec_pyg.exceptions import CheckpointError, OutputError
from genrec_pyg.runs.checkpoint import (
    check_identity,
    load_checkpoint,
    save_checkpoint,
    warn_of_held_out,
)

STATE = {'model': {'weight': torch.arange(3.0)}, 'model_name': 'GenRec', 'graph': 'abc', 'epoch': 2}


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path / 'deep' / 'last.pt', STATE)
    assert torch.equal(
        load_checkpoint(tmp_path / 'deep' / 'last.pt')['model']['weight'], torch.arange(3.0)
    )


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
    for write in (
        lambda: path.write_bytes(pickle.dumps({'model': Payload()})),
        lambda: torch.save({'model': Payload()}, path),
    ):
        write()
        with pytest.raises(CheckpointError, match='not a readable checkpoint'):
            load_checkpoint(path)
    assert 'executed' not in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / 'last.pt'
    save_checkpoint(path, STATE)
    before = path.read_bytes()

    def fail(state, file):
        file.write(b'half')
        raise RuntimeError('PytorchStreamWriter failed writing file: No space left on device')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OutputError, match='last.pt: cannot be written .*No space left'):
        save_checkpoint(path, STATE)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_identity():
    check_identity(STATE, 'x.pt', 'GenRec', 'abc')
    with pytest.raises(CheckpointError, match="expected 'BM3'"):
        check_identity(STATE, 'x.pt', 'BM3', 'abc')
    with pytest.raises(CheckpointError, match='another training graph'):
        check_identity(STATE, 'x.pt', 'GenRec', 'abd')


def test_other_held_out_pairs_are_named_in_a_warning(caplog):
    before = {'val': 'a', 'test': 'b'}
    warn_of_held_out({'held_out': before}, 'run', before)
    warn_of_held_out({}, 'run', before)  # a checkpoint that notes none
    assert not caplog.records
    warn_of_held_out({'held_out': before}, 'run', {'val': 'a', 'test': 'c'})
    warn_of_held_out({'held_out': before}, 'run', {'test': 'c'})
    first, second = (record.getMessage() for record in caplog.records)
    assert (
        first.startswith('run: the pairs of the test split')
        and 'the val and the test split' in second
    )


def test_the_reason_of_the_system_is_told(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for size in (0, 1_000, 150_000, 260_000):  # in headers, in tensors, at the end
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            with pytest.raises(
                OutputError, match=r'last.pt: cannot be written \(\[Errno 27\] File too large\)'
            ):
                save_checkpoint(
                    tmp_path / 'last.pt',
                    {'model': {f'weight{i}': torch.rand(10_000) for i in range(10)}},
                )
            assert not list(tmp_path.iterdir())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
