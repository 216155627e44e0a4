"""`ourvidz up`: what its children are told, and what it does when something is in its way."""

from pathlib import Path

import pytest

from ourvidz import settings as settings_module
from ourvidz.processes.demo import _embedded
from ourvidz.processes.up import child_environment
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
    own = production.model_copy(update=_embedded(production, tmp_path, tmp_path / "model", "http://127.0.0.1:1/"))
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
