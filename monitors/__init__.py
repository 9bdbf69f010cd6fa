"""Monitors: what operators look at. `model` is a pure reducer, `plain` its text and JSON forms,
`command` the shell.
"""
