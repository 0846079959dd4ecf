"""Paper 5: bone age classified into intervals by four architectures, and its age in months."""
