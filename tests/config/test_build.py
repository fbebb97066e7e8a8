import os
import signal

from genrec_pyg.config.build import run_command
from genrec_pyg.exceptions import CheckpointError, ConfigError


def raising(error):
    def command(argv):
        raise error
    return command


def test_exit_codes(capsys):
    assert run_command(lambda argv: None, []) == 0
    assert run_command(raising(ConfigError('bad flag')), []) == 2
    assert run_command(raising(CheckpointError('bad file')), []) == 1
    assert run_command(raising(ZeroDivisionError('x')), []) == 1
    assert run_command(raising(SystemExit(2)), []) == 2
    assert run_command(raising(KeyboardInterrupt()), []) == 130
    error = capsys.readouterr().err
    assert 'error: bad flag' in error and 'ZeroDivisionError: x (unexpected' in error and 'Traceback' not in error


def test_termination_counts_as_interruption():
    before = signal.getsignal(signal.SIGTERM)
    assert run_command(lambda argv: os.kill(os.getpid(), signal.SIGTERM), []) == 130
    assert signal.getsignal(signal.SIGTERM) is before
