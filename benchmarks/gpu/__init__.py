"""Everything that waits for a GPU, in stages of bounded time: ``python -m benchmarks.gpu``.

GPU.md, beside this folder, has the exact calls.
"""
