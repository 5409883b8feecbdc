"""What the pipelines and transformations of a workspace come to, with every version that is kept of them."""

from dataaggregator.db.quota import Quota

_COUNTED = """
    SELECT ((SELECT coalesce(sum(bytes), 0) FROM scheduler.pipeline_versions WHERE workspace_id = $1)
        + (SELECT coalesce(sum(bytes), 0) FROM scheduler.transformation_versions WHERE workspace_id = $1))::bigint"""


def definitions_quota(most_bytes: int) -> Quota:
    """0 for none. The newest version is among those that are kept."""
    return Quota(most_bytes, "pipelines and transformations, with all their versions,", _COUNTED)


NO_QUOTA = definitions_quota(0)
