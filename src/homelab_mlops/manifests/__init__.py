"""How a manifest is read: objects, quantities, schedules and networks. Everyone who reads one asks here."""
