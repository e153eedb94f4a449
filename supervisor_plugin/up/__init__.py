"""`postern up`: one command from a registry file to a healthy fleet, and back."""
