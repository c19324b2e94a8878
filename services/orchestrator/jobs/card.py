"""The model card of an export: what it is, what it was made of, what it is worth, how it is loaded. Pure functions.

Nothing is made to look better than the job's own report: an undecided or rejected version says so in its first lines.
"""

from collections.abc import Mapping
from typing import Any

from shared.contracts.exports import MANIFEST, ExportFormat
from shared.contracts.report import Report
from shared.reporting.markdown import as_markdown

STANDING = {
    "promoted": "promoted: the dev split showed it to be better than what was served before (the base, at first)",
    "undecided": "**undecided**: the dev split did not show it to be better than what was served before (the base, at first)",
    "rejected": "**rejected**: the dev split showed it to be worse than what was served before (the base, at first)",
    "partial": "**partial**: its job failed, and nothing has compared it with anything",
}
LOADING = {
    ExportFormat.ADAPTER: """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = "{base}"  # its hub id or folder; the hash of the files it was trained on is in {manifest}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "{folder}")""",
    ExportFormat.MERGED: """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForCausalLM.from_pretrained("{folder}", dtype="auto")""",
    ExportFormat.GGUF: 'llama-cli -m {folder}/model.gguf -sys "Answer the question." -p "..."',
}


def card(manifest: Mapping[str, Any], report: Report | None, top: str) -> str:
    """report: of the job that made the version; None where it has none."""
    parts = [_front(manifest), _head(manifest), _results(report), _data(manifest), _parity(manifest)]
    parts += [_licences(manifest), _loading(manifest, top)]
    return "\n\n".join(parts) + "\n"


def _front(manifest: Mapping[str, Any]) -> str:
    lines = [
        "---",
        "pipeline_tag: text-generation",
        "library_name: " + ("peft" if _only_adapter(manifest) else "transformers"),
    ]
    if manifest["licences"]["base"]:
        lines.insert(1, f"license: {manifest['licences']['base'].lower()}")
    return "\n".join([*lines, "---"])


def _only_adapter(manifest: Mapping[str, Any]) -> bool:
    return list(manifest["formats"]) == [ExportFormat.ADAPTER.value]


def _head(manifest: Mapping[str, Any]) -> str:
    state = manifest["state"]
    what = "All weights were trained" if manifest["method"] == "full" else "A LoRA adapter was trained"
    return (
        f"# {manifest['model']}\n\n{what}, starting from `{manifest['base']['name']}`, by METEOR (arXiv 2411.11933)"
        f"{' for the domain: ' + manifest['domain'] if manifest['domain'] else ''}.\n\n"
        f"This version is {STANDING.get(state, state)}."
    )


def _results(report: Report | None) -> str:
    if report is None:
        return "## Results\n\nNone: the job has left no report, so nothing is known of what this version is worth."
    return "## Results\n\n" + as_markdown(report, level=3)


def _data(manifest: Mapping[str, Any]) -> str:
    data = manifest["data"]
    if data is None:
        return "## Data\n\nThe job and its file are not known any more."
    counts = ", ".join(f"{split} {n}" for split, n in data["splits"].items())
    files = [data, data["validation"]] if "validation" in data else [data]
    named = " and, for validation, ".join(f"`{file['filename']}`, SHA-256 `{file['sha256']}`" for file in files)
    return (
        f"## Data\n\n{named}: {sum(file['rows'] for file in files)} rows ({counts}). Training used the train "
        "split, decisions the dev split, the table above the test split."
    )


def _parity(manifest: Mapping[str, Any]) -> str:
    parity = manifest["parity"]
    merged, served = parity["merged"], parity["served"]
    gguf = (
        "" if ExportFormat.GGUF.value not in manifest["formats"] else " The GGUF file was not compared with anything."
    )
    return (
        f"## Parity\n\n{parity['prompts']} prompts, answered greedily. Base plus adapter and the merged model, in float32: "
        f"{merged['greedy_agreement']:.0%} of the answers are the same, logits differ by {merged['logit_difference_max']:.2g} at "
        f"most, {merged['logit_difference_mean']:.2g} in the mean. The served model, in its engine's own type: "
        f"{served['greedy_agreement']:.0%} of the answers are the same.{gguf}"
    )


def _licences(manifest: Mapping[str, Any]) -> str:
    licences = manifest["licences"]
    base = f"`{licences['base']}`, as {licences['base_from']} says" if licences["base"] else "unknown; ask who made it"
    return (
        f"## Licences\n\nBase model: {base}. Data: unknown to METEOR; whoever uploaded the file knows. Answers of a teacher "
        "model may come under its provider's terms. What binds these also binds what was made of them."
    )


def _loading(manifest: Mapping[str, Any], top: str) -> str:
    sections = ["## How to load it"]
    for name in manifest["formats"]:
        form = ExportFormat(name)
        text = LOADING[form].format(base=manifest["base"]["name"], folder=f"{top}-{name}", manifest=MANIFEST)
        if form is ExportFormat.ADAPTER and manifest.get("prompts", {}).get("template"):
            chat_template = f'json.load(open("{MANIFEST}"))["prompts"]["template"]'
            text = f"import json\n\n{text}\ntokenizer.chat_template = {chat_template}  # as in training"
        sections.append(f"```{'sh' if form is ExportFormat.GGUF else 'python'}\n{text}\n```")
    sections.append(
        "It was trained with the system text `Answer the question.` and the bare question as the user's message."
    )
    return "\n\n".join(sections)
