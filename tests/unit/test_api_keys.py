"""A key: its form, its hash, its secret; and that no secret is compared but in constant time."""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import services.api
from shared.platform.http import same_secret
from shared.platform.settings import PlatformSettings
from shared.security.api_keys import PREFIX, hash_secret, hint_of, keyed_hash, new_key
from shared.security.secret_file import kept_secret


def test_keys_are_long_and_random_and_hints_tell_little():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert len(key.removeprefix(PREFIX)) * 6 >= 192
        assert len(hint_of(key).replace("...", "").removeprefix(PREFIX)) == 8


def test_the_hash_needs_the_secret():
    assert keyed_hash(b"one", "mk-x") == keyed_hash(b"one", "mk-x")
    assert len({keyed_hash(b"one", "mk-x"), keyed_hash(b"two", "mk-x"), keyed_hash(b"one", "mk-y")}) == 3


def test_the_secret_is_made_once_or_given(tmp_path: Path):
    platform = PlatformSettings(data=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(hash_secret, [platform] * 16)}) == 1
    assert (tmp_path / "key-pepper").stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex((tmp_path / "key-pepper").read_text())) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["key-pepper"]
    given = PlatformSettings(data=tmp_path / "other", api_key_secret="given")
    assert hash_secret(given) == b"given"
    assert not (tmp_path / "other").exists()
    assert "given" not in repr(given)


def test_a_secret_that_is_there_stays(tmp_path: Path):
    (tmp_path / "key-pepper").write_text("mine\n")
    assert kept_secret(tmp_path / "key-pepper") == "mine"


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [("a", "a", True), ("a", "b", False), ("", "", False), ("a", "", False), ("é", "é", True)],
)
def test_same_secret(given: str, expected: str, same: bool):
    assert same_secret(given, expected) is same


def test_secrets_are_compared_in_constant_time():
    """By structure, not by the clock: `same_secret` rests on compare_digest, and who asks is told by it alone."""
    names = same_secret.__code__.co_names
    assert "compare_digest" in names
    folder = Path(services.api.__path__[0])
    for place, function in (("deps.py", "_caller"), ("keyring.py", "look_up")):
        tree = ast.parse((folder / place).read_text())
        definition = next(
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
        )
        calls = [
            node.func.id
            for node in ast.walk(definition)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert "same_secret" in calls, function
        compared = [node for node in ast.walk(definition) if isinstance(node, ast.Compare)]
        secrets = {"given", "digest", "key"}
        for one in compared:
            names = {node.id for node in ast.walk(one) if isinstance(node, ast.Name)}
            assert not names & secrets, f"{function} compares a secret with an operator: {ast.unparse(one)}"
