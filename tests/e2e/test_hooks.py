"""Hooks: somebody without an account starts a run by the address that they were given."""

from datetime import datetime

from dataaggregator.signatures import sign
from tests.e2e.api import Api
from tests.e2e.platform import Platform
from tests.e2e.test_schedules import pipeline
from tests.e2e.world import Disk


async def test_a_call_without_a_login_starts_a_run_that_succeeds(api: Api, disk: Disk, platform: Platform) -> None:
    disk.write("schedules.csv", "id\n1\n")
    await api.post("/api/pipelines", pipeline("called", triggers=[{"webhook": True}]))
    made = await api.post("/api/pipelines/called/hook/rotate", expect=200, headers={"Idempotency-Key": "hook-1"})
    again = await api.post("/api/pipelines/called/hook/rotate", expect=200, headers={"Idempotency-Key": "hook-1"})
    assert again["token"] != made["token"]  # no answer with a token is kept
    anybody = api.anonymous()
    headers = {"webhook-id": "evt_1", "Authorization": "Basic of-the-senders-own"}
    started = [await anybody.post(made["path"], expect=202, headers=headers) for _ in range(2)]
    run = await api.ended(started[0]["id"])
    assert (run["status"], run["trigger"]) == ("succeeded", "webhook"), run["error"]
    assert started[1]["id"] == run["id"]
    keyed = {"Idempotency-Key": "evt_1"}
    assert (await anybody.post(made["path"], expect=202, headers=keyed))["id"] == run["id"]
    named = {"Hook-Token": made["token"], "webhook-id": "evt_1"}
    assert (await anybody.post("/api/hooks", expect=202, headers=named))["id"] == run["id"]
    assert (await anybody.refused("POST", made["path"][:-1]))["code"] == "hook-unknown"
    assert (await api.refused("GET", made["path"]))["status"] == 405
    printed = platform.log.read_text(errors="replace") + await anybody.get("/metrics")
    assert "http_call" in printed
    assert not any(one[key] in printed for one in (made, again) for key in ("token", "secret"))


async def test_a_signed_call_arrives_as_it_was_signed(api: Api, disk: Disk) -> None:
    disk.write("schedules.csv", "id\n1\n")
    trigger = {"webhook": True, "signed": True, "parameters": {"day": "$.at.day"}}
    await api.post("/api/pipelines", pipeline("signed", parameters={"day": {"type": "date"}}, triggers=[trigger]))
    made = await api.post("/api/pipelines/signed/hook/rotate", expect=200)
    raw = '{"at": {"day": "2026-01-31"},  "said": "grüezi"}'.encode()
    now = (await api.get("/api/pipelines/signed/hook"))["tokens"][0]["made_at"]
    headers = sign([made["secret"]], "evt_1", datetime.fromisoformat(now), raw)
    answer = await api.anonymous().call("POST", made["path"], raw=raw, headers=headers)
    assert (answer.status, answer.body["parameters"]) == (202, {"day": "2026-01-31"})
    assert (await api.anonymous().refused("POST", made["path"], raw=raw + b" ", headers=headers))["status"] == 401
