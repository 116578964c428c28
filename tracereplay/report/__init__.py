"""Show a result: terminal table, JSON, CSV, report.html, pictures.

A reporter receives the frames of a result and its `run` dict; it never opens a trace.
"""
