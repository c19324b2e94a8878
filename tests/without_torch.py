"""Where torch is not installed (`make test-python`), tests that need it, or what comes with it, are skipped and say so."""

import importlib.util

import pytest

HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "vllm", "safetensors", "tokenizers", "gguf")
ABSENT = tuple(name for name in HEAVY if importlib.util.find_spec(name) is None)


def lacks(error: BaseException | None) -> str | None:
    """The name of the absent library that the error is about."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in ABSENT:
            return error.name
        error = error.__cause__ or error.__context__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """A test file that imports one is skipped as a whole."""
    report = yield
    name = next((name for name in ABSENT if f"No module named '{name}" in str(report.longrepr)), None)
    if report.failed and name is not None:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {name} is not installed")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """And so is a test that imports one as it runs."""
    report = yield
    name = lacks(call.excinfo.value) if call.excinfo else None
    if report.failed and name is not None:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {name} is not installed")
    return report
