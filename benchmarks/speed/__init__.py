"""Speed of brainhw, hand-written JAX and other libraries on the same problems.

Libraries may be in different environments; ``--python`` names the interpreters::

    python -m benchmarks list --python snntorch,norse=ENV/bin/python
    python -m benchmarks agree --python ... --out agree.json
    python -m benchmarks run --python ... --out speed.json
    python -m benchmarks report speed.json --agree agree.json --markdown speed.md --figure speed.png

``cases`` defines the problems and ``contract`` the interface of an adapter; ``adapters`` has one file for each library.
``worker`` is the process that measures (``measure``, ``memory``), ``runner`` starts one worker after the other,
``agreement`` compares results, ``report`` and ``figure`` show them. Before the library itself, workers import only
NumPy.
"""
