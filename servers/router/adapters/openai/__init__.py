"""OpenAI's API, and the servers that speak it: each with what it adds or leaves out."""
