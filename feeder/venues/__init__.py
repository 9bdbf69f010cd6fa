"""Venues, one file each: a frozen `VENUE: feeder.venue.VenueSpec`."""
