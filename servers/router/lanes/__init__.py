"""What the process has learnt about each model of a provider, and how much it is asked at once."""
