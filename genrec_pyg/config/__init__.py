r"""Configuration of a run: typed schema, layers of defaults, flags."""
from genrec_pyg.config.parser import (
    Call,
    RunConfig,
    build_parser,
    check_settings,
    find_root,
    flatten,
    merge,
    parse_columns,
    parse_train_arguments,
    read_yaml,
    shipped_defaults,
    shipped_file,
)

__all__ = [
    'Call',
    'RunConfig',
    'build_parser',
    'check_settings',
    'find_root',
    'flatten',
    'merge',
    'parse_columns',
    'parse_train_arguments',
    'read_yaml',
    'shipped_defaults',
    'shipped_file',
]
