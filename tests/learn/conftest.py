from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `import learn_envs`, also as Gymnasium's "learn_envs:<id>"

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


@pytest.fixture
def subprocess_environment() -> dict[str, str]:
    """Environment of a Python process that finds the package and the test tasks."""
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
