"""What the platform tells about itself: logs, traces, metrics."""
