"""Measure the speed of brainhw, hand-written JAX and other libraries on the same problems.

Libraries may be installed in different environments. ``--python`` names the interpreters of these environments::

    python -m benchmarks list --python snntorch,norse=ENV/bin/python
    python -m benchmarks agree --python ... --out agree.json
    python -m benchmarks run --python ... --out speed.json
    python -m benchmarks report speed.json --agree agree.json --markdown speed.md --figure speed.png

``cases`` defines the problems, and ``contract`` defines the interface of an adapter. ``adapters`` has one file for each
library. ``runner`` starts one process after the other. Each process runs ``worker``, which measures with ``measure``
and ``memory``. ``agreement`` compares the results of the libraries. ``report`` and ``figure`` show the measurements. A
worker imports only NumPy before it imports the library.
"""
