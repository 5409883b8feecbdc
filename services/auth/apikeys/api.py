"""API keys, HTTP door: make, list, take back; and, for the gateway, the access token of one."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, SecretStr

from dataaggregator.contracts.base import Moment, Name
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, PageQuery, decode_cursor, encode_cursor, page_of
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.auth.calls import Body, actor

from .commands import ApiKeys, NewKey
from .domain import ApiKey


class KeyBody(Body):
    name: Name
    scopes: Annotated[
        list[Permission], Field(min_length=1, max_length=20, description="What it may do, of what its owner may.")
    ]
    owner: Annotated[
        str | None, Field(min_length=1, max_length=254, description="A service account, by id or e-mail; else you.")
    ] = None
    expires_at: Moment | None = Field(None, description="At most 366 days off; without it 90 days.")


class KeyView(BaseModel):
    id: UUID
    workspace_id: UUID = Field(description="The one workspace it is good in.")
    user_id: UUID
    email: str = Field(description="In whose name it speaks.")
    name: str
    hint: str = Field(description="How it begins.")
    scopes: list[Permission]
    created_at: datetime
    created_by: UUID | None
    expires_at: datetime
    last_used_at: datetime | None = Field(description="To the minute.")


class KeyMade(KeyView):
    key: str = Field(description="Shown once. Sent as Authorization: Bearer.")


class ExchangeBody(Body):
    key: Annotated[SecretStr, Field(min_length=1, max_length=200)]


class ExchangedView(BaseModel):
    access_token: str
    expires_at: datetime


class ApiKeysApi:
    """The routes of API keys."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    def routes(self) -> list[Route]:
        admin, tag = Permission.IDENTITY_ADMIN, "api-keys"
        keys, one = "/api/api-keys", "/api/api-keys/{api_key}"
        return [
            Route("GET", keys, self.list_keys, "List API keys", tag, admin, query=PageQuery, answers=_KEYS),
            Route(
                "POST",
                keys,
                self.create_key,
                "Make an API key",
                tag,
                admin,
                body=KeyBody,
                answers={201: KeyMade},
                problems=(404, 409),
                idempotent=True,
                by_login=True,
                description="For yourself or a service account. The key is shown in this answer only.",
            ),
            Route("GET", one, self.get_key, "Get an API key by id or name", tag, admin, answers={200: KeyView}),
            Route("DELETE", one, self.remove_key, "Take an API key back", tag, admin, answers={204: None}),
            Route(
                "POST",
                "/internal/api-keys/exchange",
                self.exchange,
                "An access token for an API key",
                "internal",
                None,
                body=ExchangeBody,
                answers={200: ExchangedView},
                problems=(404,),
                internal=True,
            ),
        ]

    async def list_keys(self, call: Call) -> Answer:
        query = call.query_as(PageQuery)
        after = UUID(str(decode_cursor(query.cursor, UUID)[0])) if query.cursor else None
        views = [_view(key) for key in await self._keys.list_keys(call.workspace, after, query.limit + 1)]
        return Answer(page_of(views, query.limit, lambda view: encode_cursor(view.id)))

    async def create_key(self, call: Call) -> Answer:
        body = call.body_as(KeyBody)
        new = NewKey(body.name, tuple(dict.fromkeys(body.scopes)), body.owner, body.expires_at)
        kept, key = await self._keys.create_key(actor(call), call.workspace, new)
        made = KeyMade(**_view(kept).model_dump(), key=key)
        headers = {"Location": f"/api/api-keys/{kept.id}", "Cache-Control": "no-store"}
        return Answer(made, status=201, headers=headers)

    async def get_key(self, call: Call) -> Answer:
        return Answer(_view(await self._keys.get_key(call.workspace, call.path["api_key"])))

    async def remove_key(self, call: Call) -> Answer:
        await self._keys.remove_key(actor(call), call.workspace, call.path["api_key"])
        return Answer(status=204)

    async def exchange(self, call: Call) -> Answer:
        token, expires_at = await self._keys.exchange(call.body_as(ExchangeBody).key.get_secret_value())
        return Answer(ExchangedView(access_token=token, expires_at=expires_at))


_KEYS: dict[int, type[BaseModel] | None] = {200: Page[KeyView]}


def _view(key: ApiKey) -> KeyView:
    return KeyView.model_validate(key, from_attributes=True)
