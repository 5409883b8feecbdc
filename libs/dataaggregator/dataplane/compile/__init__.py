"""Checks a definition before anything runs: names, graph, expressions; gives the plan or every wrong field."""

from dataaggregator.dataplane.compile.graph import compile_pipeline, compile_transformation, needs_sandbox
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.dataplane.compile.plan import DestinationNode, Plan, SourceNode, TransformNode

__all__ = [
    "DestinationNode",
    "Plan",
    "SourceNode",
    "TransformNode",
    "compile_pipeline",
    "compile_transformation",
    "needs_sandbox",
    "parameter_values",
]
