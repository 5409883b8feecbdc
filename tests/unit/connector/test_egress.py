"""Egress: wrapped, renamed and rebound addresses are judged by where they lead, and nothing else opens connections."""

import asyncio
import re
import socket
from pathlib import Path
from uuid import uuid4

import pytest

import dataaggregator_connectors
from dataaggregator.connector.addresses import Reach, reach
from dataaggregator.connector.egress import Egress, EgressPolicy, HostList
from dataaggregator.errors import Invalid, PlatformError

pytestmark = pytest.mark.security

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fc00::1",
    "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
    "2002:c0a8:101::1", "::127.0.0.1", "64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::", "fe80::5efe:7f00:1", "fec0::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "192.0.2.1", "198.18.0.1", "2001:db8::1", "::ffff:0:127.0.0.1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.170.2", "169.254.1.1", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "0.0.0.0",  # noqa: S104  (nothing is bound)
    "0.1.2.3", "255.255.255.255", "240.0.0.1", "224.0.0.1", "::", "ff02::1", "fe80::1", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "64:ff9b:1::a9fe:a9fe", "::ffff:0:169.254.169.254", "::169.254.169.254",
    "2001:0:4136:e378:8000:63bf:5601:5601", "2606:4700::5efe:a9fe:a9fe",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_leads_inside_needs_a_setting(address: str) -> None:
    assert reach(address)[0] is not Reach.PUBLIC


@pytest.mark.parametrize("address", NEVER)
def test_an_address_that_hands_out_credentials_is_never_reached(address: str) -> None:
    assert reach(address)[0] is Reach.NEVER


@pytest.mark.parametrize("address", PUBLIC[:4])
def test_a_public_address_may_be_reached(address: str) -> None:
    assert reach(address)[0] is Reach.PUBLIC


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "127.1"])
async def test_no_spelling_of_this_machine_gets_through(host: str) -> None:
    with pytest.raises(PlatformError) as caught:
        await Egress(EgressPolicy()).resolve(host, 80)
    assert caught.value.code in ("egress-denied", "connector-unreachable")


async def test_metadata_addresses_stay_closed_whatever_is_allowed() -> None:
    policy = EgressPolicy(allow=HostList.parse("169.254.169.254,0.0.0.0/0,::/0"), private=True)
    with pytest.raises(Invalid, match="never reached"):
        await Egress(policy).resolve("169.254.169.254", 80)


async def test_an_allowed_network_opens_private_addresses_and_a_denied_one_closes_them() -> None:
    allow = HostList.parse(["127.0.0.0/8", " db.internal "])
    assert (await Egress(EgressPolicy(allow=allow)).resolve("127.0.0.1", 5432)).ip == "127.0.0.1"
    with pytest.raises(Invalid, match="EGRESS_DENY"):
        await Egress(EgressPolicy(allow=allow, deny=HostList.parse("127.0.0.1"))).resolve("127.0.0.1", 5432)


async def test_an_entry_of_a_workspace_counts_for_that_one_alone() -> None:
    one, other = uuid4(), uuid4()
    allow, deny = (f"127.0.0.0/8@{one}", "db.internal"), (f"1.1.1.1@{str(other).upper()}",)
    assert (await Egress(EgressPolicy.of(allow, deny, one)).resolve("127.0.0.1", 1)).ip == "127.0.0.1"
    assert (await Egress(EgressPolicy.of(allow, deny, one)).resolve("1.1.1.1", 1)).ip == "1.1.1.1"
    for workspace, host in ((other, "127.0.0.1"), (None, "127.0.0.1"), (other, "1.1.1.1")):
        with pytest.raises(Invalid, match=r"private address|EGRESS_DENY"):
            await Egress(EgressPolicy.of(allow, deny, workspace)).resolve(host, 1)
    assert EgressPolicy.of(allow, deny, other).allow.hosts == {"db.internal"}


async def test_all_that_is_not_allowed_by_name_can_be_closed() -> None:
    policy = EgressPolicy(
        allow=HostList.parse("8.8.8.8,127.0.0.1,1.1.1.1"), deny=HostList.parse("*,1.1.1.1"), private=True
    )
    for host in ("8.8.8.8", "127.0.0.1"):
        assert (await Egress(policy).resolve(host, 443)).ip == host
    for host in ("9.9.9.9", "10.0.0.1", "1.1.1.1"):
        with pytest.raises(Invalid, match="EGRESS_"):
            await Egress(policy).resolve(host, 443)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://[::ffff:127.0.0.1]:9/", "http://localhost:9/"])
async def test_a_session_judges_names_and_literal_addresses(url: str) -> None:
    session = Egress(EgressPolicy()).session()
    with pytest.raises(Invalid, match="private address"):
        await session.get(url)
    await session.close()


async def test_a_name_with_one_address_inside_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rebinding(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("8.8.8.8", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    with pytest.raises(Invalid, match="private address"):
        await Egress(EgressPolicy()).resolve("rebound.example", 80)


def test_connectors_have_no_other_way_out() -> None:
    """What opens connections stands in one line a type, beside the egress that resolved the address."""
    ways = re.compile(
        r"ClientSession\(|TCPConnector\(|create_connection|open_connection|socket\.|urllib\.request|import http"
        r"|asyncpg\.(connect|create_pool)|dbapi\.connect|import requests|fsspec|pyarrow\.fs"
    )
    folder = Path(dataaggregator_connectors.__file__).parent
    found = {
        (path.relative_to(folder).as_posix(), match.group(0))
        for path in folder.rglob("*.py")
        for match in ways.finditer(path.read_text())
    }
    assert found == {("postgres/connection.py", "asyncpg.connect"), ("postgres/reading.py", "dbapi.connect")}
