"""Error feedback, rotation and clipping of servers, before quantisation and after the switch."""
