"""What more intermediate tasks bring."""
