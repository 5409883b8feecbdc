"""Entries whose time is over are dropped, and what is kept is verified from a signed place on."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, rfc3339
from dataaggregator.secrets import KeyRing
from services.auth.audit import store
from services.auth.audit.commands import BATCH, Trail
from services.auth.audit.domain import FILED, Entry, Link, canonical, link

from .conftest import Api
from .test_audit import Json, eventually, listed, tamper, verified

KEEP = timedelta(days=40)


async def append(api: Api, *days: int) -> list[Link]:
    """Entries that are so old, in the chain of what belongs to no workspace."""
    added: list[Entry] = []
    async with api.database.platform() as tx:
        last = await store.last_link(tx, PLATFORM_WORKSPACE)
        for old in days:
            at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=old)
            said: dict[str, object] = dict.fromkeys(FILED, "x") | {"detail": {"api_key": {"id": "x"}}}
            said |= {"workspace_id": str(PLATFORM_WORKSPACE), "at": rfc3339(at), "entry_id": str(PLATFORM_WORKSPACE)}
            last = link(last, canonical(said))
            added.append(Entry(PLATFORM_WORKSPACE, at, last, ("x",) * len(FILED)))
        await store.add(tx, added)
    return [one.link for one in added]


async def dropping(api: Api, keep: timedelta | None = KEEP, secret: str | None = None) -> None:
    trail = Trail(api.database, api.ports.keys if secret is None else KeyRing(secret), api.clock, keep)
    await trail.open()
    await trail.sign_heads()
    await trail.drop_outlived()


def of_nobody(found: Json) -> Json:
    return next(one for one in found["chains"] if one["workspace_id"] == str(PLATFORM_WORKSPACE))


def kept(link_: Link) -> list[Json]:
    return [{"workspace_id": str(PLATFORM_WORKSPACE), "position": link_.position, "digest": link_.digest.hex()}]


async def positions(api: Api) -> list[int]:
    async with api.database.platform() as tx:
        return [one.link.position for one in await store.chain(tx, PLATFORM_WORKSPACE, limit=10 * BATCH)]


async def test_the_old_beginning_goes_and_the_rest_is_verified_from_a_signed_place(api: Api) -> None:
    links = await append(api, 400, 300, 41, 39, 100, 2)
    await dropping(api)
    assert (await positions(api))[:3] == [4, 5, 6], "an old one behind a younger one stays"
    token = await api.token()
    found = await verified(api, token)
    chain = of_nobody(found)
    assert (found["ok"], chain["entries"]) == (True, chain["end"]["position"] - 3)
    dropped = chain["dropped"]
    assert (dropped["position"], dropped["digest"]) == (3, links[2].digest.hex())
    said = {name: dropped[name] for name in ("workspace_id", "position", "digest", "signed_at")}
    text = json.dumps({"kind": "dataaggregator.audit-anchor.v1", **said}, sort_keys=True, separators=(",", ":"))
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(found["public_key"]))
    public.verify(base64.b64decode(dropped["signature"]), text.encode())
    for one in (links[0], links[2], links[3]):
        assert (await verified(api, token, kept(one)))["ok"]
    changed = kept(links[2])[0] | {"digest": "0" * 64}
    assert of_nobody(await verified(api, token, [changed]))["broken"]["position"] == 3


async def test_that_entries_were_dropped_is_an_entry(api: Api) -> None:
    await append(api, 400, 300, 2)
    await dropping(api)
    token = await api.token()

    async def told() -> list[Json]:
        return await listed(api, token, "action=audit.dropped")

    entries = await eventually(told)
    assert [(one["actor"], one["detail"]) for one in entries] == [("platform", {"through": 2, "entries": 2})]


async def test_the_end_of_a_chain_stays_however_old_it_is(api: Api) -> None:
    await append(api, 400)
    await dropping(api)
    assert await positions(api) == [1]


async def test_more_than_a_batch_goes(api: Api) -> None:
    count = 2 * BATCH + 10
    await append(api, *[400] * count)
    await dropping(api)
    assert (await positions(api))[0] >= count
    assert (await verified(api, await api.token()))["ok"]


async def test_without_a_time_entries_are_kept_for_ever(api: Api) -> None:
    await append(api, 4000, 2)
    await dropping(api, None)
    assert await positions(api) == [1, 2]


async def test_a_beginning_that_somebody_cut_off_is_found_out(api: Api, database_url: str) -> None:
    await append(api, 400, 300, 2, 2, 2)
    await dropping(api)
    chain = f"workspace_id = '{PLATFORM_WORKSPACE}'"
    await tamper(database_url, f"DELETE FROM auth.audit_heads WHERE {chain}")
    await tamper(database_url, f"DELETE FROM auth.audit WHERE {chain} AND position = 3")
    token = await api.token()
    broken = of_nobody(await verified(api, token))["broken"]
    assert (broken["position"], broken["reason"]) == (3, "it is missing")
    forged = f"SELECT workspace_id, 3, previous, now(), '' FROM auth.audit WHERE {chain} AND position = 4"
    await tamper(database_url, f"INSERT INTO auth.audit_anchors {forged}")
    broken = of_nobody(await verified(api, token))["broken"]
    assert (broken["position"], "not dropped by this platform" in broken["reason"]) == (3, True)


async def test_an_entry_put_before_the_place_is_found_out(api: Api, database_url: str) -> None:
    await append(api, 400, 300, 2)
    await dropping(api)
    columns = (
        "workspace_id, at, previous, content, digest, service, action, resource_type, resource_id, actor_id, actor"
    )
    await tamper(
        database_url,
        f"INSERT INTO auth.audit (position, {columns}) SELECT 1, {columns} FROM auth.audit "
        f"WHERE position = 3 AND workspace_id = '{PLATFORM_WORKSPACE}'",
    )
    assert not (await verified(api, await api.token()))["ok"]


async def test_what_is_young_can_be_dropped_by_nobody(api: Api) -> None:
    [young] = await append(api, 29)
    arguments: tuple[Any, ...] = (PLATFORM_WORKSPACE, young.position, young.digest, api.clock.now(), b"")
    with pytest.raises(asyncpg.RaiseError, match="30 days"):
        async with api.database.platform() as tx:
            await tx.execute("SELECT auth.drop_audit($1, $2, $3, $4, $5)", *arguments)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with api.database.transaction(PLATFORM_WORKSPACE) as tx:
            await tx.execute("SELECT auth.drop_audit($1, $2, $3, $4, $5)", *arguments)
