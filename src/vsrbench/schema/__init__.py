"""The settings of every command: kinds, choices, bounds, meaning, and which of them identify a run.

``sections`` and ``verbs`` state them as pydantic models, ``check`` and ``targets`` hold a configuration against them.
Defaults are in ``conf/``. Importing this loads no torch; the target of a node is imported when the node is checked.
"""
