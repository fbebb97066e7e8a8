import pytest

from benchmarks.common.worker import PHASES, Worker, WorkerError

SCRIPT = """
import os
import sys
import torch
from benchmarks.common.worker import PHASES, serve


class System:
    def __init__(self):
        if sys.argv[1] == 'broken':
            raise RuntimeError('cannot build')
        print('noise on standard output')

    def run_epoch(self, epoch, clock):
        print('more noise')
        for phase in PHASES[:2] if sys.argv[1] == 'incomplete' else PHASES:
            clock.start(phase)
        if sys.argv[1] == 'fails later' and epoch == 1:
            raise RuntimeError('cannot go on')
        return {'epoch': epoch}

    def describe(self):
        return {'threads': torch.get_num_threads(), 'limit': os.environ['OMP_NUM_THREADS']}


serve(System, 1)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'system_under_test.py').write_text(SCRIPT)
    return tmp_path


def start(folder, mode):
    return Worker('system_under_test', [mode], threads=1, path=[folder])


def test_epochs(folder):
    worker = start(folder, 'works')
    try:
        assert worker.ready['description'] == {'threads': 1, 'limit': '1'}
        for epoch in range(2):
            answer = worker.epoch()
            assert answer['figures'] == {'epoch': epoch}
            assert set(answer['wall']) == set(answer['processor']) == set(PHASES)
            assert answer['memory']['peak'] >= worker.ready['memory_import'] > 0
    finally:
        worker.close()


def test_failures_carry_the_output(folder):
    with pytest.raises(WorkerError, match='cannot build'):
        start(folder, 'broken')
    worker = start(folder, 'fails later')
    try:
        worker.epoch()
        with pytest.raises(
            WorkerError, match=r'(?s)system_under_test ended with code 1.*more noise.*cannot go on'
        ):
            worker.epoch()
        with pytest.raises(WorkerError):
            worker.epoch()
    finally:
        worker.close()


def test_a_phase_that_was_not_met_is_an_error(folder):
    worker = start(folder, 'incomplete')
    try:
        with pytest.raises(WorkerError, match='phases: got'):
            worker.epoch()
    finally:
        worker.close()
