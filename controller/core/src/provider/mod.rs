//! What a provider offers (NodeProvider, NodeType).
