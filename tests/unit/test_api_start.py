"""Keys are kept as hashes, an open API stays on loopback, and the import stays small."""

import subprocess
import sys

import pytest
from fastapi.routing import APIRoute

from services.api.app import create_app, refusal
from services.api.settings import ApiSettings, key_hash
from shared.contracts.keys import Scope
from shared.jobs.schema import open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.settings import PlatformSettings

HEAVY = ("torch", "transformers", "vllm", "openai", "celery", "redis", "alembic", "uvicorn", "numpy")


def test_keys_from_the_environment_are_only_kept_as_hashes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_KEYS", "one, two,,")
    settings = ApiSettings()
    assert settings.keys == {key_hash("one"), key_hash("two")}
    assert "one" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("host", "keys", "starts"),
    [
        ("127.0.0.1", "", True),
        ("::1", "", True),
        ("localhost", "", True),
        ("0.0.0.0", "", False),
        ("::", "", False),
        ("192.168.1.5", "", False),
        ("0.0.0.0", "one", True),
    ],
)
def test_without_keys_only_loopback(host: str, keys: str, starts: bool, tmp_path):
    reason = refusal(ApiSettings(host=host, keys=keys), PlatformSettings(data=tmp_path))
    assert (reason is None) == starts
    assert starts or "METEOR_API_KEYS" in str(reason)
    assert starts or "meteor keys create" in str(reason)


def test_a_key_in_the_database_opens_the_door_to_others(tmp_path):
    platform = PlatformSettings(data=tmp_path)
    stores = open_stores(platform.database)
    assert refusal(ApiSettings(host="0.0.0.0"), platform)
    row = stores.keys.add(DEFAULT_PROJECT, "first", [Scope.JOBS], "0" * 64, "mk-....", None)
    assert refusal(ApiSettings(host="0.0.0.0"), platform) is None
    stores.keys.revoke(None, row.id)
    assert refusal(ApiSettings(host="0.0.0.0"), platform) is None  # it then refuses everybody, which is safe


def test_import_loads_nothing_heavy():
    code = f"import sys, services.api.app; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_v1_route_asks_for_a_scope(tmp_path):
    from services.api.deps import Needs

    app = create_app(ApiSettings(), PlatformSettings(data=tmp_path))
    routes = [route for route in app.routes if getattr(route, "path", "").startswith("/v1/")]
    assert len(routes) >= 20
    for route in routes:
        assert isinstance(route, APIRoute)
        asked = [used.call.scopes for used in route.dependant.dependencies if isinstance(used.call, Needs)]
        assert len(asked) == 1, route
        assert asked[0], route
