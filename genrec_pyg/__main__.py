r"""Lists the commands: ``python -m genrec_pyg``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib import resources

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.files import write_stdout

#: Modules of the package that are commands, in the order of use.
COMMANDS = (
    'prepare',
    'encode',
    'train',
    'tune',
    'evaluate',
    'compare',
    'report',
    'recommend',
    'blend',
    'export',
    'serve',
)


def describe_commands() -> str:
    r"""One line per command, with the first sentence of its module. Nothing is imported for it."""
    lines = ['usage: python -m genrec_pyg.COMMAND [--help]', '']
    for name in COMMANDS:
        source = (resources.files('genrec_pyg') / f'{name}.py').read_text('utf-8')
        sentence = (ast.get_docstring(ast.parse(source)) or '').partition(':')[0]
        lines.append(f'  {name:<12}{sentence}')
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] not in ('-h', '--help'):
        error = ConfigError(
            f'command: got {argv[0]!r}, accepted are python -m genrec_pyg.{{{",".join(COMMANDS)}}}'
        )
        print(f'error: {error}', file=sys.stderr)
        return 2
    write_stdout(describe_commands())
    return 0


if __name__ == '__main__':
    sys.exit(main())
