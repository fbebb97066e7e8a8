r"""Configuration of a run: typed schema, layers of defaults, flags."""

from genrec_pyg.config.arguments import Call, find_root, parse_columns, parse_train_arguments
from genrec_pyg.config.parser import build_parser
from genrec_pyg.config.resolve import check_settings, resolve_config
from genrec_pyg.config.schema import RunConfig, flatten, merge, unflatten
from genrec_pyg.config.shipped import read_yaml, shipped_defaults, shipped_file

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
    'resolve_config',
    'shipped_defaults',
    'shipped_file',
    'unflatten',
]
