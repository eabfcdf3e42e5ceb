"""How fast brainhw is beside hand-written JAX and other libraries, on the same problems.

Every library lives in an environment of its own choice; ``--python`` names the interpreters::

    python -m benchmarks list --python snntorch,norse=ENV/bin/python
    python -m benchmarks agree --python ... --out agree.json
    python -m benchmarks run --python ... --out speed.json
    python -m benchmarks report speed.json --agree agree.json --markdown speed.md --figure speed.png

``cases`` says what is computed and ``contract`` what an adapter offers; ``adapters`` has one file for each library.
``worker`` is the process that measures (``measure``, ``memory``), ``runner`` starts one after the other, ``agreement``
compares results, ``report`` and ``figure`` show them. What workers import needs NumPy and nothing else, before the
library itself.
"""
