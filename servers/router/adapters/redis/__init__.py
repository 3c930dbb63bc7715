"""What the replicas of a router share: spending and breakers, in Redis."""
