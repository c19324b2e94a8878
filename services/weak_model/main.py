"""`python -m services.weak_model engine|worker`: the engine keeps vLLM alive, the worker consumes the queue `weak`."""

import argparse

from services.weak_model.settings import weak_settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.weak_model", description=__doc__)
    parser.add_argument("process", choices=["engine", "worker"])
    # Imported when needed: without Celery the engine is up two seconds earlier.
    if parser.parse_args().process == "engine":
        from services.weak_model.engine.main import run

        raise SystemExit(run())
    from services.weak_model.worker.tasks import HANDLERS
    from shared.contracts.steps import Queue
    from shared.queue.step_task import serve_queue

    serve_queue("weak_model", Queue.WEAK, HANDLERS, weak_settings().slots)
