"""One HTML page of all results, the paper's values beside ours: ``python -m experiments.report``.

``content`` defines a section and its parts, ``sections`` and the modules it imports fill them from
the stored results, ``plots`` draws, ``svg`` makes figures part of the page, and ``page`` renders
all sections into one file.
"""
