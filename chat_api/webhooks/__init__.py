"""Events told to addresses of the customer's choice."""
