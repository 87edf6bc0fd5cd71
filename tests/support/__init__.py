"""What tests share: servers, clusters, terminals and small data sets."""
