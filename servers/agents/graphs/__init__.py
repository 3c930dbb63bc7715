"""What agents may do and what runs did, as nodes and edges, as text and as a picture."""
