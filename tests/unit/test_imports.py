"""Every module of the services and of what they share is imported, on this Python and without the libraries of models."""

import json
import pkgutil
import subprocess
import sys

import services
import shared
from tests.without_torch import HEAVY

WITH_MODELS = ("services.trainer.train.", "services.weak_model.vllm_plugin")
CODE = """
import importlib, json, sys
names, heavy = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(heavy))  # what is None there cannot be imported
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = (error.name or "").partition(".")[0] or str(error)
json.dump(failed, sys.stdout)
"""


def test_all_modules_are_imported_and_few_need_a_library_of_models():
    modules = [
        module.name
        for package in (services, shared)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    assert len(modules) > 400
    given = json.dumps([modules, HEAVY])
    done = subprocess.run([sys.executable, "-c", CODE], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    assert set(failed.values()) <= set(HEAVY), failed
    assert all(name.startswith(WITH_MODELS) for name in failed), failed
