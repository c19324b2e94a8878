"""A dataset of the Hugging Face hub: its Parquet and JSONL files as rows. Loading scripts of a dataset are never run.

huggingface_hub reads HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE, and resumes broken downloads.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from shared.contracts.data import bounded_lines, json_line
from shared.contracts.errors import TransientError, UserError
from shared.contracts.imports import HubOptions
from shared.contracts.json_types import Json
from shared.importing.rows import LOOK_EVERY, Progress, Row, unwatched

ANSWER_S = 20.0
READ_ROWS = 500  # of a Parquet file in memory
FORMATS = (".parquet", ".jsonl", ".ndjson")
COLUMN_NAMES = {  # our field -> its usual names in datasets
    "messages": ("messages",),
    "question": ("question", "prompt", "instruction", "query"),
    "reference": ("reference", "answer", "response", "output", "completion"),
    "context": ("context", "input"),
}


class HubUnavailable(TransientError):
    code = "hub_unavailable"


class HubRefused(UserError):
    code = "hub_dataset_unusable"

    def __init__(self, message: str):
        super().__init__(message, param="source.dataset")


class _Dataset(NamedTuple):
    """A dataset at one commit. files: all its file names."""

    commit: str
    files: list[str]
    licence: str


def read_hub(options: HubOptions, on_progress: Progress = unwatched) -> Iterator[Row]:
    """Raises HubUnavailable if no hub answers, and UserError if the dataset is missing or unusable. on_progress: files."""
    dataset = _look_up(options)
    names = chosen(dataset.files, options)
    source = f"https://huggingface.co/datasets/{options.dataset} at {dataset.commit[:12]}, licence {dataset.licence}"
    columns = {str(field): name for field, name in options.columns.items()}
    taken = 0
    for number, name in enumerate(names):
        on_progress(number, len(names))
        for value in _values(_fetched(options, dataset.commit, name)):
            if taken % LOOK_EVERY == 0:
                on_progress(number, len(names))
            if taken == options.limit:
                return
            taken += 1
            yield mapped(value, columns) | {"source": source}


@contextmanager
def _hub_errors(options: HubOptions) -> Iterator[None]:
    try:
        import httpx2
        from huggingface_hub import errors
    except ImportError as error:
        raise HubRefused(
            "huggingface_hub is not installed here; `pip install huggingface-hub pyarrow` adds it"
        ) from error
    where = f"dataset {options.dataset!r} at {options.revision!r}"
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise HubRefused("HF_HUB_OFFLINE is set; unset it, or download the files elsewhere and upload them") from error
    except errors.GatedRepoError as error:
        raise HubRefused(f"{where} needs permission: request access on the hub, and set HF_TOKEN") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        raise HubRefused(f"the hub has no {where}; a private one needs HF_TOKEN") from error
    except errors.HFValidationError as error:
        raise HubRefused(f"the hub does not accept the name: {error}") from error
    except (httpx2.HTTPError, errors.LocalEntryNotFoundError, ConnectionError) as error:
        raise HubUnavailable(
            f"the model hub does not answer ({type(error).__name__}); without a network, download the dataset's files elsewhere and "
            "import them as a file"
        ) from error


def _look_up(options: HubOptions) -> _Dataset:
    with _hub_errors(options):
        from huggingface_hub import HfApi

        info = HfApi().dataset_info(options.dataset, revision=options.revision, timeout=ANSWER_S)
    licence = str((info.card_data or {}).get("license") or "unknown")
    return _Dataset(info.sha or options.revision, [item.rfilename for item in info.siblings or []], licence[:100])


def _fetched(options: HubOptions, commit: str, name: str) -> Path:
    with _hub_errors(options):
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(options.dataset, name, repo_type="dataset", revision=commit))


def chosen(files: list[str], options: HubOptions) -> list[str]:
    """The data files of the requested split and config, by name. Raises HubRefused with the available files."""
    data = sorted(name for name in files if name.endswith(FORMATS))
    if not data:
        code = " (a loading script is not run)" if any(name.endswith(".py") for name in files) else ""
        raise HubRefused(f"{options.dataset} has no Parquet or JSONL files{code}")
    if options.config:
        data = [name for name in data if options.config in name.split("/")[:-1]]
    split = re.compile(rf"(?:^|[/_.-]){re.escape(options.split)}(?:[/_.-]|$)")
    files = [name for name in data if split.search(name)] or (data if len(data) == 1 else [])
    folders = sorted({name.rpartition("/")[0] for name in files} - {"data", "", options.split})
    if not files or (len(folders) > 1 and not options.config):
        which = f"in the folders {', '.join(folders)}; name one as config" if files else "under no such split or config"
        shown = ", ".join(data[:10]) or "none there"
        raise HubRefused(f"{options.dataset}: split {options.split!r} stands {which} (files: {shown})")
    return files


def _values(path: Path) -> Iterator[Json]:
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with path.open("rb") as file:
        for number, raw in enumerate(bounded_lines(file), start=1):
            value = json_line(number, raw)
            if isinstance(value, dict):
                yield value
            elif value is not None:
                raise HubRefused(f"{path.name}, line {number}: {value.message}")


def _parquet(path: Path) -> Iterator[Json]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(READ_ROWS):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise HubRefused(f"{path.name} is not a readable Parquet file: {error}") from error


def mapped(value: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """A dataset's row with our field names. Raises HubRefused if no column is the question."""
    if not columns:
        columns = {field: name for field, names in COLUMN_NAMES.items() for name in names[::-1] if name in value}
        columns = {"messages": "messages"} if "messages" in columns else columns
    if "question" not in columns and "messages" not in columns:
        raise HubRefused(f"name the column of the question; there are {', '.join(map(str, value))}")
    items = ((field, _inside(value, name)) for field, name in columns.items())
    return {field: item if field == "messages" else _as_text(item) for field, item in items}


def _inside(value: Any, name: str) -> Any:
    """The column of that name, or the value at a dotted path."""
    if isinstance(value, Mapping) and name in value:
        return value[name]
    first, dot, rest = name.partition(".")
    if isinstance(value, Mapping) and first in value and dot:
        return _inside(value[first], rest)
    if isinstance(value, list) and first.isdecimal() and len(first) < 9:
        inner = value[int(first)] if int(first) < len(value) else None
        return _inside(inner, rest) if dot else inner
    if value is None or isinstance(value, list):
        return None
    there = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
    raise HubRefused(f"no column {name!r}; there is {there}")


def _as_text(item: Any) -> str | None:
    if item is None or isinstance(item, str):
        return item
    return str(item) if isinstance(item, int | float | bool) else json.dumps(item, ensure_ascii=False, default=str)
