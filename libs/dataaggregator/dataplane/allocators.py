"""How the processes of a run ask the system for memory: not more than they use."""

import ctypes

import pyarrow as pa

# One arena: glibc would keep eight a core, each with what passing batches left in it. At its top 4 MiB lie free at
# most, not twice the largest block there ever was. Blocks of a batch are taken from it too: mapped each by itself
# they cost a tenth of the speed. An allocator that Arrow brings and we do not use starts a thread with it.
FRUGAL = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(4 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
# Arrow's own allocator reserves a GiB at its first use, which a limit on a process's data takes for used.
COUNTED = {**FRUGAL, "ARROW_DEFAULT_MEMORY_POOL": "system"}


def give_back() -> None:
    """Return what lies free to the system, at a moment when other work begins: it would ask for memory of its own."""
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
