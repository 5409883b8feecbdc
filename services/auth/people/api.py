"""People, HTTP door: users, workspaces and members."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from dataaggregator.contracts.base import Name
from dataaggregator.errors import FieldError, Invalid
from dataaggregator.http import patch
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, PageQuery, decode_cursor, encode_cursor, page_of
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission, Role
from services.auth.calls import Body, Email, Password, actor, administrator

from .commands import NewUser, People
from .domain import Changes, Member, User, Workspace

PersonName = Annotated[str, Field(max_length=200, description="How the person is called.")]


class UserBody(Body):
    email: Email
    password: Password | None = Field(None, description="What a person logs in with; a service account has none.")
    service: bool = Field(False, description="An account of programs: it has API keys, and cannot log in.")
    name: PersonName = ""
    role: Role = Field(Role.VIEWER, description="Role in the workspace of the call.")
    active: bool = True


class UserReplacement(Body):
    """All of a user but the password, which stays when it is not given."""

    email: Email
    name: PersonName
    role: Role
    active: bool
    password: Password | None = None


class UserPatch(Body):
    """The fields to change."""

    email: Email | None = None
    name: PersonName | None = None
    role: Role | None = None
    active: bool | None = None
    password: Password | None = None


class UserView(BaseModel):
    id: UUID
    workspace_id: UUID = Field(description="The home, whose admins look after this account.")
    email: str
    name: str
    active: bool
    service: bool = Field(description="An account of programs, which has keys and no password.")
    role: Role | None = Field(description="Role in the workspace of the call; null for a user who left it.")
    last_login_at: datetime | None
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None
    version: int


class WorkspaceBody(Body):
    name: Name


class WorkspaceView(BaseModel):
    id: UUID
    name: str
    role: Role = Field(description="The caller's role in it.")
    created_at: datetime
    created_by: UUID | None


class MemberBody(Body):
    user: Annotated[str, Field(min_length=1, max_length=254, description="Id or e-mail.")]
    role: Role


class RoleBody(Body):
    role: Role


class MemberView(BaseModel):
    workspace_id: UUID
    user_id: UUID
    email: str
    name: str
    active: bool
    role: Role
    created_at: datetime


class ListQuery(PageQuery):
    sort: Literal["created_at"] | None = Field(None, description="Oldest first is the one order there is.")


class UsersApi:
    """The routes of users."""

    def __init__(self, people: People) -> None:
        self._people = people

    def routes(self) -> list[Route]:
        admin = Permission.IDENTITY_ADMIN
        one, users = "/api/users/{user}", "/api/users"
        return [
            Route("GET", users, self.list_users, "List users", "users", admin, query=ListQuery, answers=_USERS),
            Route(
                "POST",
                users,
                self.create_user,
                "Make a user",
                "users",
                admin,
                body=UserBody,
                answers={201: UserView},
                problems=(409,),
                idempotent=True,
                etag=True,
            ),
            Route("GET", one, self.get_user, "Get a user by id or e-mail", "users", admin, answers=_USER, etag=True),
            Route(
                "PUT",
                one,
                self.replace_user,
                "Replace a user",
                "users",
                admin,
                body=UserReplacement,
                answers=_USER,
                problems=(409,),
                etag=True,
            ),
            Route(
                "PATCH",
                one,
                self.change_user,
                "Change a user",
                "users",
                admin,
                body=UserPatch,
                answers=_USER,
                problems=(409,),
                merge_patch=True,
                etag=True,
                description="Deactivating, a new password and a lesser role end the user's tokens at once.",
            ),
            Route(
                "DELETE",
                one,
                self.remove_user,
                "Remove a user",
                "users",
                admin,
                answers={204: None},
                problems=(409,),
                etag=True,
            ),
        ]

    async def list_users(self, call: Call) -> Answer:
        query = call.query_as(ListQuery)
        users = await self._people.list_users(call.workspace, _after(query), query.limit + 1)
        page = page_of([_user_view(user) for user in users], query.limit, lambda user: encode_cursor(user.id))
        return Answer(page)

    async def create_user(self, call: Call) -> Answer:
        body = call.body_as(UserBody)
        if body.service is (body.password is not None):
            wrong = FieldError("password", "a person needs one, a service account has none", "one-way-in")
            raise Invalid("body-invalid", f"password: {wrong.message}.", errors=[wrong])
        password = body.password.get_secret_value() if body.password else None
        new = NewUser(body.email, body.name, password, body.role, body.active)
        user = await self._people.create_user(actor(call), call.workspace, new)
        return Answer(_user_view(user), status=201, headers={"Location": f"/api/users/{user.id}"}, etag=user.version)

    async def get_user(self, call: Call) -> Answer:
        return _user_answer(await self._people.get_user(call.workspace, call.path["user"]))

    async def replace_user(self, call: Call) -> Answer:
        body = call.body_as(UserReplacement)
        password = body.password.get_secret_value() if body.password else None
        return await self._change(call, Changes(body.email, body.name, body.active, body.role, password))

    async def change_user(self, call: Call) -> Answer:
        body = patch.apply(UserPatch, {}, call.body)
        password = body.password.get_secret_value() if body.password else None
        return await self._change(call, Changes(body.email, body.name, body.active, body.role, password))

    async def remove_user(self, call: Call) -> Answer:
        await self._people.remove_user(actor(call), call.workspace, call.path["user"], call.if_match)
        return Answer(status=204)

    async def _change(self, call: Call, changes: Changes) -> Answer:
        user = await self._people.change_user(actor(call), call.workspace, call.path["user"], changes, call.if_match)
        return _user_answer(user)


class WorkspacesApi:
    """The routes of workspaces and their members; the role that counts is the one in the workspace of the path."""

    def __init__(self, people: People) -> None:
        self._people = people

    def routes(self) -> list[Route]:
        return [*self._of_workspaces("/api/workspaces"), *self._of_members("/api/workspaces/{workspace}/members")]

    def _of_workspaces(self, path: str) -> list[Route]:
        own, tag = Permission.SELF, "workspaces"
        one = f"{path}/{{workspace}}"
        return [
            Route(
                "GET",
                path,
                self.list_workspaces,
                "List the workspaces you are a member of",
                tag,
                own,
                query=ListQuery,
                answers={200: Page[WorkspaceView]},
            ),
            Route(
                "POST",
                path,
                self.create_workspace,
                "Make a workspace",
                tag,
                Permission.IDENTITY_ADMIN,
                body=WorkspaceBody,
                answers={201: WorkspaceView},
                problems=(409,),
                idempotent=True,
                description="Who makes it is its admin; a refresh gives the token that says so.",
            ),
            Route("GET", one, self.get_workspace, "Get a workspace", tag, own, answers={200: WorkspaceView}),
        ]

    def _of_members(self, path: str) -> list[Route]:
        own, tag = Permission.SELF, "workspaces"
        member = f"{path}/{{user}}"
        return [
            Route(
                "GET",
                path,
                self.list_members,
                "List members",
                tag,
                own,
                query=ListQuery,
                answers={200: Page[MemberView]},
            ),
            Route(
                "POST",
                path,
                self.add_member,
                "Let an existing user in",
                tag,
                own,
                body=MemberBody,
                answers={201: MemberView},
                problems=(409,),
                idempotent=True,
            ),
            Route(
                "PUT",
                member,
                self.change_member,
                "Give a member another role",
                tag,
                own,
                body=RoleBody,
                answers={200: MemberView},
                problems=(409,),
            ),
            Route(
                "DELETE",
                member,
                self.remove_member,
                "Remove a member",
                tag,
                own,
                answers={204: None},
                problems=(409,),
            ),
        ]

    async def list_workspaces(self, call: Call) -> Answer:
        query, user_id = call.query_as(ListQuery), call.identity.user_id
        found = await self._people.list_workspaces(user_id, _after(query), query.limit + 1) if user_id else []
        views = [_workspace_view(workspace, role) for workspace, role in found]
        return Answer(page_of(views, query.limit, lambda workspace: encode_cursor(workspace.id)))

    async def create_workspace(self, call: Call) -> Answer:
        workspace = await self._people.create_workspace(actor(call), call.body_as(WorkspaceBody).name)
        headers = {"Location": f"/api/workspaces/{workspace.id}"}
        return Answer(_workspace_view(workspace, Role.ADMIN), status=201, headers=headers)

    async def get_workspace(self, call: Call) -> Answer:
        return Answer(_workspace_view(*await self._people.get_workspace(actor(call), call.path["workspace"])))

    async def list_members(self, call: Call) -> Answer:
        query = call.query_as(ListQuery)
        members = await self._people.list_members(
            administrator(call), call.path["workspace"], _after(query), query.limit + 1
        )
        views = [_member_view(member) for member in members]
        return Answer(page_of(views, query.limit, lambda member: encode_cursor(member.user_id)))

    async def add_member(self, call: Call) -> Answer:
        body = call.body_as(MemberBody)
        member = await self._people.add_member(administrator(call), call.path["workspace"], body.user, body.role)
        headers = {"Location": f"/api/workspaces/{member.workspace_id}/members/{member.user_id}"}
        return Answer(_member_view(member), status=201, headers=headers)

    async def change_member(self, call: Call) -> Answer:
        role = call.body_as(RoleBody).role
        member = await self._people.change_member(administrator(call), call.path["workspace"], call.path["user"], role)
        return Answer(_member_view(member))

    async def remove_member(self, call: Call) -> Answer:
        await self._people.remove_member(administrator(call), call.path["workspace"], call.path["user"])
        return Answer(status=204)


_USER: dict[int, type[BaseModel] | None] = {200: UserView}
_USERS: dict[int, type[BaseModel] | None] = {200: Page[UserView]}


def _after(query: ListQuery) -> UUID | None:
    if query.cursor is None:
        return None
    (after,) = decode_cursor(query.cursor, UUID)
    return UUID(str(after))


def _user_view(user: User) -> UserView:
    return UserView.model_validate(user, from_attributes=True)


def _user_answer(user: User) -> Answer:
    return Answer(_user_view(user), etag=user.version)


def _workspace_view(workspace: Workspace, role: Role) -> WorkspaceView:
    return WorkspaceView(
        id=workspace.id,
        name=workspace.name,
        role=role,
        created_at=workspace.created_at,
        created_by=workspace.created_by,
    )


def _member_view(member: Member) -> MemberView:
    return MemberView.model_validate(member, from_attributes=True)
