"""What the connectors of a workspace come to, with their sealed secrets."""

from dataaggregator.db.quota import Quota

_COUNTED = """
    SELECT coalesce(sum(octet_length(c.config::text) + coalesce(s.bytes, 0)), 0)::bigint
    FROM connectors.connectors c LEFT JOIN LATERAL (
        SELECT sum(octet_length(sealed)) AS bytes FROM connectors.secrets WHERE connector_id = c.id) s ON true
    WHERE c.workspace_id = $1"""


def connectors_quota(most_bytes: int) -> Quota:
    """0 for none."""
    return Quota(most_bytes, "connectors", _COUNTED)


NO_QUOTA = connectors_quota(0)
