"""What an operator looks at: what endpoints serve, who renews it, and what an admin has to know of it."""
