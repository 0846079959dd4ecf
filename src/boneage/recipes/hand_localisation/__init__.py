"""The network that finds the hand, trained from clustered masks."""
