"""What another order, limit or prediction would have made of recorded traffic."""
