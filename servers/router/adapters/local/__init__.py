"""The embedded model: llama.cpp in a process that this one owns."""
