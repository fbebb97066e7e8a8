import socket
import threading
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.training import launch
from genrec_pyg.training.launch import meet

pytestmark = pytest.mark.skipif(
    not dist.is_available(), reason='this torch has no distributed package'
)


def launched(monkeypatch, rank, size):
    """The variables of a launcher; returns the port."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name, value in (
        ('RANK', rank),
        ('WORLD_SIZE', size),
        ('MASTER_ADDR', '127.0.0.1'),
        ('MASTER_PORT', port),
    ):
        monkeypatch.setenv(name, str(value))
    return port


@pytest.mark.parametrize('rank', [0, 1])
def test_a_process_waits_as_long_as_it_may(monkeypatch, rank):
    port = launched(monkeypatch, rank, 2)
    begin = time.monotonic()
    with pytest.raises(
        GenRecError,
        match=f'process {rank} of 2: the others did not meet it at 127.0.0.1:{port} .*unset RANK',
    ):
        launch(timeout=1).__enter__()
    assert 0.9 < time.monotonic() - begin < 20


def test_a_process_alone_with_the_variables_of_a_launcher_does_not_wait(monkeypatch):
    launched(monkeypatch, 0, 1)
    with launch(timeout=60) as distributed:
        assert distributed.processes.size == 1
        assert float(distributed.processes.sum(torch.ones(()))) == 1
    monkeypatch.setenv('WORLD_SIZE', 'two')
    with pytest.raises(
        ConfigError, match="WORLD_SIZE: got 'two' in the environment, accepted is a number"
    ):
        launch().__enter__()


def test_without_a_launcher_there_is_one_process():
    with launch() as distributed:
        assert distributed.processes.size == 1 and distributed.mode == 'ddp'
    assert repr(distributed) == "Distributed('ddp', Processes(rank=0, size=1))"


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'timeout': 0}, '--distributed_timeout: got 0, accepted are seconds above 0'),
        ({'mode': 'fsdp'}, "--distributed: got 'fsdp'"),
        (
            {'mode': 'sharded'},
            "--distributed: got 'sharded' in a single process, accepted is .*torchrun",
        ),
        (
            {'mode': 'ddp', 'grid': '1x2'},
            "--grid: got '1x2' with --distributed ddp, accepted is it with --distributed grid",
        ),
        ({'mode': 'grid', 'grid': '2'}, "--grid: got '2', accepted are 'auto'"),
        ({'checkpoint': 'sharded'}, "--checkpoint: got 'sharded' with --distributed"),
    ],
)
def test_bad_usage(arguments, message):
    with pytest.raises(ConfigError, match=message):
        launch(**arguments).__enter__()


class TestMeet:
    """Processes are threads here, that share a store."""

    WAIT = timedelta(seconds=30)

    def starts(self, store, ranks, size=3):
        """Names that processes of ``ranks`` find, which come in that order."""
        found, threads = {}, []
        for rank in ranks:
            threads.append(
                threading.Thread(
                    target=lambda rank=rank: found.update(
                        {rank: meet(store, rank, size, self.WAIT)}
                    )
                )
            )
            threads[-1].start()
            time.sleep(0.3)
        for thread in threads:
            thread.join()
        assert len(set(found.values())) == 1 and set(found) == set(ranks)
        return found[ranks[0]]

    def test_all_find_the_same_name_and_every_start_another(self):
        store = dist.HashStore()
        names = [self.starts(store, ranks) for ranks in ((0, 1, 2), (2, 1, 0), (1, 0, 2))]
        names.append(self.starts(store, (1, 0), size=2))  # fewer are left
        assert len(set(names)) == 4

    def test_a_start_that_ended_before_all_had_come_is_forgotten(self):
        store = dist.HashStore()
        with pytest.raises(RuntimeError):
            meet(store, 0, 3, timedelta(seconds=0.2))
        left = store.get('start').decode()
        assert self.starts(store, (2, 1, 0)) != left

    @pytest.mark.parametrize('rank', [0, 1])
    def test_nobody_waits_for_an_answer_to_another(self, rank):
        store = dist.HashStore()
        self.starts(store, (0, 1), size=2)
        with pytest.raises(RuntimeError):
            meet(store, rank, 3 if rank == 0 else 2, timedelta(seconds=0.5))
