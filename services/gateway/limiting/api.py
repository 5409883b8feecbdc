"""Limiting, HTTP door: administrators see which buckets are not full, and fill them again."""

from collections.abc import Callable
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, IPvAnyAddress

from dataaggregator.bus import audit as trail
from dataaggregator.db import Database
from dataaggregator.definition import Audited, Author
from dataaggregator.errors import Denied, FieldError, Invalid
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, PageQuery, Query, decode_cursor, encode_cursor
from dataaggregator.http.route import Route
from dataaggregator.limits import Bucket
from dataaggregator.permissions import DEFAULT_WORKSPACE, Permission
from services.gateway import SCHEMA
from services.gateway.addresses import bucket_of
from services.gateway.heads import request_id

from . import store
from .commands import Limiting

LimitClass = Literal["api", "login", "run"]
OWN = f"Administrators of the workspace `{DEFAULT_WORKSPACE}` see all, those of another one their workspace's."


class Whose(Query):
    """Which buckets; no two of user, address and workspace have one in common."""

    limit_class: Annotated[LimitClass | None, Field(alias="class", description="Of this class only.")] = None
    user: Annotated[UUID | None, Field(description="Of this user only.")] = None
    address: Annotated[
        IPvAnyAddress | None, Field(description="Of this address only; one of IPv6 shares that of its /64.")
    ] = None
    workspace: Annotated[UUID | None, Field(description="Run starts of this workspace only.")] = None

    @property
    def key(self) -> str | None:
        """As limits are counted by; raises Invalid for more than one."""
        address = None if self.address is None else bucket_of(str(self.address))
        given = {"user": self.user, "ip": address, "workspace": self.workspace}
        keys = [f"{kind}:{value}" for kind, value in given.items() if value is not None]
        if len(keys) > 1:
            raise _wrong("should be one of user, address and workspace: a bucket is of one of them", "too-many")
        return keys[0] if keys else None


class BucketsQuery(PageQuery, Whose):
    sort: None = None


class BucketView(BaseModel):
    """A bucket that is not full."""

    model_config = ConfigDict(populate_by_name=True)
    limit_class: LimitClass = Field(alias="class")
    key: str = Field(description="`user:<id>`, `key:<id>`, `ip:<address>` or `workspace:<id>`.")
    trusted: bool = Field(description="Is it one of a trusted network, with a higher limit?")
    limit: int
    remaining: int
    reset_seconds: int = Field(description="Until it is full again, if nothing is taken.")


class ClearedView(BaseModel):
    cleared: int = Field(description="How many buckets were not full, and are now.")


class RateLimitsApi:
    """The routes of rate limits; `address` is the caller's as the edge knows it."""

    def __init__(self, database: Database, limiting: Limiting, address: Callable[[web.Request], str]) -> None:
        self._database = database
        self._limiting = limiting
        self._address = address

    def routes(self) -> list[Route]:
        admin, path, tag = Permission.PLATFORM_ADMIN, "/api/rate-limits", "rate limits"
        return [
            Route(
                "GET",
                path,
                self.list_buckets,
                "List the rate limits that somebody has used",
                tag,
                admin,
                query=BucketsQuery,
                answers={200: Page[BucketView]},
                description=f"A bucket that is full again is not listed. {OWN}",
            ),
            Route(
                "DELETE",
                path,
                self.clear,
                "Let somebody call again",
                tag,
                admin,
                query=Whose,
                answers={200: ClearedView},
                description=f"Fills the buckets that are named: of a class, of somebody, or both. Audited. {OWN}",
            ),
        ]

    async def list_buckets(self, call: Call) -> Answer:
        query = call.query_as(BucketsQuery)
        after = None if query.cursor is None else Bucket(*decode_cursor(query.cursor, str, str, int))
        found = await self._limiting.buckets(query.limit_class, _key(call, query))
        rest = [one for one in found if after is None or one > after]
        shown = [await self._shown(one) for one in rest[: query.limit]]
        more = encode_cursor(*rest[query.limit - 1]) if len(rest) > query.limit else None
        return Answer(Page[BucketView](items=shown, next_cursor=more))

    async def clear(self, call: Call) -> Answer:
        query = call.query_as(Whose)
        if query.limit_class is None and query.key is None:
            raise _wrong("should say which: give class, user, address or workspace", "required")
        key = _key(call, query)
        cleared = await self._limiting.clear(query.limit_class, key)
        identity, by = call.identity, self._address(call.request)
        author = Author(identity.user_id, identity.email, by, request_id(call.request), identity.key)
        detail = {"class": query.limit_class, "key": key, "cleared": cleared}
        async with self._database.platform() as tx:
            if query.limit_class in (None, "login"):
                await store.remove_buckets(tx, key)
            line = Audited("rate-limit.cleared", "rate-limit", call.workspace, detail)
            await trail.audit(tx, SCHEMA, call.workspace, author, line)
        return Answer(ClearedView(cleared=cleared))

    async def _shown(self, bucket: Bucket) -> BucketView:
        now = await self._limiting.look(bucket)
        return BucketView.model_validate(
            {
                "class": bucket.limit_class,
                "key": bucket.key,
                "trusted": bucket.factor > 1,
                "limit": now.limit,
                "remaining": now.remaining,
                "reset_seconds": now.reset_seconds,
            }
        )


def _key(call: Call, query: Whose) -> str | None:
    """Whose buckets the caller means and may see; raises Denied."""
    own = f"workspace:{call.workspace}"
    if call.of_the_platform:
        return query.key
    if query.key not in (None, own):
        raise Denied("permission-denied", f"Limits of others are looked after in the workspace {DEFAULT_WORKSPACE}.")
    return own


def _wrong(message: str, code: str) -> Invalid:
    return Invalid("query-invalid", f"The query {message}.", errors=[FieldError("class", message, code)])
