"""What the models of a run are shown besides its request: conversation, memories, knowledge."""
