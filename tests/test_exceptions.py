import pickle

import pytest

from genrec_pyg import exceptions
from genrec_pyg.exceptions import CheckpointError, ConfigError, DataError, GenRecError, OutputError
from genrec_pyg.utils.command_line import run_command

ERRORS = [error for error in vars(exceptions).values() if isinstance(error, type)]


@pytest.mark.parametrize(
    'error, code',
    [(GenRecError, 1), (DataError, 1), (ConfigError, 2), (CheckpointError, 1), (OutputError, 1)],
)
def test_command_lines_print_one_line_and_end_with_the_code_of_the_error(error, code, capsys):
    def command(argv):
        raise error('--epochs: got -1, accepted are integers from 1')

    assert run_command(command, []) == code
    assert capsys.readouterr().err == 'error: --epochs: got -1, accepted are integers from 1\n'
    assert run_command(command, ['--debug']) == code
    assert 'Traceback' in capsys.readouterr().err


@pytest.mark.parametrize('error', ERRORS)
def test_one_class_catches_all_and_errors_cross_processes(error):
    assert issubclass(error, GenRecError)
    found = pickle.loads(pickle.dumps(error('message')))
    assert type(found) is error and str(found) == 'message'


def test_callers_of_plain_python_catch_them_too():
    assert issubclass(DataError, ValueError) and issubclass(ConfigError, ValueError)
    assert issubclass(CheckpointError, RuntimeError)
