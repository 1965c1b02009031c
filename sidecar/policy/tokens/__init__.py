"""JSON Web Tokens: where a call carries them, what makes one good, and what it then says."""
