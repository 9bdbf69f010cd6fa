"""Processes and libraries that read the multicast channels: the feed, and what is built upon it."""
