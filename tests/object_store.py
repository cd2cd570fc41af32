"""An object store on this machine, for tests: moto's server, which keeps everything in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from moto.server import ThreadedMotoServer
from pyarrow import fs

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def object_store(*buckets: str) -> Iterator[str]:
    """Serve empty buckets; yield the query that their addresses end with, by which they are found
    without the environment."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
        with mock.patch.dict(os.environ, SETTINGS):
            for name in buckets:
                system, _ = fs.FileSystem.from_uri(f"s3://{name}{query}&allow_bucket_creation=true")
                system.create_dir(name)
            yield query
    finally:
        server.stop()
