"""How the bundled policy and process reward model were trained; needs torch and transformers, unlike the backend."""
