//! Tables of the TFTP engine.
