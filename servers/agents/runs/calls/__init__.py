"""The tool calls of a run: made once, approved, handed to other agents, waited for."""
