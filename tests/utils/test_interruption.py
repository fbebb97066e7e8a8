import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from genrec_pyg.utils.interruption import interruptible

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_interrupt_and_handlers_come_back(number):
    before, threads = signal.getsignal(number), threading.active_count()
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert signal.getsignal(number) is before and threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_what_the_caller_ignores_or_handles_stays_so():
    received, before = [], signal.signal(signal.SIGHUP, signal.SIG_IGN)
    own = signal.signal(signal.SIGTERM, lambda *_: received.append(0))
    try:
        with interruptible(patience=0.1):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, own)
    assert received == [0]


def test_other_threads_run_as_they_are():
    done = []

    def work():
        with interruptible():
            done.append(0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [0]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    'work', ['torch.linalg.eigvals(torch.rand(4000, 4000))', 'time.sleep(60)', 'cleanup()']
)
def test_a_call_into_compiled_code_ends_too(number, work):
    code = f"""
import time, torch
from genrec_pyg.utils.interruption import interruptible

def cleanup():
    try:
        time.sleep(60)
    finally:
        time.sleep(60)

with interruptible(patience=1, cleanup=1):
    print('begin', flush=True)
    {work}
"""
    with subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == 'begin\n'
        time.sleep(0.5)
        process.send_signal(number)
        try:
            process.wait(timeout=15)
        finally:
            process.kill()
    assert process.returncode == (-signal.SIGINT if work.startswith('time') else 130)
