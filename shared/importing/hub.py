"""A dataset of the Hugging Face hub: its data files as rows. Loading scripts of a dataset are never run.

huggingface_hub reads HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE, and resumes broken downloads.
"""

import re
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from shared.contracts.data import LineError, Question, Reading, as_upload
from shared.contracts.errors import TransientError, UserError
from shared.contracts.file_reading import ReadOptions
from shared.contracts.imports import HubOptions
from shared.importing.data_file import refuse_unread
from shared.importing.dataset import DataFile
from shared.importing.rows import LOOK_EVERY, Progress, Row, unwatched

ANSWER_S = 20.0
FORMATS = re.compile(r"\.(parquet|jsonl|ndjson|json|csv|tsv|xlsx|arrow|yaml|yml)(\.(gz|zst|bz2|xz))?$")
NUMBERED = re.compile(r"row-\d+(\.\d+)?")
ABOUT = re.compile(
    r"(^|/)(dataset_infos?|config|state|package|tokenizer\w*|\..*)\.(json|ya?ml)$"
)  # JSON that holds no rows


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


def read_hub(options: HubOptions, left_out: Counter[str], on_progress: Progress = unwatched) -> Iterator[Row]:
    """Raises HubUnavailable if no hub answers, and UserError if the dataset is missing or unusable. on_progress: files."""
    dataset = _look_up(options)
    names = chosen(dataset.files, options)
    source = f"https://huggingface.co/datasets/{options.dataset} at {dataset.commit[:12]}, licence {dataset.licence}"
    seen, ids = Reading(), set[str]()
    rows = _rows(options, dataset.commit, names, seen, on_progress)
    count = 0
    for file, item in rows:
        if isinstance(item, LineError):
            if not options.skip_bad:
                raise HubRefused(f"{file}, row {item.line}: {item.message}")
            left_out[f"{item.param or 'row'}: {item.code}"] += 1
        elif item.id in ids:
            left_out["id: duplicate_id"] += 1
        else:
            numbered = NUMBERED.fullmatch(item.id)  # such ids repeat in every file; the upload gives others
            ids |= set() if numbered else {item.id}
            row = as_upload(item) | {"source": source}
            yield {name: part for name, part in row.items() if name != "id"} if numbered else row
            count += 1
            if count == options.limit:
                break
    refuse_unread({**options.columns}, seen)


def _rows(
    options: HubOptions, commit: str, names: list[str], seen: Reading, on_progress: Progress
) -> Iterator[tuple[str, Question | LineError]]:
    for done, name in enumerate(names):
        on_progress(done, len(names))
        file = DataFile.open(_fetched(options, commit, name), ReadOptions(mapping=options.columns))
        for number, item in enumerate(file.rows(seen), start=1):
            if number % LOOK_EVERY == 0:
                on_progress(done, len(names))
            yield name, item


def hub_files(options: HubOptions) -> Iterator[tuple[str, Path]]:
    """(name, where it lies now) of the data files that an import reads, fetched one by one. Raises as read_hub."""
    dataset = _look_up(options)
    yield from ((name, _fetched(options, dataset.commit, name)) for name in chosen(dataset.files, options))


@contextmanager
def _hub_errors(options: HubOptions) -> Generator[None]:
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
    data = sorted(name for name in files if FORMATS.search(name) and not ABOUT.search(name))
    if not data:
        code = " (a loading script is not run)" if any(name.endswith(".py") for name in files) else ""
        raise HubRefused(f"{options.dataset} has no Parquet, JSON or CSV files{code}")
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
