"""job-ingest: takes jobs in, checks them, gives them their ids (spec 06, section 4)."""
