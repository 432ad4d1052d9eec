//! Turns an inventory into what is published: node labels, metric families, and which llm-d paths a node can serve.
//!
//! Pure functions of their arguments: no clock, no files, no errors. A fact that is not known becomes no label and no
//! series. Every label and every family stands in one table ([`labels::LABELS`], [`families::Family`]), from which
//! the documentation is generated as well.

pub mod compat;
pub mod condition;
pub mod families;
pub mod labels;
pub mod markdown;
pub mod offer;
pub mod paths;
pub mod rdma;
pub mod report;
pub mod series;
pub mod value;
pub mod vendors;
