"""The script a lab would write without `uscl`: Ray Tune, OptunaSearch and MLflowLoggerCallback, as their pages show it.

`python plain_ray.py ROOT run|restore CELLS STEP_S [REPORTS]`: fake trials as those of tests/sweep/sweep_fakes.py over
the same 24 points, pretraining and fine-tuning in one trial. Every stage trained is a line of `ROOT/trained.log`.
"""

import json
import os
import sys
import time
from pathlib import Path

for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}.items():
    os.environ.setdefault(name, value)

SPACE = {"polarity": ["none", "positive"], "fraction": [0.1, 0.5, 1.0], "seed": [0, 1, 2, 3]}
KINDS, STEPS = ("encoder", "decoder", "finetune", "evaluate/val", "evaluate/test"), 5


def train(config):
    """One trial: all stages, a report each, a checkpoint of the last one done."""
    from ray import tune

    root = Path(config["root"])
    done, checkpoint = 0, tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            done = json.loads((Path(folder) / "done.json").read_text())
    for number, kind in enumerate(KINDS[done:], done + 1):
        point = " ".join(str(config[name]) for name in SPACE)
        with (root / "trained.log").open("ab", buffering=0) as stream:
            stream.write(f"{kind} {point}\n".encode())
        time.sleep(STEPS * config["step_s"])
        for _ in range(config["reports"]):
            tune.report({"dsc": 0.5, "stage": number})
        folder = root / "checkpoints" / f"{os.getpid()}-{number}"
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(json.dumps(number))
        tune.report({"dsc": 0.5, "stage": number}, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    """Run or restore; prints how long `fit` took."""
    root, what, cells, step_s = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    fixed = {"root": str(root), "step_s": step_s, "reports": int(sys.argv[5]) if len(sys.argv) > 5 else 0}
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    trainable = tune.with_resources(train, {"cpu": 1})
    started = time.monotonic()
    if what == "restore":
        tuner = tune.Tuner.restore(str(root / "results" / "plain"), trainable, resume_errored=True)
    else:
        mlflow = MLflowLoggerCallback(tracking_uri=f"sqlite:///{root}/mlflow.db", experiment_name="plain")
        tuner = tune.Tuner(
            trainable,
            param_space={name: tune.choice(values) for name, values in SPACE.items()} | fixed,
            tune_config=tune.TuneConfig(
                metric="dsc", mode="max", num_samples=cells, search_alg=ConcurrencyLimiter(OptunaSearch(seed=0), 2)
            ),
            run_config=tune.RunConfig(name="plain", storage_path=str(root / "results"), callbacks=[mlflow], verbose=0),
        )
    print("started", flush=True)
    results = tuner.fit()
    print(json.dumps({"seconds": time.monotonic() - started, "trials": len(results)}), flush=True)


if __name__ == "__main__":
    main()
