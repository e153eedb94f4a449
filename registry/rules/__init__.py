"""The rules that a fleet must keep (SPEC R3), one small function each; `registry/validator.py` lists them."""
