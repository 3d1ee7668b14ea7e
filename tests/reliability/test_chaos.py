"""Drivers and workers killed at random moments, with a real Ray, store and MLflow (T1, T2).

`tests/bench/bench_chaos.py` does fifty rounds.
"""

import random

import pytest
from chaos import check, rage

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("default")  # MLflow's own
@pytest.mark.timeout(600)
def test_five_random_kills_lose_no_cell(tmp_path):
    kills = rage(tmp_path, rounds=5, rng=random.Random(11))
    assert {kill.what for kill in kills} == {"driver", "worker"}
    check(tmp_path, rounds=5, kills=kills)
