"""Random models and damaged files against the compiler: ``python -m fcc.fuzz --minutes N --seed S``.

``generate`` draws a model, ``source`` runs it where its answers mean something, ``judge`` compiles it and says what is
wrong, ``shrink`` makes the model small, ``store`` keeps it as a text that the tests replay. ``damage`` breaks files and
``hostile`` holds the command line to its exit codes. See docs/fuzzing.md.
"""
