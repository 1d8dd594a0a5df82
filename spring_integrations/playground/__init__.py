"""A page in the browser to try virtual tokens on: one's own documents, two answers, and where they come from."""
