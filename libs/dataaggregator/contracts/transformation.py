"""Contracts: a transformation, saved under a name or written inline in a pipeline."""

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from dataaggregator.contracts.base import Name, Sent, Some
from dataaggregator.contracts.steps import Step

Inputs = Some[Name]


class TransformationDefinition(Sent):
    """Steps over one or several inputs; without `inputs` it takes the one before it."""

    name: Name
    inputs: Inputs | None = None
    steps: Annotated[Some[Step], Field(max_length=500)]

    @model_validator(mode="after")
    def _inputs_once(self) -> "TransformationDefinition":
        if self.inputs and len(set(self.inputs)) < len(self.inputs):
            raise PydanticCustomError("inputs", "each input is named once")
        return self
