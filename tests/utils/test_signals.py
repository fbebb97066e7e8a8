import signal
import threading

import pytest

from genrec_pyg.utils.signals import system_signals


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_signals_have_the_action_of_the_system_and_get_their_handlers_back(monkeypatch):
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        before = handlers()
        with pytest.raises(ValueError), system_signals():
            assert handlers() == [signal.SIG_DFL, signal.SIG_DFL]
            raise ValueError
        assert handlers() == before
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_ignored_signals_stay_ignored():
    """As those of a process started by nohup."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with system_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_other_threads_change_nothing():
    before, found = handlers(), []

    def run():
        with system_signals():
            found.extend(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == before == handlers()
