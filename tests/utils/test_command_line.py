import os
import signal

import pytest

from genrec_pyg.exceptions import CheckpointError, ConfigError
from genrec_pyg.utils.command_line import run_command, underscored


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
    assert (
        'error: bad flag' in error
        and 'ZeroDivisionError: x (unexpected' in error
        and 'Traceback' not in error
    )


def test_termination_counts_as_interruption():
    before = signal.getsignal(signal.SIGTERM)
    assert run_command(lambda argv: os.kill(os.getpid(), signal.SIGTERM), []) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_errors_are_one_line_whatever_they_quote(capsys):
    assert run_command(raising(ConfigError("no 'a\nb'")), []) == 2
    assert run_command(raising(RuntimeError('first\nsecond')), []) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: no 'a\\nb'",
        'error: RuntimeError: first\\nsecond (unexpected; --debug shows where)',
    ]


@pytest.mark.parametrize(
    'given,expected',
    [
        (['--min-rating', '4'], ['--min_rating', '4']),
        (['--on-bad-row=skip-it'], ['--on_bad_row=skip-it']),
        (['--num_cells', '-5', 'a-b', '-x-y'], ['--num_cells', '-5', 'a-b', '-x-y']),
        (['--hparams.weights.image-clip', '1'], ['--hparams.weights.image-clip', '1']),
        (['--no-prune', '--', '--a-b'], ['--no_prune', '--', '--a-b']),
    ],
)
def test_flags_are_spelled_with_underscores(given, expected):
    assert underscored(given) == expected
    seen = []
    assert run_command(seen.extend, given) == 0 and seen == expected
