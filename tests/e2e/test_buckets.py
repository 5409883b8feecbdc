"""Files in a bucket as their users see them: saved with sealed secrets, tried out, written, read again."""

import secrets

from tests.buckets import S3Endpoint
from tests.e2e.api import Api
from tests.e2e.world import Disk

KEY = "canary-5up3r-s3cr3t-bucket-key"


async def test_rows_go_into_a_bucket_and_come_back(api: Api, disk: Disk, s3: S3Endpoint) -> None:
    bucket = f"b{secrets.token_hex(8)}"
    s3.make_bucket(bucket)
    config = {
        "root": f"s3://{bucket}/below",
        "endpoint": s3.address,
        "credentials": {"access_key_id": "reader", "secret_access_key": KEY},
    }
    saved = await api.post("/api/connectors", {"name": "lake", "type": "files", "config": config})
    assert saved["config"]["credentials"] == {"access_key_id": "reader", "secret_access_key": "********"}
    checked = await api.post("/api/connectors/lake/test", expect=200)
    assert checked["ok"], checked
    disk.write("into-a-bucket.csv", "id,land\n1,CH\n2,DE\n3,CH\n")
    for name, source, destination in (
        ("into-the-lake", ("disk", "into-a-bucket.csv"), ("lake", "lands.csv.gz")),
        ("out-of-the-lake", ("lake", "lands.csv.gz"), ("disk", "out-of-a-bucket.csv")),
    ):
        await api.post(
            "/api/pipelines",
            {
                "name": name,
                "sources": {"rows": {"connector": source[0], "stream": source[1]}},
                "destinations": [{"connector": destination[0], "stream": destination[1], "write": "replace"}],
            },
        )
        run = await api.run(name)
        assert (run["status"], run["rows_written"]) == ("succeeded", 3), run["error"]
        assert KEY not in str(run)
    assert (disk.folder / "out-of-a-bucket.csv").read_text() == "id,land\n1,CH\n2,DE\n3,CH\n"
