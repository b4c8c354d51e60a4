"""Whether this project computes what released code computes: recordings of it, replayed tensor by tensor."""
