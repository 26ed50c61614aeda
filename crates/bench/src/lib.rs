//! Load generation and the floor of the machine
