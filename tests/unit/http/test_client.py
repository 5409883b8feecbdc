"""How services call each other: as themselves, within one trace, errors coming back as what they were."""

from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel

from dataaggregator.errors import Conflict, FieldError, Invalid, Permanent, RateLimited, Transient
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.route import Route
from dataaggregator.ports import Ports
from dataaggregator.telemetry import traces

from .conftest import WORKSPACE, Serve

ERRORS = {
    "invalid": Invalid("body-invalid", "a: is wrong.", errors=[FieldError("a", "is wrong", "wrong")]),
    "conflict": Conflict("conflict", "Not now."),
    "transient": Transient("database-unavailable", "Not there.", retry_after=3),
    "limited": RateLimited("rate-limited", "Slowly.", retry_after=9),
    "permanent": Permanent("service-refused", "Never."),
}


class Seen(BaseModel):
    caller: str | None
    workspace: str | None
    trace_id: str
    said: str


class Said(BaseModel):
    said: str


async def echo(call: Call) -> Answer:
    said = call.body_as(Said).said
    if said in ERRORS:
        raise ERRORS[said]
    return Answer(Seen(caller=call.identity.service, workspace=str(call.workspace), trace_id=call.trace_id, said=said))


ROUTE = Route("POST", "/internal/echo", echo, "Echo", "trial", None, body=Said, answers={200: Seen}, internal=True,
              problems=(409, 502))  # fmt: skip


@pytest.fixture
async def client(plain_ports: Ports, serve: Serve) -> AsyncIterator[ServiceClient]:
    await serve([ROUTE], "executor")
    client = ServiceClient(plain_ports, "scheduler")
    await client.open()
    yield client
    await client.close()


async def test_a_call_says_who_calls_for_which_workspace_in_which_trace(client: ServiceClient) -> None:
    with traces.continue_from(None, "test") as trace:
        seen = await client.post("executor", "/internal/echo", Said(said="é"), workspace=WORKSPACE)
    assert seen == {"caller": "scheduler", "workspace": str(WORKSPACE), "trace_id": trace.trace_id, "said": "é"}


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_error_comes_back_as_what_it_was(client: ServiceClient, kind: str) -> None:
    with pytest.raises(type(ERRORS[kind])) as caught:
        await client.post("executor", "/internal/echo", {"said": kind}, workspace=WORKSPACE)
    assert type(caught.value) is type(ERRORS[kind])
    assert caught.value.code == ERRORS[kind].code
    assert caught.value.detail == ERRORS[kind].detail
    assert caught.value.errors == ERRORS[kind].errors
    assert caught.value.retry_after == ERRORS[kind].retry_after


async def test_a_service_that_is_not_there_is_transient(client: ServiceClient, plain_ports: Ports) -> None:
    with pytest.raises(Transient):
        await client.post("nobody", "/internal/echo", {"said": "a"})
    plain_ports.directory.put("nobody", "http://127.0.0.1:1")
    with pytest.raises(Transient):
        await client.post("nobody", "/internal/echo", {"said": "a"})


async def test_a_service_with_another_secret_key_is_permanent(client: ServiceClient, plain_ports: Ports) -> None:
    plain_ports.directory.put("other", plain_ports.directory.url("executor"))
    with pytest.raises(Permanent, match="SECRET_KEY"):
        await client.post("other", "/internal/echo", {"said": "a"})  # the token is for another service
