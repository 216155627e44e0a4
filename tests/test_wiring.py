"""What is wired to what, where a mistake would be a leak."""

import pytest
from pydantic import SecretStr

from ourvidz import wiring
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
