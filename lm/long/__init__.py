"""Long video: read in parts as it comes, and what the parts say brought together."""
