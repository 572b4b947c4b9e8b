//! Tables of the DHCP engine.
