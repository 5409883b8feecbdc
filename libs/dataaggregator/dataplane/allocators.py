"""How the processes of a run ask the system for memory: what is freed goes back, and what is reserved is used."""

# glibc would keep eight arenas a core, each with what passing batches left in it: a run's size then grows for hours.
FRUGAL = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(8 << 20)}
# Arrow's own allocator reserves a GiB at its first use, which a limit on a process's data takes for used.
COUNTED = {**FRUGAL, "ARROW_DEFAULT_MEMORY_POOL": "system"}
