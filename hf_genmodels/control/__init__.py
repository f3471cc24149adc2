"""Control of trained models through their latents: searches, and images that explain measurements."""
