import sys
from pathlib import Path

# Tests are no package; those of the models find the graphs they share by this folder.
sys.path.append(str(Path(__file__).resolve().parent))
