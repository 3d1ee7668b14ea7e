import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "ray", "mlflow", "optuna", "pyarrow", "numpy", "scipy", "matplotlib")


def test_reading_a_sweep_imports_nothing_heavy():
    sweep = Path(__file__).parents[2] / "sweeps" / "temporal.yaml"
    code = f"""
import sys
from pathlib import Path
from uscl.spec import combinations, phantom, reader, reference, sweep, trial
assert len(reader.load_sweep(Path({str(sweep)!r})).cells()) == 30
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []
