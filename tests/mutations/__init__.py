"""Small bugs on purpose: each breaks a promise of the platform, and names the test that must turn red.

`catalogue/*.toml` is the list, `make mutants` puts a sample of it into a copy of the project, one bug at a
time.
"""
