"""From installed packages to one immutable registry and a plan: discover, assemble, select, plan."""
