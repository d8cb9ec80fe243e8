"""Shared by experiments and benchmarks: options, jobs, workloads, printed tables and records."""
