"""store, waiting: what waits, found group by group through the index: what that costs does not grow with the queue."""

# A group has one workspace, one priority and one combination of labels; each is found by the one before it, with the
# run of it that is due first. Runs that wait for a lane are not among them.
GROUPS = """
    waiting AS (
        (SELECT workspace_id, priority, runs_on, due_at FROM executor.runs WHERE status = 'queued' AND waits_for IS NULL
         ORDER BY workspace_id, priority, runs_on, due_at LIMIT 1)
        UNION ALL
        SELECT next.workspace_id, next.priority, next.runs_on, next.due_at FROM waiting CROSS JOIN LATERAL (
            SELECT r.workspace_id, r.priority, r.runs_on, r.due_at FROM executor.runs r
            WHERE r.status = 'queued' AND r.waits_for IS NULL
                AND (r.workspace_id, r.priority, r.runs_on) > (waiting.workspace_id, waiting.priority, waiting.runs_on)
            ORDER BY r.workspace_id, r.priority, r.runs_on, r.due_at LIMIT 1
        ) next
    )"""
