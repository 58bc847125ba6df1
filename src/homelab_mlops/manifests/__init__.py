"""How a manifest is read: objects, quantities, schedules and networks. Every other room asks this one."""
