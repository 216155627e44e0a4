"""Storages, and the servers behind them."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.storage.asking import S3_SECRET, at
from tests.supabase_server import SupabaseServer
from workers.ports import Bucket
from workers.storage import open_storage

Read = Callable[[str, str], bytes]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Point boto3 at a server, and at nothing else of this host."""

    def point(url: str) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)

    return point


@pytest.fixture
def s3(s3_server: str, aws: Callable[[str], None]) -> Iterator[Any]:
    """boto3's own client, with an empty bucket named pictures."""
    aws(s3_server)
    client: Any = boto3.client("s3")
    client.create_bucket(Bucket="pictures")
    yield client
    for stored in client.list_objects_v2(Bucket="pictures").get("Contents", []):
        client.delete_object(Bucket="pictures", Key=stored["Key"])
    client.delete_bucket(Bucket="pictures")


@pytest.fixture
def supabase() -> Iterator[SupabaseServer]:
    with SupabaseServer("sdxl_image_fast") as server:
        yield server


@pytest.fixture
def strict() -> Iterator[SupabaseServer]:
    """A Supabase that answers "Duplicate" whenever something is there, whatever x-upsert says."""
    with SupabaseServer("sdxl_image_fast", upserts=False) as server:
        yield server


@pytest.fixture(params=["local", "supabase", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bucket, Read]:
    """A storage, and a way to look into it that does not go through it."""
    if request.param == "supabase":
        server: SupabaseServer = request.getfixturevalue("supabase")
        server.public = {"sdxl_image_fast"}
        return at(server), lambda bucket, key: server.objects[f"{bucket}/{key}"][0]
    if request.param == "s3":
        client = request.getfixturevalue("s3")
        everybody = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::pictures/*",
        }
        client.put_bucket_policy(
            Bucket="pictures", Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]})
        )
        return open_storage("s3://pictures/a/b"), lambda bucket, key: bytes(
            client.get_object(Bucket="pictures", Key=f"a/b/{bucket}/{key}")["Body"].read()
        )
    root = tmp_path / "assets"
    return open_storage(f"file://{root}"), lambda bucket, key: (root / bucket / key).read_bytes()
