import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.runs.folder import RunFolder
from genrec_pyg.utils.locks import LOCK


def test_of_many_runs_that_start_together_each_gets_a_folder(tmp_path):
    start, found = threading.Barrier(8), []

    def take():
        start.wait()
        found.append(RunFolder.create_numbered(tmp_path / 'runs' / 'run'))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(folder.path.name for folder in found) == sorted(
        ['run', *(f'run-{i}' for i in range(2, 9))]
    )


def test_a_folder_that_is_in_use_is_refused_until_it_is_released(tmp_path):
    path = tmp_path / 'run'
    with RunFolder.create(path) as folder:
        folder.keep()
        for take in (RunFolder.create, RunFolder.open):
            with pytest.raises(ConfigError, match=f'process {os.getpid()} on .* is training there'):
                take(path)
        assert (path / LOCK).exists()
    assert not os.listdir(path)
    with RunFolder.open(path), pytest.raises(ConfigError, match='is training there'):
        RunFolder.open(path)


def test_a_killed_process_holds_nothing(tmp_path):
    code = (
        'import os, signal; from genrec_pyg.runs.folder import RunFolder; from pathlib '
        'import Path\n'
        f'RunFolder.create(Path({str(tmp_path / "run")!r})); os.kill(os.getpid(), signal.SIGKILL)'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == -9
    assert (tmp_path / 'run' / LOCK).exists()
    with RunFolder.open(tmp_path / 'run') as folder:
        assert folder.path == tmp_path / 'run'


def test_the_successor_does_not_lock_a_removed_file(tmp_path, monkeypatch):
    path, flock = tmp_path / 'run', fcntl.flock
    first = RunFolder.create(path)
    first.keep()

    def release_meanwhile(descriptor, operation):
        monkeypatch.setattr(fcntl, 'flock', flock)
        first.__exit__()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, 'flock', release_meanwhile)
    with RunFolder.open(path), pytest.raises(ConfigError, match='is training there'):
        RunFolder.open(path)


def test_failures_remove_what_was_made_and_nothing_else(tmp_path):
    (tmp_path / 'kept').mkdir()
    for path in (tmp_path / 'a' / 'b' / 'run', tmp_path / 'kept' / 'run', tmp_path / 'kept'):
        with RunFolder.create(path):
            assert path.is_dir()
    with RunFolder.create_numbered(tmp_path / 'runs' / 'run'):
        pass
    assert os.listdir(tmp_path) == ['kept'] and not os.listdir(tmp_path / 'kept')
    with RunFolder.create(tmp_path / 'shared'):
        (tmp_path / 'shared' / 'notes.txt').touch()
    assert (tmp_path / 'shared' / 'notes.txt').exists()


@pytest.mark.parametrize('name', ['config.yaml', 'metrics.jsonl', 'train.log', 'checkpoints'])
def test_files_of_another_run_are_not_written_over(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match='already holds'):
        RunFolder.create(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_what_cannot_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    (tmp_path / 'link').symlink_to('nowhere')
    for path in (tmp_path / 'file', tmp_path / 'file' / 'run', tmp_path / 'link'):
        with pytest.raises(ConfigError, match='is no folder'):
            RunFolder.create(path)
    with pytest.raises(ConfigError, match='is no folder'):
        RunFolder.create_numbered(tmp_path / 'file' / 'run')
    with pytest.raises(OutputError, match='cannot be made'):
        RunFolder.create(Path('/proc/run'))
    with pytest.raises(OutputError, match='cannot be made'):
        RunFolder.create_numbered(Path('/proc/run'))
    with pytest.raises(OutputError, match='cannot be written'):
        RunFolder.open(Path('/proc/self'))


def test_half_written_checkpoints_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / 'checkpoints' / '.writing-abc').mkdir(parents=True)
    (tmp_path / 'checkpoints' / 'last.pt').touch()
    with RunFolder.open(tmp_path):
        assert os.listdir(tmp_path / 'checkpoints') == ['last.pt']


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(fcntl, 'flock', refuse)
    with RunFolder.create(tmp_path / 'run'):
        assert 'does not lock' in caplog.text
