"""What the commands say about themselves."""

import argparse
import importlib
import re
from pathlib import Path

import pytest

import genrec_pyg.__main__ as commands
from genrec_pyg.config import build_parser, parse_train_arguments
from genrec_pyg.nn.models import MODELS


def test_the_package_lists_its_commands(capsys):
    assert commands.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in commands.COMMANDS:
        assert any(re.fullmatch(rf'  {name} +\w+ \w+.*', line) for line in lines)
    assert commands.main(['--help']) == 0


def test_every_module_that_can_be_run_is_listed():
    folder = Path(commands.__file__).parent
    runnable = {
        path.stem
        for path in folder.glob('*.py')
        if "__name__ == '__main__'" in path.read_text('utf-8')
    }
    assert runnable - {'__main__'} == set(commands.COMMANDS)


def test_an_unknown_command_is_refused(capsys):
    assert commands.main(['explain']) == 2
    assert (
        "command: got 'explain', accepted are python -m genrec_pyg.{prepare,encode,train,"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize('model', MODELS)
def test_every_flag_of_a_training_has_a_sentence(model):
    actions = build_parser(model)._actions
    assert [action.dest for action in actions if not (action.help or '').strip()] == []
    # one style
    assert [flag for action in actions for flag in action.option_strings if '-' in flag[2:]] == []


def test_both_spellings_of_a_flag_are_accepted():
    for flags in (
        ['--min-rating', '4', '--check-features=warn'],
        ['--min_rating', '4', '--check_features=warn'],
    ):
        config = parse_train_arguments(flags).config
        assert (config.min_rating, config.check_features) == (4.0, 'warn')


@pytest.mark.parametrize('name', [name for name in commands.COMMANDS if name != 'train'])
def test_every_flag_of_the_other_commands_has_a_sentence(name, monkeypatch):
    seen = []
    parse = argparse.ArgumentParser.parse_known_args

    def look(parser, *arguments, **options):
        seen.extend(parser._actions)
        return parse(parser, *arguments, **options)

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_known_args', look)
    assert importlib.import_module(f'genrec_pyg.{name}').main(['--help']) == 0
    assert (
        len(seen) > 5 and [action.dest for action in seen if not (action.help or '').strip()] == []
    )
    # one style
    assert [flag for action in seen for flag in action.option_strings if '-' in flag[2:]] == []
