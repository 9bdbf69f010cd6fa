"""The one way in for every consumer: receive, sequence, keep books, hand out events. Scripts
import it as `tapecast.Feed`.
"""
