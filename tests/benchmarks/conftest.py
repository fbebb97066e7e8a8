import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
# The scripts are no package: they find their helper modules as python does for a script, by their own folder.
sys.path.append(str(BENCHMARKS))


@pytest.fixture
def benchmarks():
    return BENCHMARKS
