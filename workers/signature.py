"""Standard Webhooks: how a receiver knows that a callback is ours and whole. https://www.standardwebhooks.com"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

PREFIX: Final = "whsec_"


def signing_key(secret: str) -> bytes:
    """The key in `secret`: base64 behind `whsec_`, else the text itself. Raises ValueError, never showing it."""
    if not secret.startswith(PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the callback secret begins with whsec_, but what follows is not base64") from None
    if not key:
        raise ValueError("the callback secret is empty")
    return key


def sign(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over id, timestamp and body."""
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def verify(key: bytes, webhook_id: str, timestamp: int, body: bytes, signatures: str) -> bool:
    """Whether one of the space-separated `signatures` is ours."""
    wanted = sign(key, webhook_id, timestamp, body).encode()
    return any(hmac.compare_digest(wanted, given.encode()) for given in signatures.split(" "))
