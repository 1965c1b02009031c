"""What operators write: text to documents, documents to a snapshot."""
