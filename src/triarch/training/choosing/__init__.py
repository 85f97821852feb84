"""Which mesh, remat policy and way of gathering parameters a run takes where it leaves them open ("auto")."""
