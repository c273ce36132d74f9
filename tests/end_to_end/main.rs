//! The whole path, with the real Envoy, the shipped module, the shipped configurations and the real rotation service.
//! Each test starts a stack of its own on free ports and leaves nothing behind.

mod corpus;
mod crossing;
mod demo;
mod hostile;
mod keys;
mod load;
mod metrics;
mod ocsf;
mod raw;
mod rotation;
mod startup;
mod support;
mod table;
