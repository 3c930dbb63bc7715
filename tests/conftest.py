"""What holds for all tests."""

from hypothesis import settings

# A busy machine is slow: how long an example takes says nothing about what is tested.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")
