"""What is wired to what, where a mistake would be a leak."""

import pytest
from pydantic import SecretStr

from ourvidz import wiring
from ourvidz.layers import SettingsError
from ourvidz.settings import Settings


@pytest.mark.parametrize(
    ("supabase", "callback", "told"),
    [
        ("https://p.supabase.co", "https://p.supabase.co/functions/v1/job-callback", True),
        ("https://p.supabase.co", "https://p.supabase.co:443/other", True),
        ("https://p.supabase.co", "http://p.supabase.co/functions/v1/job-callback", False),
        ("https://p.supabase.co", "https://elsewhere.example/hook", False),
        (None, "https://elsewhere.example/hook", True),
    ],
)
def test_the_service_key_goes_to_its_own_origin_only(supabase: str | None, callback: str, told: bool) -> None:
    settings = Settings(supabase_url=supabase, callback_url=callback, supabase_service_key=SecretStr("key"))
    assert ("Authorization" in wiring.receiver(settings)._headers("id", b"{}")) is told


def test_a_storage_that_cannot_be_tried_is_one_sentence_without_its_key() -> None:
    settings = Settings(
        storage_url="supabase:", supabase_url="https://p.supabase.co", supabase_service_key=SecretStr("hunter2\t")
    )
    with pytest.raises(SettingsError, match=r"^storage_url \(default\): SUPABASE_SERVICE_KEY must be") as refused:
        wiring.storage(settings)
    assert "hunter2" not in str(refused.value)


def test_references_come_with_the_allowed_hosts_and_with_a_key_only_where_there_is_a_project() -> None:
    """The key follows the address of the project, and no setting sends it elsewhere."""
    key = SecretStr("key")
    asked = "https://p.supabase.co/storage/v1/object/reference_images/u/a.png"
    whole = wiring.references(Settings(supabase_url="https://p.supabase.co", supabase_service_key=key))
    assert whole.private is not None
    assert whole.private.bearer_for(asked) == {"https://p.supabase.co:443": "key"}
    for half in (Settings(supabase_service_key=key), Settings(supabase_url="https://p.supabase.co")):
        assert wiring.references(half).private is None
    assert wiring.references(Settings(allowed_reference_hosts="a.example:80, [::1]:81")).allowed == {
        "a.example:80",
        "[::1]:81",
    }


def test_a_project_whose_address_holds_a_password_is_one_sentence_without_it() -> None:
    settings = Settings(supabase_url="https://me:hunter2@p.supabase.co", supabase_service_key=SecretStr("key"))
    with pytest.raises(
        SettingsError, match=r"^supabase_url \(default\): must not hold a user or a password"
    ) as refused:
        wiring.references(settings)
    assert "hunter2" not in str(refused.value)
