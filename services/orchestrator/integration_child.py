"""Sends one part of a job's metrics through W&B's, MLflow's or trackio's own library.

A program of its own, without imports of ours: it runs in the environment that has the libraries (METEOR_INTEGRATIONS_PYTHON), which
may need other versions than ours. It reads one JSON object and writes one line, {"ok": true}; else it fails.

A part may be sent twice. W&B refuses steps at or below the last one of a run, an MLflow run keeps the last sequence as a tag; trackio has
neither, so there a part that was sent just before a crash is shown twice.
"""

import json
import sys
from typing import Any

SEQUENCE = "meteor.sequence"
MOST = 900  # metrics of one call to MLflow


def wandb_part(part: dict[str, Any]) -> None:
    import wandb

    run = wandb.init(
        id=part["id"],
        resume="allow",
        project=part["project"],
        entity=part.get("entity"),
        name=part.get("name") or part["id"],
        tags=part.get("tags"),
        config=part["params"],
        settings=wandb.Settings(console="off", disable_git=True, disable_code=True, x_disable_stats=True),
    )
    for point in part["points"]:
        run.log(point["metrics"], step=point["sequence"])
    for name, values in part["curves"].items():
        run.define_metric(name, step_metric=f"{name}/step")
        for step, value in values:
            run.log({name: value, f"{name}/step": step})
    run.summary.update(part["summary"])
    run.finish(exit_code=1 if part["status"] == "failed" else 0)


def mlflow_part(part: dict[str, Any]) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient()
    experiment = client.get_experiment_by_name(part["project"])
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(part["project"])
    mine = client.search_runs([experiment_id], f"tags.`meteor.job` = '{part['id']}'", max_results=1)
    if mine:
        run = mine[0]
    else:
        tags = {"meteor.job": part["id"]} | dict.fromkeys(part.get("tags") or [], "")
        run = client.create_run(experiment_id, tags=tags, run_name=part.get("name") or part["id"])
    run_id, seen = run.info.run_id, int(run.data.tags.get(SEQUENCE, -1))
    if not mine:
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in part["params"].items()])
    values = [
        Metric(name, value, int(point["at"] * 1000), point["sequence"])
        for point in part["points"]
        if point["sequence"] > seen
        for name, value in point["metrics"].items()
    ]
    at = int(part["at"] * 1000)
    if part["status"]:
        values += [Metric(name, value, at, step) for name, curve in part["curves"].items() for step, value in curve]
        values += [Metric(name, value, at, part["sequence"]) for name, value in part["summary"].items()]
    if part["sequence"] > seen or run.info.status == "RUNNING":
        for start in range(0, len(values), MOST):
            client.log_batch(run_id, metrics=values[start : start + MOST])
        client.log_batch(run_id, tags=[RunTag(SEQUENCE, str(part["sequence"]))])
    if part["status"]:
        ended = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
        client.set_terminated(run_id, ended[part["status"]])


def trackio_part(part: dict[str, Any]) -> None:
    import trackio

    run = trackio.init(
        project=part["project"], name=part.get("name") or part["id"], config=part["params"], resume="allow"
    )
    for point in part["points"]:
        run.log(point["metrics"], step=point["sequence"])
    for name, values in part["curves"].items():
        for step, value in values:
            run.log({name: value}, step=step)
    if part["summary"]:
        run.log(part["summary"], step=part["sequence"])
    trackio.finish()


PARTS = {"wandb": wandb_part, "mlflow": mlflow_part, "trackio": trackio_part}

if __name__ == "__main__":
    given = json.load(sys.stdin)
    PARTS[given["type"]](given)
    print(json.dumps({"ok": True}))  # noqa: T201 - the answer
