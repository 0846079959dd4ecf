"""A bundle's graphs taught to answer alike for an image and for a worse copy of it."""
