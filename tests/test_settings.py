"""Settings: where each value came from, and one sentence for each that is wrong."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from ourvidz import layers, reference
from ourvidz.layers import NAMES, SettingsError, gather
from ourvidz.settings import Settings, load


def file(tmp_path: Path, text: str) -> Path:
    """A settings file."""
    path = tmp_path / "ourvidz.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_names_of_the_quick_path_are_the_fields_of_the_settings() -> None:
    assert set(NAMES) == set(Settings.model_fields)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    config = file(tmp_path, 'log_level = "debug"\nlog_format = "json"\nengine = "null"')
    environ = {"OURVIDZ_LOG_LEVEL": "error", "OURVIDZ_LOG_FORMAT": "console"}
    settings = load({"log_level": "warning"}, config=config, environ=environ)
    told = {name: (settings.shown(name), settings.source(name)) for name in ("log_level", "log_format", "engine")}
    assert told == {
        "log_level": ("warning", "flag"),
        "log_format": ("console", "environment OURVIDZ_LOG_FORMAT"),
        "engine": ("null", f"file {config}"),
    }
    assert settings.source("device") == "default"


def test_what_lies_in_the_data_folder_follows_it(tmp_path: Path) -> None:
    settings = load({"data_dir": str(tmp_path / "a b")}, environ={})
    assert settings.database_url == f"sqlite:///{tmp_path}/a b/ourvidz.sqlite"
    assert settings.storage_dir == tmp_path / "a b" / "storage"
    assert settings.spool_dir == tmp_path / "a b" / "spool"


def test_the_quick_path_finds_the_same_database(tmp_path: Path) -> None:
    for environ in ({}, {"OURVIDZ_DATA_DIR": str(tmp_path)}, {"OURVIDZ_DATABASE_URL": "postgresql://h/d"}):
        assert layers.database_url(gather(environ=environ)) == load(environ=environ).database_url


def test_the_quick_path_finds_the_same_grace(tmp_path: Path) -> None:
    config = file(tmp_path, "spool_grace_seconds = 45")
    for path, environ in ((None, {}), (None, {"OURVIDZ_SPOOL_GRACE_SECONDS": "7.5"}), (config, {})):
        found = layers.gather(config=path, environ=environ)
        assert layers.spool_grace(found) == load(config=path, environ=environ).spool_grace_seconds
    with pytest.raises(SettingsError, match=r"environment OURVIDZ_SPOOL_GRACE_SECONDS.*wanted a number, got 'soon'"):
        layers.spool_grace(layers.gather(environ={"OURVIDZ_SPOOL_GRACE_SECONDS": "soon"}))


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load(config=file(tmp_path, 'data_dir = "data"'), environ={})
    assert settings.data_dir == tmp_path / "data"


def test_the_names_of_the_replaced_worker_give_redis_and_callback_and_never_the_database() -> None:
    environ = {
        "SUPABASE_URL": "https://abc.supabase.co/",
        "SUPABASE_SERVICE_KEY": "service-key",
        "UPSTASH_REDIS_REST_URL": "https://eu1-x.upstash.io",
        "UPSTASH_REDIS_REST_TOKEN": "a/b",
    }
    settings = load(environ=environ)
    assert settings.callback_url == "https://abc.supabase.co/functions/v1/job-callback"
    assert settings.redis_url == "rediss://default:a%2Fb@eu1-x.upstash.io:6379"
    assert settings.source("callback_url") == "derived from SUPABASE_URL"
    assert settings.database_url.startswith("sqlite:")
    explicit = {"OURVIDZ_CALLBACK_URL": "http://localhost:1/", "OURVIDZ_REDIS_URL": "redis://localhost"}
    settings = load(environ=environ | explicit)
    assert (settings.callback_url, settings.redis_url) == tuple(explicit.values())


def test_no_secret_is_shown_or_repeated_in_an_error(tmp_path: Path) -> None:
    environ = {
        "OURVIDZ_CALLBACK_SECRET": "s3cret-a",
        "OURVIDZ_REDIS_URL": "redis://user:s3cret-b@host/0",
        "SUPABASE_SERVICE_KEY": "s3cret-c",
        "OURVIDZ_DATABASE_URL": "postgresql://u:s3cret-d@host/db",
    }
    settings = load(environ=environ)
    shown = " ".join(settings.shown(name) for name in NAMES) + repr(settings.callback_secret)
    assert "s3cret" not in shown
    assert "redis://user:********@host/0" in shown
    with pytest.raises(SettingsError) as raised:
        load(environ={"OURVIDZ_REDIS_URL": "http://user:s3cret@host"})
    assert "s3cret" not in str(raised.value)


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("whsec_abc\n")
    settings = load(environ={"OURVIDZ_CALLBACK_SECRET_FILE": str(secret)})
    assert settings.callback_secret is not None
    assert settings.callback_secret.get_secret_value() == "whsec_abc"
    assert settings.source("callback_secret") == f"file {secret}, named by OURVIDZ_CALLBACK_SECRET_FILE"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"OURVIDZ_LEASE_SECOND": "3"},
            "OURVIDZ_LEASE_SECOND: no such setting; did you mean OURVIDZ_LEASE_SECONDS?",
        ),
        (
            {"OURVIDZ_LEASE_SECONDS": "soon"},
            "lease_seconds (environment OURVIDZ_LEASE_SECONDS): wanted a number from 3 to 3600, got 'soon'",
        ),
        (
            {"OURVIDZ_LEASE_SECONDS": "nan"},
            "lease_seconds (environment OURVIDZ_LEASE_SECONDS): wanted a number from 3 to 3600, got 'nan'",
        ),
        (
            {"OURVIDZ_DEVICE": "gpu"},
            "device (environment OURVIDZ_DEVICE): wanted auto, cpu, cuda or cuda:N, got 'gpu'",
        ),
        (
            {"OURVIDZ_STORAGE_URL": "s3://key:hunter2@bucket"},
            "storage_url (environment OURVIDZ_STORAGE_URL): wanted file:///FOLDER, supabase: or s3://BUCKET[/PREFIX], "
            "got 's3://key:********@bucket'",
        ),
        (
            {"OURVIDZ_STORAGE_URL": "supabase:", "SUPABASE_URL": "https://p.supabase.co"},
            "storage_url (environment OURVIDZ_STORAGE_URL): supabase: needs SUPABASE_URL and SUPABASE_SERVICE_KEY, "
            "got no SUPABASE_SERVICE_KEY",
        ),
        (
            {"OURVIDZ_HEALTH_ADDRESS": "127.0.0.1:65536"},
            "health_address (environment OURVIDZ_HEALTH_ADDRESS): wanted host:port, got '127.0.0.1:65536'",
        ),
        (
            {"OURVIDZ_DRAIN_SECONDS": "-1"},
            "drain_seconds (environment OURVIDZ_DRAIN_SECONDS): wanted a number from 0 to 3600, got '-1'",
        ),
        (
            {"OURVIDZ_CALLBACK_SECRET_FILE": "/nowhere/at/all"},
            "OURVIDZ_CALLBACK_SECRET_FILE: wanted a readable file with the secret in it, got /nowhere/at/all "
            "(No such file or directory)",
        ),
        (
            {"OURVIDZ_CALLBACK_SECRET_FILE": os.devnull, "OURVIDZ_CALLBACK_SECRET": "x"},
            "OURVIDZ_CALLBACK_SECRET and OURVIDZ_CALLBACK_SECRET_FILE are both set: keep one of them",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(environ=environ)
    assert raised.value.sentences == (sentence,)


def test_every_wrong_value_gets_its_sentence() -> None:
    with pytest.raises(SettingsError) as raised:
        load({"engine": "x", "dtype": "int8"}, environ={})
    assert len(raised.value.sentences) == 2


def test_an_unknown_key_of_the_file_names_the_nearest(tmp_path: Path) -> None:
    config = file(tmp_path, 'spool = "x"')
    with pytest.raises(SettingsError, match=r"spool: no such setting; did you mean spool_dir\?"):
        load(config=config, environ={})


def test_the_variables_of_the_tests_and_empty_ones_are_no_settings() -> None:
    settings = load(environ={"OURVIDZ_TEST_REDIS_URL": "redis://x", "OURVIDZ_REDIS_URL": ""})
    assert settings.redis_url is None


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_documentation_says_what_the_program_does(name: str) -> None:
    """Run `python -m ourvidz.reference` when this fails."""
    text = (Path(reference.__file__).parent.parent / "docs" / name).read_text("utf-8")
    assert reference.fill(text) == text


def test_allowed_hosts_are_read_as_the_urls_of_references_are() -> None:
    """Otherwise an entry would look right and match nothing."""
    given = " a.example:80 , [0:0::1]:080,127.0.0.1:8000"
    assert Settings(allowed_reference_hosts=given).reference_hosts == {"a.example:80", "[::1]:80", "127.0.0.1:8000"}
    for wrong in ("a.example", "a.example:99999", "a.example:80/path", "a b:80"):
        with pytest.raises(ValidationError):
            Settings(allowed_reference_hosts=wrong)
