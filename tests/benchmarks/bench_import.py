"""What `import trainable` costs, beside a bare interpreter and pandas."""

import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.bench
REPEATS = 7


def cpu_seconds(code: str) -> float:
    """Return what an interpreter uses to run `code`, the best of some."""
    costs: list[float] = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(costs)


def test_cost_of_importing() -> None:
    codes = {
        "a bare interpreter": "pass",
        "import trainable": "import trainable",
        "from trainable import log": "from trainable import log",
        "import pandas": "import pandas",
    }
    costs = {name: cpu_seconds(code) for name, code in codes.items()}
    bare = costs["a bare interpreter"]
    print("\n\nCPU milliseconds (goal for import trainable: 3 x bare)")
    for name, cost in costs.items():
        print(f"  {name:<28}{cost * 1000:>8.1f}{cost / bare:>8.1f} x bare")
    assert bare > 0
