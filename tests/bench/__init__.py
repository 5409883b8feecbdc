"""The benchmarks: each job beside its limit, interleaved in the same run."""
