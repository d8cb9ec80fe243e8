"""The paper's tables and figures, and studies of our own: ``python -m experiments.NAME``.

``demo`` trains through a trained ONN. ``table1``, ``table2``, ``fig6``, ``fig7a`` and ``fig7b`` put
the paper's numbers beside ours; ``cascade``, ``noise``, ``rounding`` and ``search`` measure what
the paper leaves open; ``report`` shows all results on one HTML page. Every module lists its options
with ``--help``: ``--results`` is the folder of data, provenance and plots (``runs/results``; only
``--record`` writes into ``experiments/results``, which the repository keeps), ``--runs`` the folder
of trainings.
"""
