"""Who could answer a request, what is known of each, and who is asked first."""
