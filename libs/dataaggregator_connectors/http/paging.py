"""From one page to the next, whatever way the API has; a page that comes twice is an error, not an endless read."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from dataaggregator.connector.documents import as_written, twice
from dataaggregator.connector.records import Broken
from dataaggregator.contracts.document_path import at
from dataaggregator.errors import Invalid
from dataaggregator_connectors.http.client import Answer, Ask, Client
from dataaggregator_connectors.http.config import ByCursor, ByLink, ByOffset, ByPage, Stream


@dataclass(frozen=True)
class Page:
    """One page: its number for positions, its records, and the size of the answer they came in."""

    number: int
    records: list[Any]
    size: int


async def pages(client: Client, stream: Stream, extra: dict[str, str]) -> AsyncGenerator[Page]:
    """All pages in order."""
    params = {name: _param(value) for name, value in stream.params.items()} | extra | _first(stream)
    url, number, received = client.url(stream.path), 0, 0
    seen: bytes | None = None
    asked: set[str] = set()  # an API that answers with the same cursor or link again would be read for ever
    while True:
        number += 1
        answer = await client.ask(Ask(stream.method or "GET", url, f"{stream.path}, page {number}", params))
        records = _records(answer, stream, number)
        if records and answer.body == seen:
            raise Invalid(
                "http-pagination", f"{stream.path}, page {number}: the same page came twice; check the pagination."
            )
        seen = answer.body
        if records:
            yield Page(number, records, len(answer.body))
        received += len(records)
        step = _next(stream, answer, number, received, last=not records)
        if step is None:
            return
        place = step if isinstance(step, str) else "&".join(step.values())
        if place in asked:
            raise Invalid(
                "http-pagination", f"{stream.path}, page {number}: it leads back to {place!r}; check the pagination."
            )
        asked.add(place)
        if isinstance(step, str):
            url, params = client.url(step), {}
        else:
            params = params | step


def _first(stream: Stream) -> dict[str, str]:
    match stream.pagination:
        case ByPage(param=param, start=start, size_param=size_param, size=size):
            return {param: str(start)} | ({size_param: str(size)} if size_param else {})
        case ByOffset(param=param, limit_param=limit_param, limit=limit):
            return {param: "0", limit_param: str(limit)}
    return {}


def _next(stream: Stream, answer: Answer, number: int, received: int, *, last: bool) -> dict[str, str] | str | None:
    """The parameters or the address of the next page, None after the last.

    Pages and offsets end with an empty page only: an API may give fewer records than it was asked for.
    """
    match stream.pagination:
        case ByPage(param=param, start=start):
            return None if last else {param: str(start + number)}
        case ByOffset(param=param):
            return None if last else {param: str(received)}
        case ByCursor(param=param, path=path):
            cursor = at(answer.document, path)
            return None if cursor in (None, "", False) else {param: str(cursor)}
        case ByLink():
            return answer.next_url
    return None


def _records(answer: Answer, stream: Stream, number: int) -> list[Any]:
    found = at(answer.document, stream.records)
    if not isinstance(found, list):
        raise Invalid("http-records-missing", f"{stream.path}, page {number}: there is no list at {stream.records}.")
    if not answer.doubled:
        return found
    if said := twice(answer.document, but=found):
        raise Invalid("http-malformed", f"{stream.path}, page {number}: {said}.")
    return [Broken(as_written(record), said) if (said := twice(record)) else record for record in found]


def _param(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
