"""The life of the fleet: what runs inside supervisord, inside supervisorctl, and in the listener beside them."""
