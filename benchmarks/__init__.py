"""Timings of this project beside other programs: ``python -m benchmarks.NAME [--quick]``.

``reduce`` times a reduction, ``step`` a training step, ``wire`` both over links of a given speed,
``onn_training`` hardware-aware training and ``decomposition`` the mapping of a matrix onto a mesh;
``mesh_oracles`` lets others' programs play the zoo's meshes. With ``--save``, the first four keep
their table and plot in ``benchmarks/results``. ``gpu`` runs all that waits for a GPU, see GPU.md.
"""
