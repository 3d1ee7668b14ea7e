"""cluster.yaml is what Ray 2.60 takes, and says what a sweep needs. Its commands run in tests/reliability."""

import json
import subprocess
import sys

from launched_cluster import cluster_file

VALIDATE = (
    "import json, sys; from ray.autoscaler._private.util import prepare_config, validate_config\n"
    "prepared = prepare_config(json.load(sys.stdin)); validate_config(prepared); print(prepared['max_workers'])"
)


def validated(document):
    """By Ray, in a process of its own: other tests look whether this one has imported Ray."""
    return subprocess.run(
        [sys.executable, "-c", VALIDATE], input=json.dumps(document), capture_output=True, text=True, check=False
    )


def test_it_passes_rays_own_schema_and_checks():
    ran = validated(cluster_file())
    assert ran.returncode == 0 and ran.stdout.split()[-1] == "4", ran.stderr
    assert "head_nod_type" in validated(cluster_file() | {"head_nod_type": "head"}).stderr


def test_trials_run_on_workers_only_and_every_gpu_is_told():
    types = cluster_file()["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0} and types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["min_workers"] == 0 and cluster_file()["idle_timeout_minutes"] > 0


def test_every_node_has_the_token_and_ray_speaks_by_it():
    document = cluster_file()
    assert "/home/ubuntu/.ray/auth_token" in document["file_mounts"]
    for commands in (document["head_start_ray_commands"], document["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0;" in start
    assert not any("0.0.0.0" in command for command in document["head_start_ray_commands"])
    (mlflow,) = [command for command in document["head_start_ray_commands"] if "mlflow server" in command]
    assert "--host 127.0.0.1" in mlflow and "MLFLOW_DISABLE_TELEMETRY=true" in mlflow
