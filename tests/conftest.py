"""Settings of the whole suite: a property test says what is true, not how fast this machine is today."""

from hypothesis import settings

settings.register_profile("tapecast", deadline=None)
settings.load_profile("tapecast")
