"""The Python API: verbs as methods. Its public names are exported by `featureflow_cli` itself (docs/python.md)."""
