"""Connectors: saved with sealed secrets, tested step by step, discovered and previewed."""

import json
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from tests.e2e.api import Api, Json
from tests.e2e.platform import Platform
from tests.e2e.world import Disk, Site, Warehouse

MASK = "********"
SECRET = "canary-5up3r-s3cr3t"


def config(warehouse: Warehouse, **changed: object) -> Json:
    server = urlsplit(warehouse.url)
    return {
        "host": server.hostname,
        "port": server.port,
        "database": server.path[1:],
        "user": server.username,
        "password": server.password,
        **changed,
    }


async def test_every_type_tells_how_it_is_configured(api: Api) -> None:
    types = {one["type"]: one for one in await api.items("/api/connector-types", limit=1)}
    assert {"postgres", "files", "http"} <= set(types)
    postgres = types["postgres"]
    assert postgres["roles"] == ["source", "destination"]
    assert '"writeOnly": true' in json.dumps(postgres["config_schema"]["properties"]["password"])
    assert {way["mode"]: way["delivery"] for way in postgres["write_modes"]} == {
        "append": "exactly_once",
        "replace": "exactly_once",
        "merge": "exactly_once",
    }
    assert {way["delivery"] for way in types["http"]["write_modes"]} == {"at_least_once"}


async def test_a_connector_is_saved_shown_changed_and_deleted(api: Api, disk: Disk) -> None:
    body: Json = {"name": "life", "type": "files", "config": {"root": disk.folder.as_uri()}}
    answer = await api.call("POST", "/api/connectors", body)
    saved = answer.body
    assert (answer.status, answer.headers["Location"]) == (201, f"/api/connectors/{saved['id']}")
    assert (saved["name"], saved["version"], saved["created_by"]) == ("life", 1, (await api.get("/api/auth/me"))["id"])
    assert await api.get("/api/connectors/life") == await api.get(f"/api/connectors/{saved['id']}") == saved
    changed = await api.patch("/api/connectors/life", {"config": {"format": "csv"}})
    assert changed["config"] == {**body["config"], "format": "csv"}
    assert changed["version"] == 2
    same = await api.put("/api/connectors/life", {**body, "config": changed["config"]})
    assert same["version"] == 2, "the same definition again is no new version"
    assert (await api.put("/api/connectors/life", body))["config"] == body["config"]
    await api.delete("/api/connectors/life")
    assert (await api.refused("GET", "/api/connectors/life"))["status"] == 404


async def test_a_stale_change_is_refused_and_changes_nothing(api: Api, disk: Disk) -> None:
    await api.post("/api/connectors", {"name": "stale", "type": "files", "config": {"root": disk.folder.as_uri()}})
    path = "/api/connectors/stale"
    seen = (await api.call("GET", path)).headers["ETag"]
    await api.patch(path, {"config": {"format": "csv"}}, headers={"If-Match": seen})
    whole = {"name": "stale", "type": "files", "config": {"root": "file:///"}}
    for problem in (
        await api.refused("PATCH", path, {"config": {"format": "json"}}, headers={"If-Match": seen}),
        await api.refused("PUT", path, whole, headers={"If-Match": seen}),
        await api.refused("DELETE", path, headers={"If-Match": seen}),
    ):
        assert (problem["status"], problem["code"]) == (412, "version-stale")
    assert (await api.get(path))["config"]["format"] == "csv"


async def test_a_secret_is_never_shown_and_stays_when_it_is_sent_back_masked(api: Api, warehouse: Warehouse) -> None:
    body: Json = {"name": "sealed", "type": "postgres", "config": config(warehouse)}
    saved = await api.post("/api/connectors", body)
    assert saved["config"]["password"] == MASK
    shown = json.dumps([saved, await api.get("/api/connectors/sealed"), await api.get("/api/connectors")])
    assert body["config"]["password"] not in shown
    sent_back = {"name": "sealed", "type": "postgres", "config": {**saved["config"], "sslmode": "disable"}}
    await api.put("/api/connectors/sealed", sent_back)
    assert (await api.post("/api/connectors/sealed/test", expect=200))["ok"], "the password is still the stored one"
    changed = await api.patch("/api/connectors/sealed", {"config": {"password": SECRET}})
    assert changed["config"]["password"] == MASK
    tested = await api.post("/api/connectors/sealed/test", expect=200)
    assert not tested["ok"]
    assert SECRET not in json.dumps(tested)


async def test_a_mask_without_a_stored_secret_is_refused(api: Api, warehouse: Warehouse) -> None:
    body = {"name": "unsealed", "type": "postgres", "config": config(warehouse, password=MASK)}
    problem = await api.refused("POST", "/api/connectors", body)
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "config.password")


async def test_a_reference_is_looked_up_when_it_is_used(api: Api, warehouse: Warehouse, disk: Disk) -> None:
    secret = disk.folder / "password.txt"
    secret.write_text(str(urlsplit(warehouse.url).password))
    reference = {"$file": str(secret)}
    body = {"name": "referring", "type": "postgres", "config": config(warehouse, password=reference)}
    assert (await api.post("/api/connectors", body))["config"]["password"] == reference
    assert (await api.post("/api/connectors/referring/test", expect=200))["ok"]
    missing = {**body, "name": "lost", "config": config(warehouse, password={"$env": "E2E_NOT_SET"})}
    await api.post("/api/connectors", missing)
    problem = await api.refused("POST", "/api/connectors/lost/test")
    assert problem["code"] == "reference-unresolved"
    assert "E2E_NOT_SET" in problem["detail"]


async def test_a_test_goes_step_by_step(api: Api, warehouse: Warehouse) -> None:
    tested = await api.post("/api/connectors/warehouse/test", expect=200)
    assert tested["ok"]
    names = [check["name"] for check in tested["checks"]]
    assert names.index("connect") < names.index("log in")
    assert all(check["duration_ms"] >= 0 for check in tested["checks"])


async def test_a_failed_test_names_its_step_its_code_and_its_cure(api: Api, warehouse: Warehouse) -> None:
    wrong = (({"port": 1}, "connect"), ({"password": "wrong"}, "log in"), ({"database": "none"}, "log in"))
    for changed, step in wrong:
        body = {"type": "postgres", "config": config(warehouse, **changed)}
        tested = await api.post("/api/connectors/test", body, expect=200)
        assert not tested["ok"]
        failed = next(check for check in tested["checks"] if not check["ok"])
        assert failed["name"] == step, tested
        assert failed["help"].endswith(f"#{failed['code']}")
        assert failed["detail"]


METADATA = (
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "100.100.100.200", "0.0.0.0",  # noqa: S104
)  # fmt: skip
KEY = {"access_key_id": "a", "secret_access_key": "b"}


@pytest.mark.security
@pytest.mark.parametrize("host", METADATA)
async def test_the_address_of_cloud_metadata_is_never_reached(api: Api, host: str) -> None:
    ways: dict[str, Json] = {
        "http": {"base_url": f"http://{host}/", "streams": {"s": {"path": "/"}}},
        "postgres": {"host": host.strip("[]"), "user": "u", "database": "d"},
        "files": {"root": "s3://bucket/", "endpoint": f"http://{host}", "credentials": KEY},
    }
    for kind, config_ in ways.items():
        tested = await api.post("/api/connectors/test", {"type": kind, "config": config_}, expect=200)
        assert not tested["ok"]
        failed = next(check for check in tested["checks"] if not check["ok"])
        assert failed["code"] == "egress-denied", (kind, tested)


async def test_discovery_finds_streams_with_schema_and_keys(api: Api, warehouse: Warehouse) -> None:
    await warehouse.execute(
        "CREATE SCHEMA shop; CREATE TABLE shop.bookings (id bigint PRIMARY KEY, paid numeric(12, 2), at timestamptz)"
    )
    answer = await api.call("POST", "/api/connectors/warehouse/discover")
    assert answer.status == 202
    assert answer.headers["Location"].endswith("/streams")
    streams = await api.items("/api/connectors/warehouse/streams", refresh="true")
    stream = next(stream for stream in streams if stream["name"] == "shop.bookings")
    assert stream["primary_key"] == ["id"]
    assert "at" in stream["cursor_fields"]
    assert list(stream["schema"]["properties"]) == ["id", "paid", "at"]
    assert await api.items("/api/connectors/warehouse/streams", limit=1) == streams, "a list read page by page"


async def test_a_preview_shows_rows_of_a_stream_and_of_a_query(api: Api, warehouse: Warehouse) -> None:
    await warehouse.execute("CREATE TABLE seen (id bigint, name text); INSERT INTO seen VALUES (1, 'a'), (2, 'b')")
    path = "/api/connectors/warehouse/preview"
    of_stream = await api.post(path, {"stream": "public.seen", "limit": 1}, expect=200)
    assert of_stream["rows"] == [{"id": 1, "name": "a"}]
    assert list(of_stream["schema"]["properties"]) == ["id", "name"]
    of_query = await api.post(path, {"query": "SELECT count(*) AS n FROM seen"}, expect=200)
    assert of_query["rows"] == [{"n": 2}]


async def test_a_preview_of_a_web_api_reads_its_records(api: Api, site: Site) -> None:
    async def orders(request: web.Request) -> web.Response:
        assert request.headers["X-Key"] == SECRET
        return web.json_response({"items": [{"id": 1}, {"id": 2}]})

    site.answers("/preview/orders", orders)
    body = site.connector("shop", {"orders": {"path": "/preview/orders", "records": "$.items"}})
    body["config"]["headers"] = {"X-Key": SECRET}
    saved = await api.post("/api/connectors", body)
    assert saved["config"]["headers"] == {"X-Key": MASK}
    preview = await api.post("/api/connectors/shop/preview", {"stream": "orders"}, expect=200)
    assert preview["rows"] == [{"id": 1}, {"id": 2}]


async def test_a_used_connector_stays_and_its_pipelines_are_named(api: Api, disk: Disk, warehouse: Warehouse) -> None:
    disk.write("used.csv", "id\n1\n")
    await api.post("/api/connectors", {"name": "used", "type": "files", "config": {"root": disk.folder.as_uri()}})
    definition = {
        "name": "user-of-used",
        "sources": {"s": {"connector": "used", "stream": "used.csv"}},
        "destinations": [{"connector": "warehouse", "stream": "public.used"}],
    }
    await api.post("/api/pipelines", definition)
    await api.settled()
    problem = await api.refused("DELETE", "/api/connectors/used")
    assert (problem["status"], problem["code"]) == (409, "connector-in-use")
    assert "user-of-used" in problem["detail"]
    await api.delete("/api/pipelines/user-of-used")


def test_no_secret_is_in_the_platforms_log(platform: Platform) -> None:
    assert SECRET not in platform.log.read_text()
