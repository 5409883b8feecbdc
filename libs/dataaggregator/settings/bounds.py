"""Settings of what a workspace may take."""

from typing import Annotated

from pydantic import Field

from dataaggregator.settings.logins import LoginSettings


class BoundSettings(LoginSettings):
    """Besides the rates of its calls and the runs it may have at work."""

    workspace_definitions_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * 1024 * 1024,
        description="What one workspace may have stored of pipelines and transformations, every version counted, and "
        "as much again of connectors, bytes; 0 is no limit.",
    )
