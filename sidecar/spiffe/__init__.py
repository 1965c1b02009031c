"""Who is speaking: SPIFFE IDs, trust bundles and X.509-SVIDs, as values. Pure."""
