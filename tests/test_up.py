"""`ourvidz up`: what its children are told, and what it does when something is in its way."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from ourvidz import settings as settings_module
from ourvidz.demo.service import embedded
from ourvidz.layers import SettingsError
from ourvidz.processes.child import Child
from ourvidz.processes.holding import hold
from ourvidz.processes.up import child_environment
from ourvidz.processes.valkey import EmbeddedValkey
from ourvidz.settings import Settings


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Somebody's service, configured in every way there is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ourvidz.toml").write_text('redis_url = "redis://toml.example"\ncallback_secret = "whsec_toml"\n')
    (tmp_path / "key").write_text("service-key")
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", "https://production.example")
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "token")
    monkeypatch.setenv("SUPABASE_URL", "https://supabase.example")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY_FILE", str(tmp_path / "key"))
    return settings_module.load()


def _child(settings: Settings, redis_url: str | None) -> Settings:
    """The settings that a process finds whose environment is the one made for it."""
    return settings_module.load(environ=child_environment(settings, redis_url))


def test_the_demo_reaches_nobodys_service(production: Settings, tmp_path: Path) -> None:
    """Its children find no Redis, no keys and no secret, and so start a Valkey of their own."""
    own = embedded(production, tmp_path, {"sdxl_model": tmp_path}, {"callback_url": "http://127.0.0.1:1/"})
    child = _child(own, None)
    assert child.redis_url is None
    assert child.callback_url == "http://127.0.0.1:1/"
    for name in ("supabase_url", "supabase_service_key", "upstash_redis_rest_token", "callback_secret"):
        assert getattr(child, name) is None
    assert child.database_url == own.database_url


def test_children_find_the_settings_of_up(production: Settings) -> None:
    """Each value as it stands, whether it came from the environment, from a file or out of others."""
    child = _child(production, production.redis_url)
    for name in set(Settings.model_fields) - {"upstash_redis_rest_url", "upstash_redis_rest_token"}:
        assert getattr(child, name) == getattr(production, name), name


def test_only_who_vouches_for_the_history_has_the_key_of_its_anchors(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, anchor_key=SecretStr("a-key-that-is-long-enough"))
    assert _child(settings, None).anchor_key == settings.anchor_key
    assert not [name for name in child_environment(settings, None, vouching=False) if "ANCHOR_KEY" in name]


def test_up_alone_speaks_with_systemd_and_answers_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that did too would take the address, or be taken for the service itself."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    settings = Settings(data_dir=tmp_path, health_address="127.0.0.1:8080")
    environment = child_environment(settings, None)
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "OURVIDZ_HEALTH_ADDRESS"} & set(environment)


def test_a_data_folder_has_one_up(tmp_path: Path) -> None:
    """The second says who has it; it is free when the first is gone, and only its owner can look into it."""
    folder = tmp_path / "data"
    held = hold(folder)
    with pytest.raises(SettingsError, match=rf"another `ourvidz up` \(pid {os.getpid()}\)"):
        hold(folder, seconds=0.0)
    assert not os.get_inheritable(held)
    os.close(held)
    os.close(hold(folder, seconds=0.0))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_data_folder_is_held_as_long_as_its_valkey_lives(tmp_path: Path) -> None:
    """A killed `up` leaves a server that is still writing: the next waits for it. The name is one that wants quotes."""
    folder = tmp_path / 'my "own" data'
    held = hold(folder)
    valkey = EmbeddedValkey(folder / "valkey", held=held)
    client = redis.Redis.from_url(valkey.start())
    client.lpush("sdxl_queue", b"a prompt")
    client.close()
    os.close(held)  # as the kernel does when `up` is killed
    with pytest.raises(SettingsError):
        hold(folder, seconds=0.0)
    for path in (folder / "valkey").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    valkey.stop()
    os.close(hold(folder, seconds=0.0))


def test_a_child_that_cannot_be_started_is_tried_again() -> None:
    """A host without free processes for a moment does not end `up`."""
    refusals = [BlockingIOError(11, "Resource temporarily unavailable"), OSError(12, "Cannot allocate memory")]

    def start(*command: object, **options: object) -> "subprocess.Popen[bytes]":
        if refusals:
            raise refusals.pop()
        return subprocess.Popen([sys.executable, "-c", ""])

    child = Child("worker", ["worker"], {}, start=start)
    for now in (0.0, 0.1, 0.3, 0.5, 0.8):
        child.look(now)
        assert (child.process is None) == (now < 0.8), now
    assert child.process is not None
    child.process.wait()
