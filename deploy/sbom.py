"""One bill of materials (CycloneDX) for each image of docker-compose.yml: the packages of the locks that its recipe installs.

    python deploy/sbom.py SYFT build/sbom

It needs no Docker. Where there is one, `syft IMAGE` reads the built image and lists Debian's packages too.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOCK = re.compile(r"-r (requirements/[\w-]+\.lock)")


def stage(recipe: str, target: str | None) -> str:
    """The text of a stage together with the stages it stands on; without a target the last one. Raises KeyError."""
    named: dict[str, tuple[str, str]] = {}
    last = ""
    for part in re.split(r"(?m)^(?=FROM )", recipe)[1:]:
        head = part.splitlines()[0].split()
        last = head[3] if len(head) > 3 else "final"
        named[last] = (head[1], part)
    text, at = "", target or last
    base, part = named[at]
    while True:
        text = part + text
        if base not in named:
            return text
        base, part = named[base]


def locks() -> dict[str, list[Path]]:
    """Image -> the locks that its recipe installs."""
    by_image: dict[str, list[Path]] = {}
    for service in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values():
        if "build" in service:
            text = stage((ROOT / service["build"]["dockerfile"]).read_text(), service["build"].get("target"))
            by_image[service["image"]] = [ROOT / name for name in dict.fromkeys(LOCK.findall(text))]
    return by_image


def write(syft: str, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for image, files in locks().items():
        output = folder / f"{image}.cdx.json"
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "requirements.txt").write_text("".join(file.read_text() for file in files))
            command = [
                syft,
                "scan",
                "--quiet",
                f"dir:{scratch}",
                "--source-name",
                image,
                "-o",
                f"cyclonedx-json={output}",
            ]
            environment = os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"}
            subprocess.run(command, check=True, env=environment)
        written.append(output)
    return written


if __name__ == "__main__":
    for path in write(sys.argv[1], Path(sys.argv[2])):
        print(path)  # noqa: T201
