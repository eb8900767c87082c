"""Small networks learnt from pairs of latent and picture."""
