import json

import pytest

from genrec_pyg.encoders.extras import require
from genrec_pyg.exceptions import ConfigError


def test_an_installed_module_is_returned():
    assert require('json', 'encode', 'reading') is json


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(ConfigError, match=r'reading needs the package no_such, .*genrec_pyg\[x\]'):
        require('no_such.part', 'x', 'reading')
